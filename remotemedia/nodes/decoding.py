"""One opened media file: PyAV's frames in, typed frames out; media_io, which owns PyAV, hands it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from remotemedia.core.exceptions import NodeError
from remotemedia.core.frames import Array, AudioFrame, MediaFrame, VideoFrame

_HD_HEIGHT = 720  # from this height on, untagged video means BT.709 by convention
_BT709, _UNSPECIFIED = 1, 2  # as FFmpeg numbers colour spaces


class Decoder:
    """Decodes the first stream of each of `kinds`; every output array is made by `empty(shape, dtype)`."""

    def __init__(
        self, av: Any, node: str, container: Any, kinds: Sequence[str], pixel_format: str, empty: Callable[..., Array]
    ) -> None:
        """Raises NodeError if the file has none of the streams that are wanted."""
        self._av, self._node, self._container = av, node, container
        self._pixel_format, self._empty = pixel_format, empty
        self._streams = [stream for kind in kinds for stream in getattr(container.streams, kind)[:1]]
        if not self._streams:
            found = ", ".join(stream.type for stream in container.streams) or "nothing"
            raise NodeError(node, f"{container.name!r} has no {' or '.join(kinds)} stream (it has: {found})")
        for stream in self._streams:
            stream.thread_type = "AUTO"
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._resampler = av.AudioResampler(format="flt")

    def frames(self) -> Iterator[MediaFrame]:
        """All frames of the file, in the order of the file. Raises NodeError where it is damaged."""
        last_s: float | None = None
        try:
            for packet in self._container.demux(self._streams):
                for frame in packet.decode():
                    last_s = frame.time
                    yield from self._converted(frame, packet.stream)
            if any(stream.type == "audio" for stream in self._streams):
                yield from self._sound(None)
        except self._av.error.FFmpegError as error:
            where = "its start" if last_s is None else f"{last_s:.3f} s"
            raise NodeError(self._node, f"cannot decode {self._container.name!r} after {where}: {error}") from error

    def close(self) -> None:
        self._container.close()

    def _converted(self, frame: Any, stream: Any) -> Iterator[MediaFrame]:
        if stream.type == "audio":
            yield from self._sound(frame)
        else:
            yield self._picture(frame, stream.average_rate)

    def _picture(self, frame: Any, frame_rate: Any) -> VideoFrame:
        tag = int(frame.colorspace)
        hd = tag == _BT709 or (tag == _UNSPECIFIED and frame.height >= _HD_HEIGHT)
        colour_space = "ITU709" if hd else None  # None: as tagged where PyAV knows how, else BT.601
        if hd:
            frame.colorspace = _UNSPECIFIED  # before version 17, PyAV converts frames that carry a tag as BT.601
        converted = self._reformatter.reformat(frame, format=self._pixel_format, src_colorspace=colour_space)
        plane = converted.planes[0]
        channels = 1 if self._pixel_format == "gray" else 3
        shape = (frame.height, frame.width) if channels == 1 else (frame.height, frame.width, channels)
        out = self._empty(shape, np.uint8)
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # lines are padded to whole vectors
        np.copyto(out, lines[: frame.height, : frame.width * channels].reshape(shape))
        return VideoFrame(
            array=out,
            pts=frame.pts,
            time_base=frame.time_base,
            pixel_format=self._pixel_format,
            metadata={"frame_rate": frame_rate} if frame_rate else {},
        )

    def _sound(self, frame: Any) -> Iterator[AudioFrame]:
        """Any sample format as float32 (samples, channels); None gives what the converter still holds."""
        planar = frame is not None and frame.format.name == "fltp"
        for part in [frame] if planar else self._resampler.resample(frame):
            yield self._sound_frame(part, planar)

    def _sound_frame(self, part: Any, planar: bool) -> AudioFrame:
        # In a function of its own, because a generator that still holds what it has yielded costs a copy in a worker.
        out = self._empty((part.samples, part.layout.nb_channels), np.float32)
        if planar:
            for channel, plane in enumerate(part.planes):
                out[:, channel] = np.frombuffer(plane, np.float32, count=part.samples)
        else:
            flat = np.frombuffer(part.planes[0], np.float32, count=out.size)
            np.copyto(out, flat.reshape(out.shape))
        return AudioFrame(array=out, pts=part.pts, time_base=part.time_base, sample_rate=part.sample_rate)
