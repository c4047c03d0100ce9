"""Streams of frames in files: what `remotemedia record` writes and `remotemedia replay` reads.

    file     the 8 bytes "RMFRAMES", version (1), then records
    record   marker "FRM1", bytes of the header (u32), bytes of the payload (u64), CRC-32 of both (u32), little-endian;
             header:   msgpack map: "at_s", seconds since the recording began, and "value"
             payload:  the arrays of the value, each in numpy's own format (.npy), one after the other
    end      marker "END1" and the number of records (u64); missing if the recorder was killed

A value is plain data (None, bool, int, float, str, bytes, lists and dicts of these), an array, a typed frame with its
time stamp and metadata, or any nesting of these; tuples come back as lists. In the header an array is extension type 1
with its index (u32), a numpy scalar type 3 likewise, a typed frame type 2 with a map of its fields. There are no
pickles: a recording from anywhere can be read safely.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import msgspec
import numpy as np

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import AudioFrame, MediaFrame, TensorFrame, VideoFrame

MAGIC = b"RMFRAMES\x01"
_HEAD = struct.Struct("<4sIQI")
_END = struct.Struct("<4sQ")
_FRAME_MARK, _END_MARK = b"FRM1", b"END1"
_INDEX = struct.Struct("<I")
_ARRAY, _TYPED, _SCALAR = 1, 2, 3
_KINDS: dict[str, type[MediaFrame]] = {
    "audio": AudioFrame,
    "video": VideoFrame,
    "tensor": TensorFrame,
    "media": MediaFrame,
}
_MOST_HEADER_BYTES = 2**28

_logger = logging.getLogger("remotemedia.recording")


class RecordedFrame(NamedTuple):
    """One frame of a recording. `at_s`: seconds from the start of the recording until it was written."""

    at_s: float
    value: Any


class Recorder:
    """Writes frames to a file; a context manager. `frames`, `bytes`: written so far.

    Raises OSError if the file cannot be made or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.frames = 0
        self._file = Path(path).open("wb")  # noqa: SIM115 - closed by close()
        self.bytes = self._file.write(MAGIC)
        self._began = monotonic()

    def write(self, value: Any) -> None:
        """Append one frame. Raises ConfigurationError for a value that a recording cannot hold."""
        at_s = monotonic() - self._began
        try:
            taken = _Taken(value)
            header = msgspec.msgpack.encode({"at_s": at_s, "value": taken.plain})
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigurationError(
                f"frame {self.frames} cannot be recorded: {error}. A recording holds arrays, typed frames, and plain "
                "data around them: let the last node give such"
            ) from error
        size = sum(part.nbytes for part in taken.parts)
        crc = zlib.crc32(header)
        for part in taken.parts:
            crc = zlib.crc32(part, crc)
        parts: list[bytes | memoryview] = [_HEAD.pack(_FRAME_MARK, len(header), size, crc), header, *taken.parts]
        for data in parts:
            self.bytes += self._file.write(data)
        self.frames += 1

    def close(self) -> None:
        """Write the end, close the file. Idempotent."""
        if not self._file.closed:
            self.bytes += self._file.write(_END.pack(_END_MARK, self.frames))
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Recording:
    """The frames of a file, in order: `for at_s, value in Recording(path)`. May be iterated again.

    A recording whose recorder was killed ends after its last whole frame, with a warning in the log; `complete` is then
    False. Raises OSError if the file cannot be read, ConfigurationError if it is no recording or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.complete: bool | None = None
        """Whether the end was found, once the recording has been read."""
        if not is_recording(self.path):
            raise ConfigurationError(f"{self.path} is no recording: make one with `remotemedia record`")

    def __iter__(self) -> Iterator[RecordedFrame]:
        with self.path.open("rb") as file:
            file.seek(len(MAGIC))
            count = 0
            while (frame := self._next(file, count)) is not None:
                yield frame
                count += 1

    def _next(self, file: IO[bytes], count: int) -> RecordedFrame | None:
        mark = file.read(4)
        if mark == _END_MARK:
            self.complete = True
            return None
        rest = file.read(_HEAD.size - 4)
        if len(mark) < 4 or (mark == _FRAME_MARK and len(rest) < _HEAD.size - 4):  # noqa: PLR2004 - the mark's size
            self._note_cut_off(count)
            return None
        _, header_bytes, payload_bytes, crc = _HEAD.unpack(mark + rest) if mark == _FRAME_MARK else (b"", 0, 0, -1)
        left = self.path.stat().st_size - file.tell()
        if header_bytes > _MOST_HEADER_BYTES or crc == -1:
            raise self._damaged(count, "what begins there is no frame")
        if header_bytes + payload_bytes > left:
            self._note_cut_off(count)
            return None
        data = file.read(header_bytes + payload_bytes)
        if zlib.crc32(data) != crc:
            raise self._damaged(count, "its checksum is wrong")
        try:
            return _decoded(memoryview(data), header_bytes)
        except (ValueError, TypeError, KeyError, IndexError, struct.error) as error:
            raise self._damaged(count, str(error)) from error

    def _note_cut_off(self, count: int) -> None:
        self.complete = False
        _logger.warning("%s is cut off after %d whole frames: its recorder was killed", self.path, count)

    def _damaged(self, count: int, why: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path} is damaged at frame {count}: {why}; the frames before it are whole")


def is_recording(path: str | Path) -> bool:
    """Whether the file begins like a recording. Raises OSError if it cannot be read."""
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


# -- values ------------------------------------------------------------------------------------------------------------


class _Taken:
    """A value as plain data and extension values, and the arrays that were taken out of it."""

    def __init__(self, value: Any) -> None:
        self.parts: list[memoryview] = []
        self.plain = self._plain(value)

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, bytes, bytearray)):
            return value
        if isinstance(value, Mapping):
            return {key: self._plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._plain(item) for item in value]
        if isinstance(value, np.ndarray):
            return msgspec.msgpack.Ext(_ARRAY, self._put(value))
        if isinstance(value, np.generic):
            return msgspec.msgpack.Ext(_SCALAR, self._put(np.asarray(value)))
        if isinstance(value, MediaFrame):
            return msgspec.msgpack.Ext(_TYPED, msgspec.msgpack.encode(self._fields(value)))
        raise TypeError(f"it holds a {type(value).__name__}")

    def _fields(self, frame: MediaFrame) -> dict[str, Any]:
        kind = next(name for name, known in _KINDS.items() if isinstance(frame, known))
        given = {field.name: getattr(frame, field.name) for field in fields(_KINDS[kind])}
        given["time_base"] = [frame.time_base.numerator, frame.time_base.denominator]
        return {"kind": kind, **{name: self._plain(item) for name, item in given.items()}}

    def _put(self, array: np.ndarray[Any, Any]) -> bytes:
        file = io.BytesIO()
        np.lib.format.write_array(file, array, allow_pickle=False)
        self.parts.append(file.getbuffer())
        return _INDEX.pack(len(self.parts) - 1)


def _decoded(data: memoryview, header_bytes: int) -> RecordedFrame:
    payload = io.BytesIO(data[header_bytes:])
    arrays: list[np.ndarray[Any, Any]] = []
    while payload.tell() < len(data) - header_bytes:
        arrays.append(np.lib.format.read_array(payload, allow_pickle=False))

    def hook(code: int, content: memoryview) -> Any:
        if code == _ARRAY:
            return arrays[_INDEX.unpack(content)[0]]
        if code == _SCALAR:
            return arrays[_INDEX.unpack(content)[0]][()]
        if code == _TYPED:
            return _frame(msgspec.msgpack.decode(content, ext_hook=hook))
        raise ValueError(f"extension type {code} is unknown")

    header = msgspec.msgpack.decode(data[:header_bytes], ext_hook=hook)
    return RecordedFrame(float(header["at_s"]), header["value"])


def _frame(given: dict[str, Any]) -> MediaFrame:
    kind = _KINDS[given.pop("kind")]
    given["time_base"] = Fraction(*given["time_base"])
    if "dims" in given:
        given["dims"] = tuple(given["dims"])
    return kind(**given)
