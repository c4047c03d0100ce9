"""Objects as bytes: pickle protocol 5, arrays and other large buffers out of band. Pure.

Layout in a slot: the buffers, each on a 64-byte border, then the tail: a table of (offset, size) pairs and the pickle.
Decoding gives arrays that are views of the slot.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

import cloudpickle

from remotemedia.core.exceptions import SerializationError

_COUNT = struct.Struct("<Q")
_ENTRY = struct.Struct("<QQ")
_ALIGN = 64
ELSEWHERE = 2**64 - 1
"""In place of the offset of a buffer that does not lie in the slot."""


class Pickled:
    """A value taken apart: the pickle `stream` and the `buffers` that stay outside of it."""

    __slots__ = ("buffers", "stream")

    def __init__(self, stream: bytes, buffers: list[memoryview]) -> None:
        self.stream, self.buffers = stream, buffers


def pickled(value: Any) -> Pickled:
    """Pickle `value`; what plain pickle cannot name for another process (lambdas, `__main__`) goes by value.

    Raises SerializationError.
    """
    try:
        parts = _dump(pickle.dumps, value)
        if b"__main__" not in parts.stream:
            return parts
    except Exception:  # noqa: BLE001, S110 - whatever plain pickle cannot do, cloudpickle may
        pass
    try:
        return _dump(cloudpickle.dumps, value)
    except Exception as error:
        raise SerializationError(
            type(value).__qualname__,
            f"a frame of this type cannot be pickled: {error}",
            "send arrays, numbers, text, bytes, or containers and dataclasses of these",
        ) from error


def _dump(dumps: Any, value: Any) -> Pickled:
    buffers: list[pickle.PickleBuffer] = []
    stream: bytes = dumps(value, protocol=5, buffer_callback=buffers.append)
    return Pickled(stream, [buffer.raw() for buffer in buffers])


def entry_at(tail_at: int, index: int) -> int:
    """Where the table of a tail has the offset of a buffer."""
    return tail_at + _COUNT.size + index * _ENTRY.size


def place(sizes: list[int], start: int = 0) -> tuple[list[int], int]:
    """Offsets for buffers of these sizes from `start` on, and where the tail goes."""
    offsets = []
    position = start
    for size in sizes:
        position = aligned(position)
        offsets.append(position)
        position += size
    return offsets, aligned(position)


def aligned(position: int) -> int:
    """The next border where a buffer may begin."""
    return -(-position // _ALIGN) * _ALIGN


def tail_size(parts: Pickled) -> int:
    """Bytes of the table and the pickle."""
    return _COUNT.size + _ENTRY.size * len(parts.buffers) + len(parts.stream)


def write_tail(memory: memoryview, at: int, parts: Pickled, offsets: list[int]) -> None:
    """Write the table and the pickle into `memory` from `at` on."""
    _COUNT.pack_into(memory, at, len(offsets))
    at += _COUNT.size
    for offset, buffer in zip(offsets, parts.buffers, strict=True):
        _ENTRY.pack_into(memory, at, offset, buffer.nbytes)
        at += _ENTRY.size
    memory[at : at + len(parts.stream)] = parts.stream


def read(memory: memoryview, tail_at: int, tail: int, elsewhere: memoryview | None = None) -> Any:
    """The value again; its arrays are views of `memory` (read-only if that is), and one perhaps of `elsewhere`."""
    (count,) = _COUNT.unpack_from(memory, tail_at)
    at = tail_at + _COUNT.size
    buffers = []
    for _ in range(count):
        offset, size = _ENTRY.unpack_from(memory, at)
        if offset == ELSEWHERE and elsewhere is not None:
            buffers.append(elsewhere[:size])
        else:
            buffers.append(memory[offset : offset + size])
        at += _ENTRY.size
    return pickle.loads(memory[at : tail_at + tail], buffers=buffers)
