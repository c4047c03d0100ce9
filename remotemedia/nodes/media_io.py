"""Media files in and out through PyAV (extra [media]), and what a file holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remotemedia.core.exceptions import NodeError
from remotemedia.nodes.media_sink import FileSummary, MediaSink
from remotemedia.nodes.media_source import KINDS, MediaSource
from remotemedia.nodes.pyav import import_av, opened

__all__ = [
    "AudioFileSink", "AudioFileSource", "FileSummary", "MediaFileSink", "MediaFileSource", "StreamInfo",
    "VideoFileSink", "VideoFileSource", "probe",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """One stream of a file: `kind` "video" or "audio", its codec, and its length in seconds (None: not told)."""

    kind: str
    codec: str
    seconds: float | None
    details: str


def probe(path: str | os.PathLike[str]) -> tuple[StreamInfo, ...]:
    """What the file at `path` holds. Raises NodeError if it cannot be opened, ConfigurationError without PyAV.

    >>> [(stream.kind, stream.details) for stream in probe("clip.mp4")]
    [('video', '64x48 25 fps'), ('audio', '48000 Hz stereo')]
    """
    with opened("probe", os.fspath(path)) as container:
        return tuple(_info(stream) for kind in KINDS for stream in getattr(container.streams, kind))


def _info(stream: Any) -> StreamInfo:
    context = stream.codec_context
    seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
    if context is None:
        return StreamInfo(kind=stream.type, codec="unknown", seconds=seconds, details="no decoder in this FFmpeg")
    if stream.type == "video":
        rate = f" {float(stream.average_rate):g} fps" if stream.average_rate else ""
        details = f"{context.width}x{context.height}{rate}"
    else:
        details = f"{context.sample_rate} Hz {context.layout.name}"
    return StreamInfo(kind=stream.type, codec=context.name, seconds=seconds, details=details)


class MediaFileSource(MediaSource):
    """Decode the file at `path` into VideoFrames and AudioFrames; see MediaSource for shapes, options and errors.

    A kind that is left in but not in the file is an error only when the file has neither.

    >>> frames = run_pipeline([MediaFileSource("clip.mp4")])
    >>> sorted({type(frame).__name__ for frame in frames})
    ['AudioFrame', 'VideoFrame']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        video: bool = True,
        audio: bool = True,
        pixel_format: str = "rgb24",
        name: str | None = None,
        **options: Any,
    ) -> None:
        given = {"timeout_s": None, **options}
        super().__init__(path, video=video, audio=audio, pixel_format=pixel_format, name=name, **given)
        self.path = self.url
        kept = {key: value for key, value in self.config.items() if key in options}
        self.config = {"path": self.path, "video": video, "audio": audio, "pixel_format": pixel_format, **kept}


class VideoFileSource(MediaFileSource):
    """The pictures of a media file: VideoFrames, by default uint8 (height, width, 3); see MediaSource.

    >>> run_pipeline([VideoFileSource("clip.mp4", pixel_format="gray")])[0].array.shape
    (48, 64)
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, video=True, audio=False, **options)
        self.config = {k: v for k, v in self.config.items() if k not in KINDS}


class AudioFileSource(MediaFileSource):
    """The sound of a media file: AudioFrames, float32 (samples, channels) in -1..1; see MediaSource.

    >>> frame = run_pipeline([AudioFileSource("clip.mp4")])[0]
    >>> frame.array.shape, frame.array.dtype, frame.sample_rate
    ((1024, 2), dtype('float32'), 48000)
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, video=False, audio=True, **options)
        self.config = {k: v for k, v in self.config.items() if k not in KINDS}


class MediaFileSink(MediaSink):
    """Encode VideoFrames and AudioFrames into the file at `path`; the container follows from its suffix.

    As MediaSink, which see, and it says before it starts if the file cannot be written. If nothing arrives there is no
    file. `flush()` gives a FileSummary.

    >>> summary = run_pipeline([MediaFileSink("out.mp4", streams=("video",))], colour_bars(64, 48, fps=25, seconds=1))
    >>> summary[0].frames, summary[0].seconds, summary[0].streams
    (25, 1.0, ('video',))
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, **options)
        self.path = self.url
        self.config = {"path": self.config.pop("url"), **self.config}

    def initialize(self) -> None:
        """Check that the file can be written. Raises NodeError with the reason."""
        import_av()
        self._reset()
        folder = Path(self.path).absolute().parent
        if not folder.is_dir():
            raise NodeError(self.name, f"cannot write {self.path!r}: the folder {str(folder)!r} does not exist")
        writable = os.access(self.path if Path(self.path).exists() else folder, os.W_OK)
        if not writable or Path(self.path).is_dir():
            raise NodeError(self.name, f"cannot write {self.path!r}: it is a folder or not writable")


class VideoFileSink(MediaFileSink):
    """Pictures into a video file; other frames are ignored. See MediaSink.

    >>> run_pipeline([VideoFileSink("out.mp4", crf=30)], colour_bars(64, 48, fps=25, seconds=1))[0].frames
    25
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, streams=("video",), **options)
        self.config.pop("streams")


class AudioFileSink(MediaFileSink):
    """Sound into an audio file (.wav, .m4a, .mp3, .flac, .ogg …); other frames are ignored. See MediaSink.

    >>> run_pipeline([AudioFileSink("out.wav")], sine(440, seconds=0.5))[0].samples
    24000
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, streams=("audio",), **options)
        self.config.pop("streams")
