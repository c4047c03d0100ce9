"""One opened medium: PyAV's frames in, typed frames out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from time import monotonic
from typing import Any

import numpy as np

from remotemedia.core.exceptions import NodeError
from remotemedia.core.frames import Array, AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.pixel_formats import pixel_format
from remotemedia.nodes.conversion import COLOUR_SPACES, colour_space, copy_planes
from remotemedia.nodes.pyav import import_av

_BT709, _UNSPECIFIED = 1, 2  # as FFmpeg numbers colour spaces
_MOST_DAMAGED = 500  # packets in a row: what never can be decoded is an error in a live stream as well


class Decoder:
    """Decodes one stream of each kind; every output array is made by `empty(shape, dtype)`.

    `streams`: kind ("video", "audio") → which stream of that kind. `start_s`: the time in seconds that the first frame
    shall have, all others in step (None: as in the medium); `metadata` is added to that of every frame. `tolerant`:
    packets that cannot be decoded are left out and counted in `damaged`, as live streams need: one may join them in the
    middle of a picture, and the network loses some.
    """

    def __init__(
        self,
        node: str,
        container: Any,
        streams: Mapping[str, int],
        picture_format: str,
        empty: Callable[..., Array],
        *,
        start_s: Fraction | None = None,
        metadata: Mapping[str, Any] | None = None,
        tolerant: bool = False,
    ) -> None:
        """Raises NodeError if there is no such stream, or no decoder for it."""
        self._av, self._node, self._container, self._empty = import_av(), node, container, empty
        self._format, self._start_s, self._metadata = pixel_format(picture_format), start_s, dict(metadata or {})
        self._offset_s: Fraction | None = Fraction(0) if start_s is None else None  # None: not known yet
        self.last_s: Fraction | None = None
        """When the last frame begins, in seconds."""
        self.last_at = monotonic()
        """When it was decoded, by the clock of this machine."""
        self._tolerant, self.damaged, self._in_a_row = tolerant, 0, 0
        self._streams = self._chosen(streams)
        for stream in self._streams:
            stream.thread_type = "AUTO"
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._resampler = self._av.AudioResampler(format="flt")

    def _chosen(self, wanted: Mapping[str, int]) -> list[Any]:
        there = {kind: list(getattr(self._container.streams, kind)) for kind in wanted}
        found = ", ".join(stream.type for stream in self._container.streams) or "nothing"
        if not any(there.values()):
            raise NodeError(
                self._node, f"{self._container.name!r} has no {' or '.join(wanted)} stream (it has: {found})"
            )
        for kind, number in wanted.items():
            if number and number >= len(there[kind]):
                raise NodeError(
                    self._node, f"{self._container.name!r} has no {kind} stream number {number} (it has: {found})"
                )
        chosen = [there[kind][number] for kind, number in wanted.items() if there[kind]]
        for stream in chosen:
            if stream.codec_context is None:
                raise NodeError(
                    self._node,
                    f"this FFmpeg has no decoder for {stream.type} stream {stream.index} of {self._container.name!r}; "
                    f"leave it out ({stream.type}=False), or use a PyAV that is built with it",
                )
        return chosen

    def frames(self) -> Iterator[MediaFrame]:
        """All frames, in the order of the medium. Raises NodeError where it is damaged, TimeoutError if it is silent
        for longer than the container was opened for."""
        try:
            for packet in self._container.demux(self._streams):
                for frame in self._decoded(packet):
                    yield from self._converted(frame, packet.stream)
            if any(stream.type == "audio" for stream in self._streams):
                yield from self._sound(None)
        except self._av.error.ExitError as error:
            raise TimeoutError(f"{self._container.name!r} gave nothing for too long") from error
        except self._av.error.FFmpegError as error:
            where = "its start" if self.last_s is None else f"{float(self.last_s):.3f} s"
            raise NodeError(self._node, f"cannot decode {self._container.name!r} after {where}: {error}") from error

    def _decoded(self, packet: Any) -> Sequence[Any]:
        try:
            found: Sequence[Any] = packet.decode()
        except self._av.error.FFmpegError as error:
            self._in_a_row += 1
            if not self._tolerant or isinstance(error, MemoryError) or self._in_a_row > _MOST_DAMAGED:
                raise
            self.damaged += 1
            return ()
        self._in_a_row = 0
        return found

    def close(self) -> None:
        self._container.close()

    def _converted(self, frame: Any, stream: Any) -> Iterator[MediaFrame]:
        if stream.type == "audio":
            yield from self._sound(frame)
        else:
            yield self._picture(frame, stream.average_rate)

    def _picture(self, frame: Any, frame_rate: Any) -> VideoFrame:
        tag = int(frame.colorspace)
        space = "bt709" if tag == _BT709 else colour_space({}, frame.height) if tag == _UNSPECIFIED else None
        hd = space == "bt709"
        if hd:
            frame.colorspace = _UNSPECIFIED  # before version 17, PyAV converts frames that carry a tag as BT.601
        # None: as tagged where PyAV knows how, else BT.601
        source = COLOUR_SPACES["bt709"] if hd else None
        keep = source if self._format.kind == "yuv" else None
        converted = self._reformatter.reformat(
            frame, format=self._format.name, src_colorspace=source, dst_colorspace=keep
        )
        metadata = dict(self._metadata)
        if frame_rate:
            metadata["frame_rate"] = frame_rate
        if self._format.kind == "yuv":
            metadata["colour_space"] = "bt709" if hd else "bt601"
        shape = self._format.shape(frame.width, frame.height)
        return VideoFrame(
            array=copy_planes(converted, self._format, self._empty(shape, self._format.dtype)),
            pts=self._pts(frame),
            time_base=frame.time_base,
            pixel_format=self._format.name,
            metadata=metadata,
        )

    def _pts(self, frame: Any) -> int | None:
        """The frame's pts, moved so that the first frame begins at the time it shall."""
        if frame.pts is None:
            return None
        time_s = frame.pts * frame.time_base
        if self._offset_s is None:
            assert self._start_s is not None
            self._offset_s = self._start_s - time_s
        self.last_s, self.last_at = time_s + self._offset_s, monotonic()
        return int(frame.pts) + round(self._offset_s / frame.time_base) if self._offset_s else int(frame.pts)

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
        return AudioFrame(
            array=out,
            pts=self._pts(part),
            time_base=part.time_base,
            sample_rate=part.sample_rate,
            metadata=dict(self._metadata),
        )
