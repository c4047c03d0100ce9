"""Settings: frozen, keyword-only, units in the names, checked when made."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    heartbeat_s: float = 1.0
    """How often a worker that is ready shows that its interpreter runs, and how often the pool looks."""
    unresponsive_warn_s: float = 5.0
    """Without a heartbeat for this long, a warning says what the process is doing, and it is asked for its stacks."""
    unresponsive_s: float = 30.0
    """Without a heartbeat for this long, the worker is killed: WorkerUnresponsive. `math.inf`: never. The clock stands
    still while a debugger holds the process."""
    frame_warn_s: float | None = None
    """A worker that works on one frame for longer than this is told of, once for each such frame: a warning, an event
    Stalled, and its stacks. Nothing is killed. None: never. Looked at like `frame_timeout_s`."""
    frame_timeout_s: float | None = None
    """A worker that works on one frame for longer than this is killed: WorkerUnresponsive with the frame and stacks.
    Looked at four times in this period, so it may take up to a half longer. Waiting for room in the next stage does not
    count; a source's wait for the frame that it makes does. None: a frame may take for ever."""

    def __post_init__(self) -> None:
        names = ("hello_s", "load_s", "initialize_s", "stop_s", "heartbeat_s", "unresponsive_warn_s", "unresponsive_s")
        for name in names:
            _require_seconds(name, getattr(self, name))
        for name in ("frame_warn_s", "frame_timeout_s"):
            if getattr(self, name) is not None:
                _require_seconds(name, getattr(self, name))
        if (self.frame_warn_s or 0.0) > (self.frame_timeout_s or math.inf):
            _refuse("frame_warn_s", self.frame_warn_s, f"at most frame_timeout_s={self.frame_timeout_s!r}")
        if self.heartbeat_s > self.unresponsive_warn_s / 4:
            quarter = f"at most a quarter of unresponsive_warn_s={self.unresponsive_warn_s!r}"
            _refuse("heartbeat_s", self.heartbeat_s, quarter)
        if self.unresponsive_s < self.unresponsive_warn_s:
            _refuse("unresponsive_s", self.unresponsive_s, f"at least unresponsive_warn_s={self.unresponsive_warn_s!r}")


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


@dataclass(frozen=True, kw_only=True)
class WorkerLimits:
    """What one node's worker process may use. Given as `PoolConfig(limits=)`, or as a node's `worker_limits`."""

    memory_limit_bytes: int | None = None
    """Of its proportional set size (PSS: what is its own, and its share of what it shares), looked at every 5 s.
    At 80 % there is a warning; at the limit the worker is replaced between two frames."""
    cpu_affinity: tuple[int, ...] | None = None
    """Numbers of the processors that it may run on; set before anything is imported, so that numerical libraries make
    no more threads than that."""
    nice: int | None = None
    """Its niceness, -20 to 19; below that of the coordinator only with the right to."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that it gets beside the coordinator's (CUDA_VISIBLE_DEVICES, OMP_NUM_THREADS, ...)."""
    max_frames_per_worker: int | None = None
    """After at least this many frames the worker is replaced between two frames, for nodes that leak. It is noticed
    within `Timeouts.heartbeat_s`."""

    def __post_init__(self) -> None:
        if self.memory_limit_bytes is not None:
            _require_whole("memory_limit_bytes", self.memory_limit_bytes, 1, math.inf, "at least 1 byte, or None")
        if self.cpu_affinity is not None:
            _require_processors(self.cpu_affinity)
        if self.nice is not None:
            _require_whole("nice", self.nice, -20, 19, "-20 to 19, or None")
        _require_environment(self.environment)
        if self.max_frames_per_worker is not None:
            _require_whole("max_frames_per_worker", self.max_frames_per_worker, 1, math.inf, "at least 1, or None")


def _require_limits(value: object) -> None:
    for limits in value.values() if isinstance(value, Mapping) else [value]:
        if not isinstance(limits, WorkerLimits):
            _refuse("limits", value, "a WorkerLimits, or a mapping of node ids to them")


def _require_processors(value: object) -> None:
    numbers = value if isinstance(value, tuple) else ()
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 2**16 for n in numbers):
        _refuse("cpu_affinity", value, "a tuple of numbers of processors, or None")


def _require_environment(value: object) -> None:
    def is_text(part: object) -> bool:
        return isinstance(part, str) and "\0" not in part

    items = value.items() if isinstance(value, Mapping) else [("", "")]
    if not all(is_text(name) and name and "=" not in name and is_text(text) for name, text in items):
        _refuse("environment", value, "a mapping of names without '=' to values, both str")


Start: TypeAlias = Literal["fork_server", "spawn"]
OnError: TypeAlias = Literal["raise", "skip", "restart"]
Placement: TypeAlias = Literal["free", "same_core"]


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """Bounds of one channel (one sending stage and all its receivers)."""

    queue_frames: int = 64
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
class Tracing:
    """OpenTelemetry spans for frames and for what each node does with them. Needs the extra `[otel]`."""

    sample: float = 0.01
    """The part of the frames, 0 to 1, that OpenTelemetry is told of, chosen at random. Its own sampler decides about
    these again: by default as it has about the caller's span, if there is one."""
    tracer_provider: Any = None
    """An opentelemetry.trace.TracerProvider; None: the one that is set globally."""

    def __post_init__(self) -> None:
        sample = self.sample
        if isinstance(sample, bool) or not isinstance(sample, (int, float)) or not 0 <= sample <= 1:
            _refuse("sample", sample, "a part of all frames, 0 to 1")
        if self.tracer_provider is not None and not callable(getattr(self.tracer_provider, "get_tracer", None)):
            _refuse("tracer_provider", self.tracer_provider, "an OpenTelemetry TracerProvider, or None")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Settings of a worker pool; every field has a default that suits most uses."""

    channel: ChannelConfig = field(default_factory=ChannelConfig)
    timeouts: Timeouts = field(default_factory=Timeouts)
    in_flight_frames: int = 32
    """Most inputs under way from end to end: accepted, and their last output not yet taken."""
    in_flight_bytes: int = 5 * MIB // 2
    """Another input is accepted while fewer bytes of inputs than this are under way. As many as there are stages to
    work on them at once (no more than there are processors) are accepted whatever their size."""
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
    start: Start = "fork_server"
    """How workers are started. "fork_server": forked in a millisecond by one process with all imports done, which
    the pools of this process share. "spawn": each as a new interpreter; also used where a fork server cannot help, for
    workers with an environment or processors of their own (WorkerLimits)."""
    spin_us: int = 0
    """Most microseconds, up to 1000, for which a worker, and a `process()` that waits alone, look for their frame
    before they sleep: one frame in flight is spared the waking of a processor. That costs processor time, less where it
    does not pay, none while the pool is idle. 0, or more workers than processors beside the coordinator's: they sleep
    at once."""
    placement: Placement = "free"
    """Where the processes run. "free": where the kernel puts them. "same_core": on the processor that the pool's loop
    runs on at the start, the loop's thread included, until the pool is closed: one frame in flight wakes nobody else's
    processor, but there is one processor for everything. A node's `cpu_affinity` comes first; turns `spin_us` off."""
    warm_spares: int = 0
    """Processes that wait, started and with their imports done, to replace a worker that dies."""
    session_frames: int = 16
    """Most frames that one session may have under way or unread; its `send` waits for room."""
    limits: WorkerLimits | Mapping[str, WorkerLimits] = field(default_factory=WorkerLimits)
    """For all workers, or by node id. What is given here for a node's id comes first, then the node's own attribute
    `worker_limits`, then what is given for all."""
    tracing: Tracing | None = None
    """OpenTelemetry spans for frames; None: no frame is looked at for that."""
    runtime_dir: str | None = None
    """Directory in which the pool keeps its socket and lock. None: $REMOTEMEDIA_RUNTIME_DIR, $XDG_RUNTIME_DIR,
    /run/user/<uid>, the directory for temporary files or /dev/shm, the first that will do."""
    python_executable: str | None = None
    """Interpreter of the workers; default: the coordinator's."""
    ray_address: str | None = None
    """For executor="ray": the cluster to join, as `ray.init(address=)` takes it ("auto", "10.0.0.1:6379"). None: the
    one that the program has joined already, else what `ray.init()` finds or starts. Others do not look at it."""

    def __post_init__(self) -> None:
        _require_type("channel", self.channel, ChannelConfig, "a ChannelConfig")
        _require_type("timeouts", self.timeouts, Timeouts, "a Timeouts")
        _require_whole("in_flight_frames", self.in_flight_frames, 1, math.inf, "at least 1 frame")
        _require_whole("in_flight_bytes", self.in_flight_bytes, 1, math.inf, "at least 1 byte")
        if self.restart is not None:
            _require_type("restart", self.restart, RestartPolicy, "a RestartPolicy, or None")
        if self.on_error not in ("raise", "skip", "restart"):
            _refuse("on_error", self.on_error, '"raise", "skip" or "restart"')
        if self.start not in ("fork_server", "spawn"):
            _refuse("start", self.start, '"fork_server" or "spawn"')
        _require_whole("snapshot_frames", self.snapshot_frames, 1, math.inf, "at least 1 frame")
        _require_seconds("snapshot_s", self.snapshot_s)
        _require_whole("spin_us", self.spin_us, 0, 1000, "0 to 1000 microseconds")
        if self.placement not in ("free", "same_core"):
            _refuse("placement", self.placement, '"free" or "same_core"')
        _require_whole("warm_spares", self.warm_spares, 0, 64, "0 to 64 processes")
        _require_whole("session_frames", self.session_frames, 1, math.inf, "at least 1 frame")
        _require_limits(self.limits)
        if self.tracing is not None:
            _require_type("tracing", self.tracing, Tracing, "a Tracing, or None")
        for name in ("runtime_dir", "python_executable"):
            if getattr(self, name) is not None:
                _require_type(name, getattr(self, name), str, "a path as str, or None")
        if self.ray_address is not None:
            _require_type("ray_address", self.ray_address, str, 'an address as str, e.g. "auto", or None')
