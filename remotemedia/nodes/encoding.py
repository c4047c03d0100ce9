"""One encoded stream of a media sink: frames in, PyAV packets out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from remotemedia.core.exceptions import NodeError
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.core.pixel_formats import pixel_format
from remotemedia.nodes.conversion import COLOUR_SPACES, as_picture, colour_space
from remotemedia.nodes.dsp import as_samples
from remotemedia.nodes.pyav import import_av

_FFMPEG_SPACES = {"bt601": 6, "bt709": 1}  # as FFmpeg numbers SMPTE 170M and BT.709
_CONSTANT_RATE = ("mpeg1video", "mpeg2video")  # these count in pictures and nothing finer
_RGB, _LIMITED, _FULL = 0, 1, 2  # FFmpeg's colour space of RGB, and its colour ranges
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_GAP_S = Fraction(1, 50)  # sound that comes later than this is preceded by silence; less is a container's rounding
_MAX_SILENCE_S = 3600


class Encoder(ABC):
    """Encodes one kind of frames; `count` pictures, or samples per channel, went in."""

    kind: ClassVar[str]

    def __init__(self, node: str, container: Any, codec: str | None, **options: Any) -> None:
        self.av, self.node, self.count = import_av(), node, 0
        self._stream = self._added(container, codec or self._default_codec(container), options)

    @classmethod
    def _default_codec(cls, container: Any) -> str:
        return str(getattr(container, f"default_{cls.kind}_codec"))

    def _added(self, container: Any, codec: str, options: dict[str, Any]) -> Any:
        if codec == "none":
            raise NodeError(self.node, f"a {container.format.name} file cannot hold {self.kind}; choose another suffix")
        try:
            return container.add_stream(codec, **options)
        except self.av.codec.codec.UnknownCodecError as error:
            raise NodeError(self.node, f"{self.kind}_codec={codec!r}: this FFmpeg has no such encoder") from error
        except ValueError as error:
            raise NodeError(self.node, f"{self.kind}_codec={codec!r}: {error}") from error

    @property
    @abstractmethod
    def seconds(self) -> float:
        """Length of what went in."""

    @abstractmethod
    def encode(self, frame: Any) -> list[Any]:
        """Packets that are ready after this frame. Raises NodeError if it cannot be encoded."""

    def drain(self) -> list[Any]:
        """The last packets."""
        return self._encoded(None)

    def _encoded(self, frame: Any) -> list[Any]:
        try:
            return list(self._stream.encode(frame))
        except (self.av.error.FFmpegError, ValueError) as error:
            raise NodeError(self.node, f"the {self._stream.name} encoder refused a frame: {error}") from error


class VideoEncoder(Encoder):
    """Pictures of any known pixel format, stored as `config["pixel_format"]` (default: yuv420p)."""

    kind = "video"

    def __init__(self, node: str, container: Any, first: VideoFrame, config: Mapping[str, Any]) -> None:
        self._size = (first.width, first.height)
        stored = pixel_format(config.get("pixel_format") or "yuv420p")
        self._check_size(node, first, stored.name)
        rate = config.get("frame_rate") or first.metadata.get("frame_rate") or 30
        self._rate = Fraction(rate).limit_denominator(1001)
        options = dict(config.get("codec_options") or {})
        if config.get("crf") is not None:
            options["crf"] = str(config["crf"])
        super().__init__(node, container, config.get("video_codec"), rate=self._rate, options=options)
        ticks_only = self._stream.codec_context.codec.name in _CONSTANT_RATE
        self._time_base = 1 / self._rate if first.pts is None or ticks_only else first.time_base
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = first.width, first.height, stored.name
        context.time_base = self._time_base
        self._space, self._format = colour_space(first.metadata, first.height), stored.name
        if stored.kind == "yuv":
            context.colorspace = _FFMPEG_SPACES[self._space]
            context.color_range = _FULL if stored.name.startswith("yuvj") else _LIMITED
        elif stored.kind == "rgb":
            context.colorspace, context.color_range = _RGB, _FULL
        self._reformatter = self.av.video.reformatter.VideoReformatter()
        self._first_pts: int | None = None
        self._last_pts: int | None = None

    @property
    def seconds(self) -> float:
        if self._first_pts is None or self._last_pts is None:
            return 0.0
        return float((self._last_pts - self._first_pts) * self._time_base + 1 / self._rate)

    def encode(self, frame: VideoFrame) -> list[Any]:
        if (frame.width, frame.height) != self._size:
            raise NodeError(
                self.node,
                f"a picture of {frame.width}x{frame.height} came after one of {self._size[0]}x{self._size[1]}; "
                f"put Resize({self._size[0]}, {self._size[1]}) before the sink",
            )
        try:
            picture = as_picture(frame)
        except ValueError as error:
            raise NodeError(self.node, str(error)) from error
        yuv = self._reformatter.reformat(
            picture,
            format=self._format,
            src_colorspace=COLOUR_SPACES[colour_space(frame.metadata, frame.height)],
            dst_colorspace=COLOUR_SPACES[self._space],
        )
        yuv.pts, yuv.time_base = self._pts(frame), self._time_base
        self.count += 1
        return self._encoded(yuv)

    @staticmethod
    def _check_size(node: str, first: VideoFrame, stored: str) -> None:
        across, down = pixel_format(stored).multiples()
        width, height = first.width // across * across, first.height // down * down
        if (width, height) != (first.width, first.height):
            needs = "even numbers" if (across, down) == (2, 2) else f"multiples of {across} and {down}"
            raise NodeError(
                node,
                f"pictures of {first.width}x{first.height} cannot be written as {stored}, which needs {needs}; "
                f"put Resize({width}, {height}) before the sink",
            )

    def _pts(self, frame: VideoFrame) -> int:
        if frame.pts is None:
            pts = 0 if self._last_pts is None else self._last_pts + round(1 / (self._rate * self._time_base))
        else:
            pts = round(frame.pts * frame.time_base / self._time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            raise NodeError(
                self.node,
                f"picture {self.count} is at {float(pts * self._time_base):.3f} s, not after the one before "
                f"({float(self._last_pts * self._time_base):.3f} s); pictures must arrive in order of their pts",
            )
        self._first_pts = pts if self._first_pts is None else self._first_pts
        self._last_pts = pts
        return pts


class AudioEncoder(Encoder):
    """Sound of any frame size; `count` includes silence that filled gaps."""

    kind = "audio"

    def __init__(self, node: str, container: Any, first: AudioFrame, config: Mapping[str, Any]) -> None:
        self._channels, self._sample_rate = first.channels, first.sample_rate
        self._layout = _LAYOUTS.get(first.channels, f"{first.channels} channels")
        super().__init__(node, container, config.get("audio_codec"), rate=first.sample_rate, layout=self._layout)
        rates = self._stream.codec_context.codec.audio_rates
        if rates and first.sample_rate not in rates:
            raise NodeError(
                node,
                f"the {self._stream.name} encoder cannot write {first.sample_rate} Hz (it can: "
                f"{', '.join(map(str, sorted(rates)))}); put Resample(...) before the sink",
            )
        if config.get("audio_bit_rate") is not None:
            self._stream.codec_context.bit_rate = config["audio_bit_rate"]
        self._start = self._position(first) or 0

    def _position(self, frame: AudioFrame) -> int | None:
        """Where the frame starts, in samples."""
        return None if frame.pts is None else round(frame.pts * frame.time_base * self._sample_rate)

    @property
    def seconds(self) -> float:
        return self.count / self._sample_rate

    def encode(self, frame: AudioFrame) -> list[Any]:
        if (frame.sample_rate, frame.channels) != (self._sample_rate, self._channels):
            raise NodeError(
                self.node,
                f"sound of {frame.sample_rate} Hz and {frame.channels} channels came after {self._sample_rate} Hz and "
                f"{self._channels} channels; put Resample({self._sample_rate}) or ToMono() before the sink",
            )
        samples = as_samples(frame.array)
        late = self._late(frame)
        if late < 0:
            samples = samples[-late:]  # it overlaps what has been written
        packets = self._write(np.zeros((late, self._channels), np.float32)) if late > 0 else []
        return packets + self._write(samples)

    def _late(self, frame: AudioFrame) -> int:
        """Samples missing between what has been written and this frame; negative if it overlaps."""
        position = self._position(frame)
        late = 0 if position is None else position - self._start - self.count
        if late > _MAX_SILENCE_S * self._sample_rate:
            seconds = late / self._sample_rate
            raise NodeError(self.node, f"sound jumps {seconds:.0f} s ahead (pts {frame.pts}); is its time base right?")
        return late if abs(late) > _GAP_S * self._sample_rate else 0

    def _write(self, samples: Any) -> list[Any]:
        if not len(samples):
            return []
        packed = np.ascontiguousarray(samples).reshape(1, -1)
        sound = self.av.AudioFrame.from_ndarray(packed, "flt", self._layout)
        sound.sample_rate, sound.pts = self._sample_rate, self._start + self.count
        sound.time_base = Fraction(1, self._sample_rate)
        self.count += len(samples)
        return self._encoded(sound)
