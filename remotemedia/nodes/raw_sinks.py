"""Raw pictures and samples into pipes: rawvideo and PCM, as ffmpeg and other programs read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from remotemedia.core.exceptions import NodeError
from remotemedia.core.frames import Array, AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.pixel_formats import pixel_format as known_format
from remotemedia.nodes.raw_pipes import SAMPLE_FORMATS, End, PipeNode


@dataclass(frozen=True, kw_only=True)
class PipeSummary:
    """What a raw sink wrote: `frames`, and `bytes`."""

    frames: int
    bytes: int


class _RawSink(PipeNode):
    _write = True

    def __init__(self, target: End, **config: Any) -> None:
        super().__init__(target, **config)
        self._frames = self._bytes = 0

    def initialize(self) -> None:
        """Begin anew; the pipe is opened with the first frame."""
        self._frames = self._bytes = 0

    def _put(self, array: Array) -> None:
        data = np.ascontiguousarray(array)
        self._opened().write(data.data.cast("B"))
        self._frames, self._bytes = self._frames + 1, self._bytes + data.nbytes

    def flush(self) -> PipeSummary:
        """End of the data: a command's stdin is closed and its end awaited. Raises NodeError if it failed."""
        if self._pipe is not None:
            self._pipe.finish(self.exit_timeout_s)
        summary = PipeSummary(frames=self._frames, bytes=self._bytes)
        self._frames = self._bytes = 0
        self.cleanup()
        return summary


class RawVideoSink(_RawSink):
    """Write the pictures' bytes without any header into a pipe: ffmpeg's `-f rawvideo`; other frames are ignored.

    `target`: a path, a descriptor, a binary file object, or a command whose stdin gets them (`["ffmpeg", "-f",
    "rawvideo", "-pix_fmt", "rgb24", "-s", "640x480", "-r", "30", "-i", "-", "out.mp4"]`). All pictures must have the
    size and pixel format of the first, and `pixel_format` if that is given. A file or named pipe is opened with the
    first picture. At the end of the stream a command's stdin is closed and it has `exit_timeout_s` to end; `flush()`
    gives a PipeSummary.

    Raises ConfigurationError for bad settings; NodeError for a picture of another size or format, what cannot be
    opened, a reader that went away, a command that failed or does not end; SerializationError when an open file is to
    travel.

    >>> file = io.BytesIO()
    >>> run_pipeline([RawVideoSink(file)], colour_bars(8, 4, fps=10, seconds=0.2))
    [PipeSummary(frames=2, bytes=192)]
    """

    def __init__(
        self,
        target: End,
        *,
        pixel_format: str | None = None,
        exit_timeout_s: float | None = 30.0,
        name: str | None = None,
        **options: Any,
    ) -> None:
        if pixel_format is not None:
            known_format(pixel_format)
        super().__init__(target, exit_timeout_s=exit_timeout_s, name=name, pixel_format=pixel_format, **options)
        self.pixel_format = pixel_format
        self._format: tuple[Any, ...] | None = None

    def initialize(self) -> None:
        """Begin anew; the pipe is opened with the first picture."""
        super().initialize()
        self._format = None

    def process(self, frame: MediaFrame) -> None:
        """Write one picture. Raises TypeError for what is no typed frame."""
        if not isinstance(frame, VideoFrame):
            if not isinstance(frame, MediaFrame):
                raise TypeError(f"{self.name} takes VideoFrames, not {type(frame).__name__}")
            return
        found = (frame.pixel_format, *known_format(frame.pixel_format).size(frame.array))
        first = self._format or (self.pixel_format or found[0], *found[1:])
        if found != first:
            raise NodeError(
                self.name,
                f"a {found[0]} picture of {found[1]}x{found[2]} cannot follow into a pipe of {first[0]}, "
                f"{first[1]}x{first[2]}; put Resize or ConvertPixelFormat before the sink",
            )
        self._format = first
        self._put(frame.array)


class RawAudioSink(_RawSink):
    """Write samples without any header into a pipe: ffmpeg's `-f s16le` and the like; other frames are ignored.

    `target` and `exit_timeout_s` as for RawVideoSink. Takes float32 or int16 (samples, channels) and writes
    `sample_format` ("s16le", "s32le", "f32le", "u8"), channels interleaved; floats beyond -1..1 are clipped in the
    integer formats. int16 through "s16le", and what was read from it, comes out sample by sample as it was.

    Raises ConfigurationError for bad settings; NodeError for sound of another rate or number of channels than the
    first, what cannot be opened, a reader that went away, a command that failed or does not end.

    >>> file = io.BytesIO()
    >>> sound = AudioFrame(array=np.array([[0.5], [-1.0], [2.0]], np.float32))
    >>> run_pipeline([RawAudioSink(file)], [sound])
    [PipeSummary(frames=1, bytes=6)]
    >>> np.frombuffer(file.getvalue(), "<i2").tolist()
    [16384, -32768, 32767]
    """

    def __init__(
        self,
        target: End,
        *,
        sample_format: str = "s16le",
        exit_timeout_s: float | None = 30.0,
        name: str | None = None,
        **options: Any,
    ) -> None:
        self._check(
            sample_format in SAMPLE_FORMATS, "sample_format", sample_format, f"one of {', '.join(SAMPLE_FORMATS)}"
        )
        super().__init__(target, exit_timeout_s=exit_timeout_s, name=name, sample_format=sample_format, **options)
        self.sample_format = sample_format
        self._format: tuple[int, int] | None = None

    def initialize(self) -> None:
        """Begin anew; the pipe is opened with the first sound."""
        super().initialize()
        self._format = None

    def process(self, frame: MediaFrame) -> None:
        """Write one frame of sound. Raises TypeError for what is no typed frame."""
        if not isinstance(frame, AudioFrame):
            if not isinstance(frame, MediaFrame):
                raise TypeError(f"{self.name} takes AudioFrames, not {type(frame).__name__}")
            return
        found = (frame.sample_rate, frame.channels)
        if found != (self._format or found):
            raise NodeError(
                self.name, f"sound of {found[0]} Hz and {found[1]} channels came after {self._format}; "
                "put Resample or ToMono before the sink",
            )  # fmt: skip
        self._format = found
        self._put(as_format(frame.array, SAMPLE_FORMATS[self.sample_format]))


def as_format(array: Array, dtype: np.dtype[Any]) -> Array:
    """float32 in -1..1 or int16 samples as another format, rounded and clipped."""
    if array.dtype == dtype or (array.dtype == np.int16 and dtype == SAMPLE_FORMATS["s16le"]):
        return array.astype(dtype, copy=False)
    samples = array.astype(np.float64) / 32768 if array.dtype == np.int16 else array.astype(np.float64)
    if dtype.kind == "f":
        return samples.astype(dtype)
    bits = dtype.itemsize * 8
    full = 2.0 ** (bits - 1)
    levels = np.clip(np.rint(samples * full), -full, full - 1)
    return (levels + (full if dtype.kind == "u" else 0)).astype(dtype)
