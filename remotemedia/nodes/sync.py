"""Sound and picture in time: merge streams by pts, hold them within a tolerance."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.node import Node
from remotemedia.nodes.timing import RateHold, SampleHold, SyncCounts, TimeMerge


def stream_of(frame: MediaFrame) -> Hashable:
    """Which stream a frame belongs to: its kind, and the name that a Label has given it."""
    return type(frame).__name__, frame.metadata.get("stream")


def one_by_one(frames: list[MediaFrame], counts: SyncCounts | None) -> Iterator[MediaFrame]:
    """Give the frames out, with the counts in their metadata; none is held any longer, which would cost a copy."""
    frames.reverse()
    while frames:
        yield _with_counts(frames.pop(), counts)


def _with_counts(frame: MediaFrame, counts: SyncCounts | None) -> MediaFrame:
    return frame if counts is None else replace(frame, metadata={**frame.metadata, "sync": counts})


class _Timed(Node):
    """Base: takes typed frames with a time."""

    def check(self, condition: bool, setting: str, value: object, expected: str) -> None:
        if not condition:
            raise ConfigurationError(f"{type(self).__name__}({setting}={value!r}): expected {expected}")

    def time_of(self, frame: Any) -> Fraction:
        """When the frame begins, in seconds. Raises TypeError for what is no typed frame, NodeError without pts."""
        if not isinstance(frame, MediaFrame):
            raise TypeError(f"{self.name} takes typed frames, not {type(frame).__name__}")
        if frame.pts is None:
            raise NodeError(self.name, f"a {type(frame).__name__} has no pts, so its time is not known")
        return frame.pts * frame.time_base


class Label(Node):
    """Name the stream that frames belong to, in metadata["stream"]: so that Mix and Interleave tell streams apart.

    Takes and gives typed frames; everything else about them stays. Raises ConfigurationError for an empty name,
    TypeError for what is no typed frame.

    >>> run_pipeline([Label("microphone")], sine(440, seconds=0.01))[0].metadata
    {'stream': 'microphone'}
    """

    def __init__(self, stream: str, *, name: str | None = None, **options: Any) -> None:
        if not (isinstance(stream, str) and stream):
            raise ConfigurationError(f"Label(stream={stream!r}): expected a name")
        super().__init__(name, stream=stream, **options)
        self.stream = stream

    def process(self, frame: MediaFrame) -> MediaFrame:
        """The same frame with the name. Raises TypeError for what is no typed frame."""
        if not isinstance(frame, MediaFrame):
            raise TypeError(f"{self.name} takes typed frames, not {type(frame).__name__}")
        return replace(frame, metadata={**frame.metadata, "stream": self.stream})


class Interleave(_Timed):
    """Merge `streams` streams of typed frames in order of their time, as a file or a player wants them.

    Streams are told apart by the kind of frame, and by the name that `Label` gives. Each must be in order itself. A
    frame is held until all streams have been seen up to its time; a stream that stays behind by more than `max_wait_s`
    seconds of media is not waited for: its frames that come too late are left out and counted in
    metadata["sync"].late of those that follow. `flush` gives the rest.

    Takes and gives typed frames of any shape and dtype, unchanged but for the metadata. Raises ConfigurationError for
    bad settings, TypeError for what is no typed frame, NodeError for a frame without pts.

    >>> sound, picture = list(sine(440, seconds=0.1)), list(colour_bars(8, 4, fps=25, seconds=0.1))
    >>> merged = run_pipeline([Interleave()], [*sound, *picture])
    >>> [(type(frame).__name__[0], round(frame.time_s, 3)) for frame in merged]
    [('A', 0.0), ('V', 0.0), ('A', 0.021), ('V', 0.04), ('A', 0.043), ('A', 0.064), ('A', 0.085)]
    """

    def __init__(self, streams: int = 2, *, max_wait_s: float = 1.0, name: str | None = None, **options: Any) -> None:
        super().__init__(name, streams=streams, max_wait_s=max_wait_s, **options)
        self.check(isinstance(streams, int) and streams >= 1, "streams", streams, "a number, 1 or more")
        self.check(max_wait_s > 0, "max_wait_s", max_wait_s, "seconds, more than 0")
        self.streams, self.max_wait_s = streams, Fraction(max_wait_s)
        self._begin()

    def _begin(self) -> None:
        self._merge = TimeMerge(self.streams, self.max_wait_s)

    def initialize(self) -> None:
        """Begin anew."""
        self._begin()

    def process(self, frame: MediaFrame) -> Iterator[MediaFrame]:
        """What is in order up to now."""
        return self._given(self._merge.push(stream_of(frame), self.time_of(frame), frame))

    def flush(self) -> Iterator[MediaFrame]:
        """The rest."""
        rest = self._given(self._merge.finish())
        self._begin()
        return rest

    def _given(self, frames: list[MediaFrame]) -> Iterator[MediaFrame]:
        return one_by_one(frames, SyncCounts(late=self._merge.late) if self._merge.late else None)

    def cleanup(self) -> None:
        """Let go of the frames that are held."""
        self._begin()


class Sync(_Timed):
    """Hold one stream of pictures and one of sound together: pictures at `frame_rate`, sound without gaps, interleaved.

    Pictures are repeated where one is missing and dropped where there are too many, so that each is at most half a
    picture from its time. Sound may be `tolerance_s` seconds away from its pts (jitter, the rounding of containers, a
    clock that drifts); beyond that silence is put in or samples are cut. Gaps of more than `max_gap_s` stay gaps. Each
    output has metadata["sync"], a SyncCounts: pictures dropped and duplicated, samples of silence and cut, frames late.

    Takes VideoFrames of any format and AudioFrames (samples, channels); gives the same arrays, but new ones where sound
    is filled or cut. Picture pts count 1/`frame_rate`, sound pts samples. Holds one picture back, and frames as
    Interleave does with its `max_wait_s`; `flush` gives the rest.

    Raises ConfigurationError for bad settings, TypeError for what is no picture or sound, NodeError for a picture
    without pts and for sound that changes its rate.

    >>> pictures = [frame for n, frame in enumerate(colour_bars(8, 4, fps=25, seconds=0.4)) if n != 3]
    >>> held = run_pipeline([Sync(25)], pictures)
    >>> [frame.pts for frame in held], held[-1].metadata["sync"].duplicated
    ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1)
    """

    def __init__(
        self,
        frame_rate: float | Fraction = 25,
        *,
        tolerance_s: float = 0.04,
        max_gap_s: float = 10.0,
        max_wait_s: float = 1.0,
        name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            name, frame_rate=frame_rate, tolerance_s=tolerance_s, max_gap_s=max_gap_s, max_wait_s=max_wait_s, **options
        )
        self.check(frame_rate > 0, "frame_rate", frame_rate, "pictures per second, more than 0")
        self.check(tolerance_s >= 0, "tolerance_s", tolerance_s, "seconds, 0 or more")
        self.check(max_gap_s > tolerance_s, "max_gap_s", max_gap_s, "seconds, more than tolerance_s")
        self.check(max_wait_s > 0, "max_wait_s", max_wait_s, "seconds, more than 0")
        self.frame_rate = Fraction(frame_rate).limit_denominator(1001)
        self.tolerance_s, self.max_gap_s, self.max_wait_s = tolerance_s, max_gap_s, max_wait_s
        self._begin()

    def _begin(self) -> None:
        self._merge = TimeMerge(2, Fraction(self.max_wait_s))
        self._pictures = RateHold(self.frame_rate, Fraction(self.max_gap_s))
        self._sound: SampleHold | None = None
        self._sample_rate = 0

    def initialize(self) -> None:
        """Begin anew."""
        self._begin()

    def process(self, frame: MediaFrame) -> Iterator[MediaFrame]:
        """What is in order up to now."""
        if isinstance(frame, VideoFrame):
            return self._given(self._shown(self._pictures.push(self.time_of(frame), frame)))
        if isinstance(frame, AudioFrame):
            return self._given(self._heard(frame))
        raise TypeError(f"{self.name} takes VideoFrames and AudioFrames, not {type(frame).__name__}")

    def _shown(self, ticks: list[tuple[int, VideoFrame]]) -> list[MediaFrame]:
        ready: list[MediaFrame] = []
        for tick, frame in ticks:
            metadata = {**frame.metadata, "frame_rate": self.frame_rate}
            moved = replace(frame, pts=tick, time_base=1 / self.frame_rate, metadata=metadata)
            ready += self._merge.push("video", tick / self.frame_rate, moved)
        return ready

    def _heard(self, frame: AudioFrame) -> list[MediaFrame]:
        rate = frame.sample_rate
        if self._sound is None:
            self._sound = SampleHold(round(self.tolerance_s * rate), round(self.max_gap_s * rate))
            self._sample_rate = rate
        if rate != self._sample_rate:
            raise NodeError(
                self.name, f"sound of {rate} Hz came after {self._sample_rate} Hz; put Resample({rate}) before it"
            )
        start = None if frame.pts is None else round(frame.pts * frame.time_base * rate)
        begin, silence, skip = self._sound.push(start, len(frame.array))
        array = frame.array
        if silence or skip:
            array = self.empty((silence + len(frame.array) - skip, *frame.array.shape[1:]), frame.array.dtype)
            array[:silence] = 0
            np.copyto(array[silence:], frame.array[skip:])
        if not len(array):
            return []
        moved = replace(frame, array=array, pts=begin, time_base=Fraction(1, rate))
        return self._merge.push("audio", Fraction(begin, rate), moved)

    def flush(self) -> Iterator[MediaFrame]:
        """The last picture, and what was held."""
        ready = self._shown(self._pictures.finish())
        rest = self._given([*ready, *self._merge.finish()])
        self._begin()
        return rest

    def _given(self, frames: list[MediaFrame]) -> Iterator[MediaFrame]:
        return one_by_one(frames, self.counts)

    @property
    def counts(self) -> SyncCounts:
        """What was done so far."""
        sound = self._sound or SampleHold(0, 0)
        return SyncCounts(
            dropped=self._pictures.dropped,
            duplicated=self._pictures.duplicated,
            silence=sound.silence,
            cut=sound.cut,
            late=self._merge.late,
        )

    def cleanup(self) -> None:
        """Let go of the frames that are held."""
        self._begin()
