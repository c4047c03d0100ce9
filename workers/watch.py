"""When does a worker owe a sign of life? Pure: it is shown what the board says, and told the time.

A worker that is ready counts up a word of its board once per heartbeat. Nothing is sent, and nobody waits for it: the
pool's one timer looks whether the word has changed since it looked last. The same look tells how long the worker has
been on one frame, at no cost for the frame loop.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from remotemedia.config import Timeouts
from remotemedia.workers.diagnose import ProcessFacts


class Signs(NamedTuple):
    """What a board shows."""

    beats: int
    frame: int | None
    calls: int
    waits: bool


class Concern(enum.Enum):
    """What a look has found; the gravest that holds."""

    NONE = enum.auto()
    SUSPECT = enum.auto()
    """Silent for a while: what its process does now is worth to be remembered."""
    SLOW = enum.auto()
    """On one frame for longer than `frame_warn_s`, and nobody was told yet."""
    STALLED = enum.auto()
    """Silent for `unresponsive_warn_s`, and nobody was told yet."""
    OVERTIME = enum.auto()
    """On one frame for longer than `frame_timeout_s`."""
    UNRESPONSIVE = enum.auto()
    """Silent for `unresponsive_s`."""


class _Clock:
    """Time since something changed last, and how much of it does not count."""

    def __init__(self, now: float) -> None:
        self.since, self.held_s = now, 0.0

    def restart(self, now: float) -> None:
        self.since, self.held_s = now, 0.0


class Watch:
    """The looks at one process, from when it is ready. Times are in seconds, of a monotonic clock."""

    def __init__(self, timeouts: Timeouts, signs: Signs, now: float) -> None:
        self._timeouts = timeouts
        self._signs = signs
        self._now = self._before = now
        self._beat, self._work = _Clock(now), _Clock(now)
        self._told = self._told_slow = False
        self.earlier: tuple[float, ProcessFacts] | None = None
        """When the silence was noticed, and what the process did then."""

    @property
    def silent_s(self) -> float:
        """Since the last heartbeat that was seen."""
        return self._now - self._beat.since

    @property
    def frame_s(self) -> float:
        """Since the worker was first seen on its present frame; 0 while it has none, or waits for the next stage."""
        return self._now - self._work.since

    def look(self, now: float, signs: Signs, *, grace: bool = False) -> bool:
        """Look at `signs`; True: a silence that was told of is over. `grace`: we were late ourselves, so that both
        clocks start again.
        """
        self._before, self._now = self._now, now
        over = signs.beats != self._signs.beats and self._told
        if grace or signs.beats != self._signs.beats:
            self._beat.restart(now)
            self.earlier = None
        if over:
            self._told = False
        idle = signs.frame is None or signs.waits
        if grace or idle or (signs.frame, signs.calls) != (self._signs.frame, self._signs.calls):
            self._work.restart(now)
            self._told_slow = False
        self._signs = signs
        return over

    def hold(self) -> None:
        """The time between the last two looks does not count towards a kill: a debugger holds the process."""
        for clock in (self._beat, self._work):
            clock.held_s += self._now - max(self._before, clock.since)

    def told(self) -> None:
        """The warning about this silence is out."""
        self._told = True

    def told_slow(self) -> None:
        """The warning about this frame is out."""
        self._told_slow = True

    @property
    def concern(self) -> Concern:
        timeouts, silent_s = self._timeouts, self.silent_s
        if silent_s - self._beat.held_s >= timeouts.unresponsive_s:
            return Concern.UNRESPONSIVE
        if timeouts.frame_timeout_s is not None and self.frame_s - self._work.held_s >= timeouts.frame_timeout_s:
            return Concern.OVERTIME
        if silent_s >= timeouts.unresponsive_warn_s and not self._told:
            return Concern.STALLED
        if timeouts.frame_warn_s is not None and not self._told_slow and self.frame_s >= timeouts.frame_warn_s:
            return Concern.SLOW
        if silent_s >= timeouts.unresponsive_warn_s / 2:
            return Concern.SUSPECT
        return Concern.NONE
