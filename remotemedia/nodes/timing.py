"""Keeping streams in time: pure bookkeeping without media. Times are exact fractions of seconds."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SyncCounts:
    """What was done to keep time, since the start: `dropped` and `duplicated` pictures, `silence` and `cut` samples,
    and frames that came too `late` to be put in order, which are left out."""

    dropped: int = 0
    duplicated: int = 0
    silence: int = 0
    cut: int = 0
    late: int = 0


class TimeMerge:
    """Items of several streams in order of time; those of the same time in the order in which they came.

    Each stream must be in order of time itself. An item is given out when all of `streams` streams have been seen up to
    its time, or when another stream is `max_wait_s` ahead of it: a stream that is silent, or has ended, is not waited
    for longer than that.
    """

    def __init__(self, streams: int, max_wait_s: Fraction) -> None:
        self._streams, self._max_wait_s = streams, max_wait_s
        self._heap: list[tuple[Fraction, int, Any]] = []
        self._reached: dict[Hashable, Fraction] = {}  # by stream: the time of its last item
        self._given: Fraction | None = None
        self._count = 0
        self.late = 0

    def push(self, stream: Hashable, time_s: Fraction, item: Any) -> list[Any]:
        """What can be given out, now that `item` has come. One that is earlier than what has been given is left out."""
        self._reached[stream] = max(time_s, self._reached.get(stream, time_s))
        if self._given is not None and time_s < self._given:
            self.late += 1
            return []
        heapq.heappush(self._heap, (time_s, self._count, item))
        self._count += 1
        newest = max(self._reached.values())
        seen = len(self._reached) >= self._streams
        certain = max(min(self._reached.values()), newest - self._max_wait_s) if seen else newest - self._max_wait_s
        return self._until(certain)

    def finish(self) -> list[Any]:
        """The rest; then it can begin anew."""
        rest = self._until(None)
        self._reached, self._given = {}, None
        return rest

    def _until(self, end_s: Fraction | None) -> list[Any]:
        found = []
        while self._heap and (end_s is None or self._heap[0][0] <= end_s):
            self._given, _, item = heapq.heappop(self._heap)
            found.append(item)
        return found


@dataclass
class RateHold:
    """Pictures at a constant rate: which of them are shown at which ticks.

    Tick n is at n / `rate` seconds; the first is that of the first picture. Each picture belongs to the tick nearest to
    its time. A tick without a picture repeats the one before; of several pictures at one tick the last is shown. After
    a gap of more than `max_gap_s` nothing is repeated: the ticks go on at the next picture.
    """

    rate: Fraction
    max_gap_s: Fraction
    dropped: int = 0
    duplicated: int = 0
    _held: tuple[int, Any] | None = None  # the last picture and its tick: how long it is shown, the next one tells

    def push(self, time_s: Fraction, picture: Any) -> list[tuple[int, Any]]:
        """(tick, picture) for all ticks before that of this picture which have not been shown yet."""
        tick = round(time_s * self.rate)
        if self._held is None:
            self._held = (tick, picture)
            return []
        before, last = self._held
        if tick <= before:
            self.dropped += 1
            if tick == before:
                self._held = (tick, picture)
            return []
        self._held = (tick, picture)
        if (tick - before) / self.rate > self.max_gap_s:
            return [(before, last)]
        self.duplicated += tick - before - 1
        return [(n, last) for n in range(before, tick)]

    def finish(self) -> list[tuple[int, Any]]:
        """The last picture; then it can begin anew."""
        held, self._held = self._held, None
        return [] if held is None else [held]


@dataclass
class SampleHold:
    """Sound without gaps: samples follow each other, and are never further than `tolerance` from their time.

    All counts are samples. Within the tolerance, differences between pts and the count of samples are left alone (they
    are the rounding of containers, or jitter); beyond it silence is put in or samples are cut. A gap of more than
    `max_gap` is not filled: the sound goes on at its own time.
    """

    tolerance: int
    max_gap: int
    position: int | None = None
    silence: int = 0
    cut: int = 0

    def push(self, start: int | None, count: int) -> tuple[int, int, int]:
        """(begin, silence, skip) for `count` samples at `start` (None: right after the last): from `begin` on come
        `silence` samples of silence, and then the frame without its first `skip` samples."""
        if self.position is None:
            self.position = start or 0
        begin = self.position
        ahead = 0 if start is None else start - begin
        silence = skip = 0
        if ahead > self.max_gap:
            begin += ahead
        elif ahead > self.tolerance:
            silence = ahead
        elif ahead < -self.tolerance:
            skip = min(-ahead, count)
        self.silence += silence
        self.cut += skip
        self.position = begin + silence + count - skip
        return begin, silence, skip
