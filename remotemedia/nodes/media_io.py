"""Media files in and out through PyAV (extra [media]): decode into frames, encode frames into a file.

PyAV is imported in `initialize`, so in the process that runs the node; importing this module costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.node import Node
from remotemedia.nodes.decoding import Decoder
from remotemedia.nodes.encoding import AudioEncoder, Encoder, VideoEncoder

KINDS = ("video", "audio")


def import_av() -> Any:
    """PyAV. Raises ConfigurationError with the extra to install."""
    try:
        import av
    except ImportError as error:
        raise ConfigurationError("media files need PyAV: pip install 'remotemedia[media]'") from error
    return av


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """One stream of a file: `kind` "video" or "audio", its codec, and its length in seconds (None: not told)."""

    kind: str
    codec: str
    seconds: float | None
    details: str


def probe(path: str | os.PathLike[str]) -> tuple[StreamInfo, ...]:
    """What the file at `path` holds. Raises NodeError if it cannot be opened, ConfigurationError without PyAV."""
    with _opened(os.fspath(path), "probe") as container:
        return tuple(_info(stream) for kind in KINDS for stream in getattr(container.streams, kind))


def _info(stream: Any) -> StreamInfo:
    context = stream.codec_context
    if stream.type == "video":
        rate = f" {float(stream.average_rate):g} fps" if stream.average_rate else ""
        details = f"{context.width}x{context.height}{rate}"
    else:
        details = f"{context.sample_rate} Hz {context.layout.name}"
    seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
    return StreamInfo(kind=stream.type, codec=context.name, seconds=seconds, details=details)


def _opened(path: str, name: str) -> Any:
    av = import_av()
    try:
        return av.open(path)
    except (OSError, av.error.FFmpegError) as error:
        raise NodeError(name, f"cannot open {path!r}: {error.strerror or error}") from error


class MediaFileSource(Node):
    """Decode the file at `path` (or URL that FFmpeg opens) into VideoFrames and AudioFrames.

    Each kind comes in presentation order, the kinds interleaved as in the file, pts and time base as in the file.
    Pictures are uint8 (height, width, 3) in `pixel_format` ("rgb24", "bgr24"; "gray": (height, width)); sound is
    float32 (samples, channels) at the file's sample rate. `video=False` or `audio=False` leaves a kind out; a kind that
    is left in but not in the file is an error only when the file has neither. Pictures have metadata["frame_rate"] if
    the file tells it.
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
        if not (video or audio):
            raise ConfigurationError(f"{type(self).__name__}(video=False, audio=False): expected at least one of them")
        if pixel_format not in {"rgb24", "bgr24", "gray"}:
            raise ConfigurationError(f"pixel_format={pixel_format!r}: expected rgb24, bgr24 or gray")
        self.path = os.fspath(path)
        super().__init__(name, path=self.path, video=video, audio=audio, pixel_format=pixel_format, **options)
        self.kinds = tuple(kind for kind, wanted in zip(KINDS, (video, audio), strict=True) if wanted)
        self.pixel_format = pixel_format
        self._decoder: Decoder | None = None
        self._begun = False

    def initialize(self) -> None:
        """Open the file. Raises NodeError if it cannot be opened or has none of the streams that are wanted."""
        container = _opened(self.path, self.name)
        try:
            self._decoder = Decoder(import_av(), self.name, container, self.kinds, self.pixel_format, self.empty)
        except BaseException:
            container.close()
            raise
        self._begun = False

    def process(self) -> Iterator[MediaFrame]:  # type: ignore[override]  # a source takes nothing
        """All frames of the file, each time from its start. Raises NodeError where it is damaged."""
        if self._decoder is None or self._begun:
            self.cleanup()
            self.initialize()
        self._begun = True
        assert self._decoder is not None
        yield from self._decoder.frames()

    def cleanup(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()


class VideoFileSource(MediaFileSource):
    """The pictures of a media file; see MediaFileSource."""

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, video=True, audio=False, **options)
        self.config = {k: v for k, v in self.config.items() if k not in KINDS}


class AudioFileSource(MediaFileSource):
    """The sound of a media file; see MediaFileSource."""

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, video=False, audio=True, **options)
        self.config = {k: v for k, v in self.config.items() if k not in KINDS}


@dataclass(frozen=True, kw_only=True)
class FileSummary:
    """What a file sink wrote: `frames` pictures and `samples` per channel of sound, `seconds` long, `bytes` large."""

    path: str
    streams: tuple[str, ...]
    frames: int
    samples: int
    seconds: float
    bytes: int

    def __str__(self) -> str:
        streams = " and ".join(self.streams) or "nothing"
        return (
            f"{self.path}: {self.seconds:.2f} s of {streams}, {self.frames} pictures, {self.samples} samples, "
            f"{self.bytes / 1e6:.2f} MB"
        )


class MediaFileSink(Node):
    """Encode VideoFrames and AudioFrames into the file at `path`; the container follows from its suffix.

    Pictures: `video_codec` (default: H.264 for mp4), yuv420p, quality `crf` (0 best .. 51; x264 and x265). Sound:
    `audio_codec` (default: AAC for mp4; PCM for wav), `audio_bit_rate` bits/s. `codec_options` go to the video encoder
    ({"preset": "veryfast"}). Time stamps are kept, so sound and picture stay in sync; gaps in the sound are filled with
    silence. Frames without pts follow each other at `frame_rate` (default: the frames' metadata, else 30).

    A container's header must name all streams. `streams` (for example ("video", "audio")) says what to wait for; frames
    of other kinds are ignored. Without it, encoded packets are held until both kinds have been seen, for at most 10 s
    of media.

    `flush()` ends the file and gives a FileSummary; if nothing arrived there is no file. If the pipeline stops early,
    `cleanup()` ends the file, so that what was recorded can be played.
    """

    _HOLD_S = 10.0

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        streams: tuple[str, ...] | list[str] | None = None,
        video_codec: str | None = None,
        audio_codec: str | None = None,
        crf: int | None = None,
        audio_bit_rate: int | None = None,
        frame_rate: float | Fraction | None = None,
        codec_options: dict[str, str] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        self.path = os.fspath(path)
        if streams is not None and (not streams or not set(streams) <= set(KINDS)):
            raise ConfigurationError(f"streams={streams!r}: expected a non-empty subset of {KINDS}, or None")
        if frame_rate is not None and frame_rate <= 0:
            raise ConfigurationError(f"frame_rate={frame_rate!r}: expected frames per second, greater than 0")
        settings: dict[str, Any] = {
            "streams": None if streams is None else list(streams),
            "video_codec": video_codec,
            "audio_codec": audio_codec,
            "crf": crf,
            "audio_bit_rate": audio_bit_rate,
            "frame_rate": frame_rate,
            "codec_options": codec_options,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        super().__init__(name, path=self.path, **given, **options)
        self.streams = None if streams is None else tuple(streams)
        self._reset()

    def _reset(self) -> None:
        self._container: Any = None
        self._encoders: dict[str, Encoder] = {}
        self._held: list[Any] | None = []  # encoded packets that wait for the header; None once it is written

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

    def process(self, frame: MediaFrame) -> None:
        """Encode one frame. Raises TypeError for anything but typed frames, NodeError for what cannot be encoded."""
        kind = {VideoFrame: "video", AudioFrame: "audio"}.get(type(frame))
        if kind is None:
            raise TypeError(f"{self.name} takes VideoFrames and AudioFrames, not {type(frame).__name__}")
        if self.streams is not None and kind not in self.streams:
            return
        encoder = self._encoders.get(kind) or self._add(kind, frame)
        self._mux(encoder.encode(frame))

    def _add(self, kind: str, frame: MediaFrame) -> Encoder:
        if self._held is None:
            raise NodeError(
                self.name,
                f"{kind} arrived after {self._HOLD_S:g} s without any, when the file had been begun without it; "
                'say beforehand what comes: streams=("video", "audio")',
            )
        if self._container is None:
            self._container = self._open()
        make: Any = VideoEncoder if kind == "video" else AudioEncoder
        encoder: Encoder = make(import_av(), self.name, self._container, frame, self.config)
        self._encoders[kind] = encoder
        return encoder

    def _open(self) -> Any:
        av = import_av()
        try:
            return av.open(self.path, "w")
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise NodeError(self.name, f"cannot write {self.path!r}: {error}") from error

    def _mux(self, packets: list[Any]) -> None:
        if self._held is not None:
            self._held += packets
            if not self._ready():
                return
            packets, self._held = self._held, None
        av = import_av()
        try:
            self._container.mux(packets)
        except av.error.FFmpegError as error:
            raise NodeError(self.name, f"cannot write to {self.path!r}: {error}") from error

    def _ready(self) -> bool:
        """Whether all streams are known, or it is time to stop waiting for one that was not promised."""
        if set(self.streams or KINDS) == set(self._encoders):
            return True
        return self.streams is None and max(e.seconds for e in self._encoders.values()) > self._HOLD_S

    def flush(self) -> FileSummary:
        """Encode what the encoders hold back, end the file and say what was written."""
        encoders = dict(self._encoders)
        self._finish()
        return FileSummary(
            path=self.path,
            streams=tuple(kind for kind in KINDS if kind in encoders),
            frames=encoders["video"].count if "video" in encoders else 0,
            samples=encoders["audio"].count if "audio" in encoders else 0,
            seconds=max((e.seconds for e in encoders.values()), default=0.0),
            bytes=Path(self.path).stat().st_size if encoders else 0,
        )

    def _finish(self) -> None:
        if self._container is None:
            return
        try:
            for encoder in self._encoders.values():
                self._mux(encoder.drain())
            held, self._held = self._held or [], None
            self._container.mux(held)
        finally:
            container = self._container
            self._reset()
            container.close()

    def cleanup(self) -> None:
        self._finish()


class VideoFileSink(MediaFileSink):
    """Pictures into a video file; other frames are ignored. See MediaFileSink."""

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, streams=("video",), **options)
        self.config.pop("streams")


class AudioFileSink(MediaFileSink):
    """Sound into an audio file (.wav, .m4a, .mp3, .flac, .ogg …); other frames are ignored. See MediaFileSink."""

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, streams=("audio",), **options)
        self.config.pop("streams")
