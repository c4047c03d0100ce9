"""Settings: frozen, keyword-only, units in the names, checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

from remotemedia.core.exceptions import ConfigurationError

KIB, MIB = 1024, 1024 * 1024


def _refuse(setting: str, value: object, expected: str) -> None:
    raise ConfigurationError(f"{setting}={value!r}: expected {expected}")


def _require_type(setting: str, value: object, kind: type, expected: str) -> None:
    if not isinstance(value, kind):
        _refuse(setting, value, expected)


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _require_seconds(setting: str, value: object) -> None:
    if not _is_seconds(value):
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
class RestartPolicy:
    """When a worker that died is replaced by a new generation, which gets the unfinished frames again.

    Restart intensity and period are those of OTP supervisors.
    """

    max_restarts: int = 3
    """Restarts of one worker within `period_s`; one death more is RestartLimitExceeded. 0: never restart."""
    period_s: float = 60.0
    backoff_s: tuple[float, float] = (0.1, 5.0)
    """The first restart in a period comes at once; the wait before the others starts with the first value, doubles
    each time up to the second, and is cut short by up to a half at random."""
    max_attempts: int = 2
    """A frame whose processing has killed its worker this many times is given up: its caller gets WorkerDied."""

    def __post_init__(self) -> None:
        _require_whole("max_restarts", self.max_restarts, 0, math.inf, "0 or more restarts")
        _require_seconds("period_s", self.period_s)
        backoff: Any = self.backoff_s
        if not isinstance(backoff, tuple) or len(backoff) != 2 or not all(_is_seconds(value) for value in backoff):
            _refuse("backoff_s", backoff, "two numbers of seconds greater than 0")
        _require_whole("max_attempts", self.max_attempts, 1, math.inf, "at least 1 attempt")

    @classmethod
    def never(cls) -> Self:
        """The first death of a worker is an error that ends the pool."""
        return cls(max_restarts=0)


OnError: TypeAlias = Literal["raise", "skip", "restart"]


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
    restart: RestartPolicy | None = None
    """What happens when a worker dies. None: RestartPolicy() for a WorkerPool, never() for `execute_pipeline`."""
    on_error: OnError = "raise"
    """When a node's process() raises. "raise": the caller of that frame gets the error, the worker goes on with the
    next frame. "skip": the frame has no output and is counted. "restart": as if the worker had died of the frame. A
    node's own attribute `on_error` comes first."""
    snapshot_frames: int = 32
    """A node with `snapshot_state` is asked for its state after this many frames at the latest."""
    snapshot_s: float = 1.0
    """... and with the first frame after this time."""
    warm_spares: int = 0
    """Processes that wait, started and with their imports done, to replace a worker that dies."""
    session_frames: int = 16
    """Most frames that one session may have under way or unread; its `send` waits for room."""
    runtime_dir: str | None = None
    """Where the pool keeps its socket and lock; default: see remotemedia.workers.rundir."""
    python_executable: str | None = None
    """Interpreter of the workers; default: the coordinator's."""

    def __post_init__(self) -> None:
        _require_type("channel", self.channel, ChannelConfig, "a ChannelConfig")
        _require_type("timeouts", self.timeouts, Timeouts, "a Timeouts")
        _require_whole("in_flight_frames", self.in_flight_frames, 1, math.inf, "at least 1 frame")
        _require_whole("in_flight_bytes", self.in_flight_bytes, 1, math.inf, "at least 1 byte")
        if self.restart is not None:
            _require_type("restart", self.restart, RestartPolicy, "a RestartPolicy, or None")
        if self.on_error not in ("raise", "skip", "restart"):
            _refuse("on_error", self.on_error, '"raise", "skip" or "restart"')
        _require_whole("snapshot_frames", self.snapshot_frames, 1, math.inf, "at least 1 frame")
        _require_seconds("snapshot_s", self.snapshot_s)
        _require_whole("warm_spares", self.warm_spares, 0, 64, "0 to 64 processes")
        _require_whole("session_frames", self.session_frames, 1, math.inf, "at least 1 frame")
        for name in ("runtime_dir", "python_executable"):
            if getattr(self, name) is not None:
                _require_type(name, getattr(self, name), str, "a path as str, or None")
