"""What a driver can be asked to do, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.work import Work


@dataclass(frozen=True)
class Start:
    """Start the chain and warm it up; every byte of the warm-up's outputs is checked."""

    stages: int
    work: Work
    size: int


@dataclass(frozen=True)
class RoundTrips:
    """One frame at a time for `seconds` → {"median_us", "p99_us"}."""

    seconds: float


@dataclass(frozen=True)
class Stream:
    """WINDOW frames in flight for `seconds` → {"frames" (moved in all), "frames_per_s"}."""

    seconds: float


@dataclass(frozen=True)
class Recovery:
    """Stream numbered frames, kill -9 the middle stage after `before_s`, go on for `after_s` →
    the figures of `recovery.recovery_of`."""

    before_s: float
    after_s: float


@dataclass(frozen=True)
class Stop:
    """Stop the chain."""


@dataclass(frozen=True)
class FirstResult:
    """Start a chain and send one frame → {"first_result_ms"}; the chain is stopped again."""

    stages: int
    work: Work
    size: int


@dataclass(frozen=True)
class Call:
    """Call a function, given as "module:name" → what it returns."""

    function: str
    arguments: tuple[Any, ...]


Command = Start | RoundTrips | Stream | Recovery | Stop | FirstResult | Call


@dataclass(frozen=True)
class Answer:
    """What a command gave: a value, or what went wrong ("unavailable", "wrong output", "error")."""

    value: Any = None
    failure: str | None = None
    detail: str = ""
