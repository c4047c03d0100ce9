"""Raw pictures and samples from pipes: rawvideo and PCM, as ffmpeg and other programs write them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import Array, AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.node import Node
from remotemedia.core.pixel_formats import pixel_format as known_format
from remotemedia.nodes.pipe_ends import PipeEnd, check_portable, checked_end

End = str | os.PathLike[str] | int | BinaryIO | Sequence[str]

# FFmpeg's names; the largest value of an integer format, plus one, is full scale.
SAMPLE_FORMATS: dict[str, np.dtype[Any]] = {
    "s16le": np.dtype("<i2"),
    "s32le": np.dtype("<i4"),
    "f32le": np.dtype("<f4"),
    "u8": np.dtype("u1"),
}


class PipeNode(Node):
    """Owns one end of a pipe while it runs."""

    _write = False

    def __init__(self, end: End, *, exit_timeout_s: float | None, name: str | None, **config: Any) -> None:
        self.end = checked_end(type(self).__name__, end, "write" if self._write else "read")
        self._check(
            exit_timeout_s is None or exit_timeout_s > 0, "exit_timeout_s", exit_timeout_s, "seconds, more than 0"
        )
        super().__init__(name, exit_timeout_s=exit_timeout_s, **config)
        self.config = {("target" if self._write else "source"): self.end, **self.config}
        self.exit_timeout_s = exit_timeout_s
        self._pipe: PipeEnd | None = None

    def _check(self, condition: bool, setting: str, value: object, expected: str) -> None:
        if not condition:
            raise ConfigurationError(f"{type(self).__name__}({setting}={value!r}): expected {expected}")

    def _opened(self) -> PipeEnd:
        if self._pipe is None:
            self._pipe = PipeEnd(self.name, self.end, write=self._write)
        return self._pipe

    def cleanup(self) -> None:
        """Close what was opened here; a command that still runs is killed."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def __getstate__(self) -> dict[str, Any]:
        check_portable(self.end)
        return {**super().__getstate__(), "_pipe": None}


class _RawSource(PipeNode):
    def process(self) -> Iterator[MediaFrame]:  # type: ignore[override]  # a source takes nothing
        """Frames until the end of the pipe. Raises NodeError for a frame that is cut off and a command that failed."""
        pipe, number = self._opened(), 0
        while True:
            array = self._array()
            got = pipe.read_into(array.data.cast("B"))
            if got < array.nbytes:
                break
            number += 1
            yield self._frame(array, number)
            del array  # what is held after it was given costs a copy
        pipe.finish(self.exit_timeout_s)
        yield from self._rest(array, got, number)
        self.cleanup()

    def _array(self) -> Array:
        raise NotImplementedError

    def _frame(self, array: Array, number: int) -> MediaFrame:
        raise NotImplementedError

    def _rest(self, array: Array, got: int, number: int) -> Iterator[MediaFrame]:
        raise NotImplementedError


class RawVideoSource(_RawSource):
    """Read pictures of `width` x `height` without any header from a pipe: ffmpeg's `-f rawvideo`.

    `source`: a path (a file or a named pipe), a descriptor, a binary file object, or a command whose stdout is read
    (`["ffmpeg", "-i", "in.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]`). It is opened when the stream begins.
    Gives VideoFrames in `pixel_format` ("rgb24": uint8 (height, width, 3)), read right into the outgoing memory, with
    pts counting pictures in 1/`frame_rate` s and metadata["frame_rate"].

    Files and descriptors that you opened stay open, and stay in your process: such a node does not travel to a worker.
    A command gets no stdin; it is killed if the stream is left early, and its failure is an error with what it said,
    after `exit_timeout_s` at the latest. One that a killed worker leaves behind ends when it writes to its closed pipe.

    Raises ConfigurationError for bad settings; NodeError for what cannot be opened, a picture that is cut off, a
    command that failed or does not end; SerializationError when an open file is to travel.

    >>> pictures = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    >>> frames = run_pipeline([RawVideoSource(io.BytesIO(pictures.tobytes()), 6, 4, frame_rate=25)])
    >>> frames[1].array.shape, frames[1].time_s, bool((frames[1].array == pictures[1]).all())
    ((4, 6, 3), 0.04, True)
    """

    def __init__(
        self,
        source: End,
        width: int,
        height: int,
        *,
        pixel_format: str = "rgb24",
        frame_rate: float | Fraction = 30,
        exit_timeout_s: float | None = 30.0,
        name: str | None = None,
        **options: Any,
    ) -> None:
        self._check(frame_rate > 0, "frame_rate", frame_rate, "pictures per second, more than 0")
        try:
            self._shape = known_format(pixel_format).shape(width, height)
        except ValueError as error:
            raise ConfigurationError(f"{type(self).__name__}: {error}") from error
        super().__init__(
            source, exit_timeout_s=exit_timeout_s, name=name,
            width=width, height=height, pixel_format=pixel_format, frame_rate=frame_rate, **options,
        )  # fmt: skip
        self.pixel_format, self.frame_rate = pixel_format, Fraction(frame_rate).limit_denominator(1001)

    def _array(self) -> Array:
        return self.empty(self._shape, known_format(self.pixel_format).dtype)

    def _frame(self, array: Array, number: int) -> VideoFrame:
        return VideoFrame(
            array=array, pts=number - 1, time_base=1 / self.frame_rate, pixel_format=self.pixel_format,
            metadata={"frame_rate": self.frame_rate},
        )  # fmt: skip

    def _rest(self, array: Array, got: int, number: int) -> Iterator[VideoFrame]:
        if got:
            raise NodeError(
                self.name,
                f"the data ended within picture {number}: {got} of {array.nbytes} bytes; are width, height and "
                f"pixel_format={self.pixel_format!r} right?",
            )
        yield from ()


class RawAudioSource(_RawSource):
    """Read samples without any header from a pipe: ffmpeg's `-f s16le` and the like; channels are interleaved.

    `source` and `exit_timeout_s` as for RawVideoSource. `sample_format`: "s16le", "s32le", "f32le" or "u8". Gives
    AudioFrames of `frame_samples` (default: 20 ms; the last may be shorter), with pts counting samples: "s16le" as
    int16 and "f32le" as float32, both read right into the outgoing memory; the others as float32 in -1..1.

    Raises ConfigurationError for bad settings; NodeError for what cannot be opened, data that end within a sample, a
    command that failed or does not end; SerializationError when an open file is to travel.

    >>> samples = np.arange(2000, dtype="<i2").reshape(1000, 2)
    >>> source = RawAudioSource(io.BytesIO(samples.tobytes()), sample_rate=16_000, channels=2)
    >>> frames = run_pipeline([source])
    >>> [len(frame.array) for frame in frames], frames[1].time_s, frames[0].array.dtype
    ([320, 320, 320, 40], 0.02, dtype('int16'))
    """

    def __init__(
        self,
        source: End,
        *,
        sample_rate: int = 48_000,
        channels: int = 1,
        sample_format: str = "s16le",
        frame_samples: int | None = None,
        exit_timeout_s: float | None = 30.0,
        name: str | None = None,
        **options: Any,
    ) -> None:
        for setting, value in (("sample_rate", sample_rate), ("channels", channels)):
            self._check(isinstance(value, int) and value >= 1, setting, value, "a number, 1 or more")
        self._check(frame_samples is None or frame_samples >= 1, "frame_samples", frame_samples, "1 or more, or None")
        self._check(
            sample_format in SAMPLE_FORMATS, "sample_format", sample_format, f"one of {', '.join(SAMPLE_FORMATS)}"
        )
        super().__init__(
            source, exit_timeout_s=exit_timeout_s, name=name, sample_rate=sample_rate, channels=channels,
            sample_format=sample_format, frame_samples=frame_samples, **options,
        )  # fmt: skip
        self.sample_rate, self.channels, self.sample_format = sample_rate, channels, sample_format
        self.frame_samples = frame_samples or max(1, round(sample_rate / 50))

    def _array(self) -> Array:
        shape, dtype = (self.frame_samples, self.channels), SAMPLE_FORMATS[self.sample_format]
        return self.empty(shape, dtype) if dtype.kind == "f" or dtype.itemsize == 2 else np.empty(shape, dtype)  # noqa: PLR2004 - int16

    def _frame(self, array: Array, number: int) -> AudioFrame:
        return self._sound(array, (number - 1) * self.frame_samples)

    def _sound(self, array: Array, position: int) -> AudioFrame:
        samples = array
        if array.dtype.kind == "u":
            samples = self.empty(array.shape, np.float32)
            np.multiply(np.subtract(array, 128, dtype=np.float32), np.float32(1 / 128), out=samples)
        elif array.dtype.itemsize == 4 and array.dtype.kind == "i":  # noqa: PLR2004 - int32
            samples = self.empty(array.shape, np.float32)
            np.multiply(array, 2.0**-31, out=samples, casting="unsafe")
        return AudioFrame(
            array=samples, pts=position, time_base=Fraction(1, self.sample_rate), sample_rate=self.sample_rate
        )

    def _rest(self, array: Array, got: int, number: int) -> Iterator[AudioFrame]:
        size = self.channels * array.dtype.itemsize
        if got % size:
            raise NodeError(
                self.name,
                f"the data ended within a sample: {got % size} of {size} bytes; are channels={self.channels} and "
                f"sample_format={self.sample_format!r} right?",
            )
        if got:
            yield self._sound(array[: got // size], number * self.frame_samples)
