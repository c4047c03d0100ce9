"""The pipeline of the chaos run: frames of every kind and size, and four nodes whose outputs give away every mistake.

              ┌─ mirror ─┐
    scatter ──┤          ├── seal
              └─ tally ──┘

`scatter` is a generator (none to three outputs per input), `mirror` a coroutine that writes into shared memory, `tally`
and `seal` have state: what they give depends on every frame they ever saw, once, and on the order. So a frame that is
lost, doubled or overtaken changes all outputs after it.

Everything is computed from the seed and the frame's number: two runs give the same bytes.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.graph import Graph
from remotemedia.core.node import Node

SMALLEST_BYTES, LARGEST_BYTES = 64, 1024 * 1024
_ENVELOPE_BYTES = 4096
MOST_FRAME_BYTES = LARGEST_BYTES + _ENVELOPE_BYTES
"""No frame between the nodes takes more: the data, and what is around it."""

_DTYPES = ("u1", "i2", "u4", "i8", "f4", "f8", "c8", "?")
_STATE = struct.Struct("<QI")
_LABEL_BYTES = 16
"""What scatter and mirror leave at the start of an array: the number of its frame and of its part."""


def frame(seed: int, number: int, largest: int = LARGEST_BYTES) -> Any:
    """Frame `number`: an array, a dict with arrays, or bytes, of 64 to `largest` bytes, small ones as often as large.

    Whatever it is, the frame's number can be read off it (`label`).
    """
    dice = random.Random(f"{seed}:{number}")  # noqa: S311 - test data
    nbytes = round(SMALLEST_BYTES * (largest / SMALLEST_BYTES) ** dice.random())
    data = bytearray(np.random.default_rng((seed, number)).bytes(nbytes))
    data[:_LABEL_BYTES] = struct.pack("<QQ", number, 0)
    kind = dice.choices(("array", "dict", "bytes"), (6, 3, 1))[0]
    if kind == "bytes":
        return bytes(data)
    shaped = _shaped(data, dice)
    if kind == "array":
        return shaped
    return {"number": number, "data": shaped, "more": [shaped[:1].copy(), f"frame {number}"], "none": None}


def array(seed: int, number: int, largest: int) -> npt.NDArray[np.uint8]:
    """Random bytes of a random size, the same for the same seed and number."""
    dice = np.random.default_rng((seed, number))
    return np.frombuffer(dice.bytes(int(dice.integers(SMALLEST_BYTES, largest))), np.uint8)


def _shaped(data: bytearray, dice: random.Random) -> npt.NDArray[Any]:
    dtype = np.dtype(dice.choice(_DTYPES))
    if dtype.kind == "b":
        data[_LABEL_BYTES:] = bytes(byte & 1 for byte in data[_LABEL_BYTES : 2 * _LABEL_BYTES]).ljust(
            len(data) - _LABEL_BYTES, b"\1"
        )
    flat = np.frombuffer(data, dtype, count=len(data) // dtype.itemsize)
    columns = dice.choice([1, 1, 2, 3, 7])
    if columns == 1 or len(flat) % columns:
        return flat
    return flat.reshape(-1, columns)


def raw_bytes(value: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of an array, without a copy if it is contiguous."""
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)


def label(value: Any) -> tuple[int, int]:
    """(number of the frame, number of the part) of a frame, or of what scatter or mirror made of one."""
    if isinstance(value, dict):
        return value["number"], value.get("part", 0)
    raw = value[:_LABEL_BYTES] if isinstance(value, bytes) else raw_bytes(value)[:_LABEL_BYTES].tobytes()
    number, part = struct.unpack("<QQ", raw)
    return int(number), int(part)


def identity(number: int, sealed: Any) -> tuple[Any, ...]:
    """Which output of the pipeline this is, whatever the state in it: input, frame, part, and the way it went."""
    data = sealed[3]
    way = "tally" if isinstance(data, dict) and "check" in data else "mirror"
    return (number, *sealed[0], way)


def checksum(value: Any, start: int = 0) -> int:
    """CRC-32 of everything in `value`: types, shapes and bytes of arrays, keys, numbers, texts."""
    if isinstance(value, np.ndarray):
        head = f"{value.dtype.str}{value.shape}".encode()
        return zlib.crc32(raw_bytes(value).data, zlib.crc32(head, start))
    if isinstance(value, dict):
        for key, item in value.items():
            start = checksum(item, zlib.crc32(repr(key).encode(), start))
        return start
    if isinstance(value, (list, tuple)):
        for item in value:
            start = checksum(item, start)
        return zlib.crc32(b"end", start)
    return zlib.crc32(value if isinstance(value, bytes) else repr(value).encode(), start)


class Scatter(Node):
    """Each frame as it is, changed, and as a dict: none to three parts, by its number."""

    def process(self, data: Any) -> Iterator[Any]:
        number, _ = label(data)
        if number % 4 > 0:
            yield data
        if number % 4 > 1:
            yield self._second(data, number)
        if number % 4 > 2:  # noqa: PLR2004 - the third of three parts
            yield {"number": number, "part": 2, "data": data}

    def _second(self, data: Any, number: int) -> Any:
        if not isinstance(data, np.ndarray):
            return {"number": number, "part": 1, "size": len(data)}
        out = self.empty_like(data)
        np.copyto(out, data)
        raw_bytes(out)[8:_LABEL_BYTES] = np.frombuffer(struct.pack("<Q", 1), np.uint8)
        return out


class Mirror(Node):
    """Inverts every bit behind the label of an array, straight into shared memory; the rest passes through."""

    async def process(self, data: Any) -> Any:
        if not isinstance(data, np.ndarray):
            return data
        out = self.empty_like(data)
        source, target = raw_bytes(data), raw_bytes(out)
        target[:_LABEL_BYTES] = source[:_LABEL_BYTES]
        np.invert(source[_LABEL_BYTES:], out=target[_LABEL_BYTES:])
        del source, target  # whoever still holds the array makes its sending a copy
        return out


class Running(Node):
    """Base of the nodes with state: how many values there were, and a checksum over all of them."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.count = self.check = 0

    def add(self, value: Any) -> None:
        """Take `value` into the state."""
        self.count += 1
        self.check = checksum(value, self.check)

    def snapshot_state(self) -> bytes:
        """All that a next generation must know."""
        return _STATE.pack(self.count, self.check)

    def restore_state(self, data: memoryview) -> None:
        """The opposite."""
        self.count, self.check = _STATE.unpack(data)


class Tally(Running):
    """For each value what the state is after it; at the end, the state."""

    def process(self, data: Any) -> dict[str, Any]:
        self.add(data)
        number, part = label(data)
        return {"number": number, "part": part, "count": self.count, "check": self.check}

    def flush(self) -> dict[str, Any]:
        return {"number": -1, "part": 0, "count": self.count, "check": self.check}


class Seal(Running):
    """Every value with its label and the state after it."""

    def process(self, data: Any) -> tuple[tuple[int, int], int, int, Any]:
        self.add(data)
        return label(data), self.count, self.check, data


def graph() -> Graph:
    """The pipeline, with new nodes."""
    nodes = (Scatter("scatter"), Mirror("mirror"), Tally("tally"), Seal("seal"))
    return Graph(nodes, tuple(node.name for node in nodes), ((0, 1), (0, 2), (1, 3), (2, 3)))
