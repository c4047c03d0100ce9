"""Media out through PyAV (extra [media]): typed frames encoded into files and network streams."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.node import Node
from remotemedia.core.pixel_formats import pixel_format as known_format
from remotemedia.nodes.encoding import AudioEncoder, Encoder, VideoEncoder
from remotemedia.nodes.media_source import KINDS
from remotemedia.nodes.pyav import import_av, opened


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


class MediaSink(Node):
    """Encode VideoFrames and AudioFrames into what is at `url`: a file, a network address (udp, tcp, rtmp, rtsp …).

    Takes pictures in any format of `remotemedia.core.pixel_formats` and float32 or int16 sound (samples, channels).
    The container follows from the suffix, or is `format` (FFmpeg's name: "mpegts", "rtsp", "flv"); `options` go to it.

    Pictures: `video_codec` (default: H.264 for mp4), stored as `pixel_format`, quality `crf` (0 best .. 51; x264 and
    x265). Sound: `audio_codec` (default: AAC for mp4; PCM for wav), `audio_bit_rate` bits/s. `codec_options` go to the
    video encoder ({"preset": "veryfast"}). Time stamps are kept, so sound and picture stay in sync; gaps in the sound
    are filled with silence. Frames without pts follow each other at `frame_rate` (default: the frames' metadata, else
    30). `timeout_s`: how long opening a network address may take.

    A container's header must name all streams. `streams` (for example ("video", "audio")) says what to wait for; frames
    of other kinds are ignored. Without it, encoded packets are held until both kinds have been seen, for at most 10 s
    of media.

    `flush()` ends it and gives a FileSummary. If the pipeline stops early, `cleanup()` ends it, so that what was
    recorded can be played.

    Raises ConfigurationError for bad settings and without PyAV, NodeError if it cannot be opened or written or a frame
    cannot be encoded, TypeError for anything but typed pictures and sounds.

    >>> pictures = colour_bars(64, 48, fps=25, seconds=1)
    >>> summary = run_pipeline([MediaSink("out.ts", format="mpegts", streams=("video",))], pictures)[0]
    >>> summary.frames, summary.seconds
    (25, 1.0)
    """

    _HOLD_S = 10.0

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 - as FFmpeg calls it
        options: Mapping[str, Any] | None = None,
        streams: tuple[str, ...] | list[str] | None = None,
        video_codec: str | None = None,
        audio_codec: str | None = None,
        crf: int | None = None,
        audio_bit_rate: int | None = None,
        frame_rate: float | Fraction | None = None,
        codec_options: dict[str, str] | None = None,
        pixel_format: str = "yuv420p",
        timeout_s: float | None = None,
        name: str | None = None,
        **node_options: Any,
    ) -> None:
        self.url = os.fspath(url)
        known_format(pixel_format)
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
            "pixel_format": None if pixel_format == "yuv420p" else pixel_format,
            "format": format,
            "options": dict(options) if options else None,
            "timeout_s": timeout_s,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        super().__init__(name, url=self.url, **given, **node_options)
        self.streams = None if streams is None else tuple(streams)
        self._reset()

    def _reset(self) -> None:
        self._container: Any = None
        self._encoders: dict[str, Encoder] = {}
        self._bytes = 0
        self._held: list[Any] | None = []  # encoded packets that wait for the header; None once it is written

    def initialize(self) -> None:
        """Begin anew. Raises ConfigurationError without PyAV."""
        import_av()
        self._reset()

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
        encoder: Encoder = make(self.name, self._container, frame, self.config)
        self._encoders[kind] = encoder
        return encoder

    def _open(self) -> Any:
        return opened(
            self.name,
            self.url,
            "w",
            media_format=self.config.get("format"),
            options=self.config.get("options"),
            timeout_s=self.config.get("timeout_s"),
        )

    def _mux(self, packets: list[Any]) -> None:
        if self._held is not None:
            self._held += packets
            if not self._ready():
                return
            packets, self._held = self._held, None
        av = import_av()
        self._bytes += sum(packet.size for packet in packets)
        try:
            self._container.mux(packets)
        except av.error.FFmpegError as error:
            raise NodeError(self.name, f"cannot write to {self.url!r}: {error}") from error

    def _ready(self) -> bool:
        """Whether all streams are known, or it is time to stop waiting for one that was not promised."""
        if set(self.streams or KINDS) == set(self._encoders):
            return True
        return self.streams is None and max(e.seconds for e in self._encoders.values()) > self._HOLD_S

    def flush(self) -> FileSummary:
        """Encode what the encoders hold back, end the file and say what was written."""
        encoders = dict(self._encoders)
        size = self._finish()
        return FileSummary(
            path=self.url,
            streams=tuple(kind for kind in KINDS if kind in encoders),
            frames=encoders["video"].count if "video" in encoders else 0,
            samples=encoders["audio"].count if "audio" in encoders else 0,
            seconds=max((e.seconds for e in encoders.values()), default=0.0),
            bytes=Path(self.url).stat().st_size if encoders and Path(self.url).is_file() else size,
        )

    def _finish(self) -> int:
        """End it; how many bytes of media were written."""
        if self._container is None:
            return 0
        try:
            for encoder in self._encoders.values():
                self._mux(encoder.drain())
            held, self._held = self._held or [], None
            self._mux(held)
            return self._bytes
        finally:
            container = self._container
            self._reset()
            container.close()

    def cleanup(self) -> None:
        self._finish()
