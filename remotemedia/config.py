"""Settings: frozen, keyword-only, units in the names, checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from remotemedia.core.exceptions import ConfigurationError

KIB, MIB = 1024, 1024 * 1024


def _refuse(setting: str, value: object, expected: str) -> None:
    raise ConfigurationError(f"{setting}={value!r}: expected {expected}")


def _require_type(setting: str, value: object, kind: type, expected: str) -> None:
    if not isinstance(value, kind):
        _refuse(setting, value, expected)


def _require_seconds(setting: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        _refuse(setting, value, "seconds greater than 0")


def _require_whole(setting: str, value: object, low: int, high: float, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _refuse(setting, value, expected)


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Deadlines of a worker's life, in seconds (monotonic)."""

    hello_s: float = 30.0
    """From spawn until the worker's first message."""
    load_s: float = 30.0
    """Unpickling the node, with the imports that it causes."""
    initialize_s: float = 120.0
    """`Node.initialize()`."""
    stop_s: float = 10.0
    """From the request to stop until the process has ended; then it is killed."""

    def __post_init__(self) -> None:
        for name in ("hello_s", "load_s", "initialize_s", "stop_s"):
            _require_seconds(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """Bounds of one channel (one sending stage and all its receivers)."""

    queue_frames: int = 16
    """Most frames that may be in flight, sent and not yet released, at once."""
    window_bytes: int = 32 * MIB
    """Most bytes in flight; beside them, one large frame more than there are receivers is always allowed."""
    slot_bytes: int = 64 * KIB
    """Size of a slot at the start; a larger frame makes the slots grow (to the next power of two)."""
    max_frame_bytes: int = 1024 * MIB
    """A frame larger than this is refused with FrameTooLarge."""

    def __post_init__(self) -> None:
        _require_whole("queue_frames", self.queue_frames, 2, 256, "2 to 256 frames")
        _require_whole("window_bytes", self.window_bytes, 1, math.inf, "at least 1 byte")
        _require_whole("max_frame_bytes", self.max_frame_bytes, 64, math.inf, "at least 64 bytes")
        _require_whole("slot_bytes", self.slot_bytes, 64, self.max_frame_bytes, "64 to max_frame_bytes")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Settings of a worker pool; every field has a default that suits most uses."""

    channel: ChannelConfig = field(default_factory=ChannelConfig)
    timeouts: Timeouts = field(default_factory=Timeouts)
    in_flight_frames: int = 64
    """Most inputs under way from end to end: accepted, and their last output not yet taken."""
    in_flight_bytes: int = 4 * MIB
    """Most bytes of inputs under way; one frame more than there are stages to work on them at once (no more than there
    are processors) is always let in, whatever its size."""
    runtime_dir: str | None = None
    """Where the pool keeps its socket and lock; default: see remotemedia.workers.rundir."""
    python_executable: str | None = None
    """Interpreter of the workers; default: the coordinator's."""

    def __post_init__(self) -> None:
        _require_type("channel", self.channel, ChannelConfig, "a ChannelConfig")
        _require_type("timeouts", self.timeouts, Timeouts, "a Timeouts")
        _require_whole("in_flight_frames", self.in_flight_frames, 1, math.inf, "at least 1 frame")
        _require_whole("in_flight_bytes", self.in_flight_bytes, 1, math.inf, "at least 1 byte")
        for name in ("runtime_dir", "python_executable"):
            if getattr(self, name) is not None:
                _require_type(name, getattr(self, name), str, "a path as str, or None")
