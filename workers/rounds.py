"""The pool's one timer: it looks after every worker that is ready, and costs a few microseconds a second.

At each round: has each worker's heartbeat gone on, has it been on one frame for too long, has it had its number of
frames? Now and then also: its memory, and the kernel's count of processes killed for memory.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from remotemedia.config import Timeouts, WorkerLimits
from remotemedia.core.exceptions import WorkerIdentity
from remotemedia.workers.diagnose import Hang, MemoryGroup, explain, own_bytes, process_facts
from remotemedia.workers.limits import MemorySampler, memory_reason
from remotemedia.workers.watch import Concern, Signs, Watch

SAMPLE_S = 5.0
"""Between two looks at the memory."""
_BLOCKED_S = 1.0
"""A round that is late by more than this (and by more than its period) says that the event loop was blocked."""
_LOOKS_PER_FRAME_TIMEOUT = 4

_logger = logging.getLogger("remotemedia.rounds")

NoticeKind: TypeAlias = Literal["stalled", "slow", "recovered", "loop_blocked", "memory_high", "limit_reached"]


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something worth an event: what, about which worker (None: the pool), as text and as figures."""

    kind: NoticeKind
    text: str
    worker: WorkerIdentity | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


class Watched(Protocol):
    """What the rounds need of a supervisor. `watch` is None unless it is ready."""

    worker_id: int
    limits: WorkerLimits
    own_bytes: int | None
    told: set[str]

    @property
    def identity(self) -> WorkerIdentity: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def watch(self) -> Watch | None: ...
    @property
    def frames(self) -> int: ...
    def signs(self) -> Signs: ...
    def dump_stacks(self, *, tell: bool = False) -> bool: ...
    def give_up(self, hang: Hang) -> None: ...


class Rounds:
    """Looks after the workers of one pool, from its loop, until `close`."""

    def __init__(
        self,
        workers: Callable[[], Iterable[Watched]],
        timeouts: Timeouts,
        memory: MemoryGroup,
        loop: asyncio.AbstractEventLoop,
        *,
        on_notice: Callable[[Notice], None],
        on_limit: Callable[[int, str], None],
        on_round: Callable[[], None],
    ) -> None:
        """`on_limit(worker_id, reason)`: the worker is to be replaced between two frames; called once per process.
        `on_round()`: called at each round.
        """
        self._workers, self._timeouts, self._memory, self._loop = workers, timeouts, memory, loop
        self._on_notice, self._on_limit, self._on_round = on_notice, on_limit, on_round
        shortest_s = min(timeouts.frame_warn_s or math.inf, timeouts.frame_timeout_s or math.inf)
        looks_s = shortest_s / _LOOKS_PER_FRAME_TIMEOUT
        self._period_s = min(timeouts.heartbeat_s, looks_s, SAMPLE_S)
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._sample_at = loop.time()
        self._warned_of_blocked_loop = False
        self._sampler = MemorySampler(loop, self._on_memory)
        self._next()

    def close(self) -> None:
        """No more rounds. Idempotent."""
        if self._timer is not None and not self._loop.is_closed():
            self._timer.cancel()
        self._timer = None
        self._sampler.close()

    def _next(self) -> None:
        self._due = self._loop.time() + self._period_s
        self._timer = self._loop.call_at(self._due, self._round)

    def _round(self) -> None:
        now = self._loop.time()
        late_s = now - self._due
        late = late_s > max(self._period_s, _BLOCKED_S)
        self._next()
        if late:
            self._tell_of_blocked_loop(late_s)
        workers = [worker for worker in self._workers() if worker.watch is not None]
        for worker in workers:
            self._look_after(worker, now, grace=late)
        self._on_round()
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_S
            self._sample(workers)

    def _tell_of_blocked_loop(self, late_s: float) -> None:
        if self._warned_of_blocked_loop:
            return
        self._warned_of_blocked_loop = True
        text = (
            f"the event loop was blocked for {late_s:.1f} s (or the machine was suspended): what the pool does in it "
            "was late by that. This is said once; look for calls that block in `async` functions"
        )
        self._tell(Notice(kind="loop_blocked", text=text, figures={"blocked_s": late_s}))

    def _tell(self, notice: Notice, level: int = logging.WARNING) -> None:
        about = f"{notice.worker}: " if notice.worker is not None else ""
        _logger.log(level, "%s%s", about, notice.text)
        self._on_notice(notice)

    # -- signs of life -------------------------------------------------------------------------------------------------

    def _look_after(self, worker: Watched, now: float, *, grace: bool) -> None:
        watch = worker.watch
        assert watch is not None
        if watch.look(now, worker.signs(), grace=grace):
            self._tell(Notice(kind="recovered", text="answers again", worker=worker.identity), logging.INFO)
        if watch.concern is not Concern.NONE:
            self._examine(worker, watch, now)
        most = worker.limits.max_frames_per_worker
        if most is not None and worker.frames >= most:
            self._limit(worker, "frames", f"has had {worker.frames} frames, max_frames_per_worker is {most}")

    def _examine(self, worker: Watched, watch: Watch, now: float) -> None:
        facts = process_facts(worker.pid or 0)
        if facts is None or facts.state in "ZX":
            return  # it has ended: the supervisor is about to hear of it
        if facts.state == "t":
            watch.hold()
        concern = watch.concern  # it may have changed by that
        if watch.earlier is None:
            watch.earlier = now, facts
        since, before = watch.earlier
        beats = concern in {Concern.OVERTIME, Concern.SLOW}
        explanation = explain(facts, beats=beats, cpu_s=facts.cpu_s - before.cpu_s, over_s=now - since)
        if concern is Concern.STALLED:
            watch.told()
            text = f"gives no sign of life for {watch.silent_s:.1f} s (process state {facts.state}: {explanation})"
            figures = {"silent_s": watch.silent_s, "process_state": facts.state, "explanation": explanation}
            self._tell_of_delay(worker, "stalled", text, figures)
        elif concern is Concern.SLOW:
            watch.told_slow()
            text = (
                f"has been working on frame {worker.signs().frame} for {watch.frame_s:.1f} s "
                f"(process state {facts.state}: {explanation})"
            )
            figures = {"silent_s": watch.frame_s, "process_state": facts.state, "explanation": explanation}
            self._tell_of_delay(worker, "slow", text, figures)
        elif concern is Concern.OVERTIME:
            frame = worker.signs().frame
            worker.give_up(
                Hang(waited_s=watch.frame_s, process_state=facts.state, explanation=explanation, frame=frame)
            )
        elif concern is Concern.UNRESPONSIVE:
            worker.give_up(Hang(waited_s=watch.silent_s, process_state=facts.state, explanation=explanation))

    def _tell_of_delay(self, worker: Watched, kind: NoticeKind, text: str, figures: Mapping[str, Any]) -> None:
        self._tell(Notice(kind=kind, text=text, worker=worker.identity, figures=figures))
        if figures["process_state"] not in "Tt":  # it would write them much later, when it goes on
            worker.dump_stacks(tell=True)

    # -- limits --------------------------------------------------------------------------------------------------------

    def _sample(self, workers: list[Watched]) -> None:
        self._memory.sample()
        for worker in workers:
            worker.own_bytes = own_bytes(worker.pid or 0) or worker.own_bytes
        self._sampler.request(
            (worker.worker_id, worker.pid)
            for worker in workers
            if worker.limits.memory_limit_bytes is not None and worker.pid is not None
        )

    def _on_memory(self, worker_id: int, pid: int, nbytes: int) -> None:
        for worker in self._workers():
            if (worker.worker_id, worker.pid) == (worker_id, pid) and worker.watch is not None:
                level, reason = memory_reason(nbytes, worker.limits)
                if level == "limit":
                    self._limit(worker, "memory", reason)
                elif level == "high" and "memory_high" not in worker.told:
                    worker.told.add("memory_high")
                    figures = {"pss_bytes": nbytes, "limit_bytes": worker.limits.memory_limit_bytes}
                    self._tell(Notice(kind="memory_high", text=reason, worker=worker.identity, figures=figures))

    def _limit(self, worker: Watched, which: str, reason: str) -> None:
        if "limit" in worker.told:
            return
        worker.told.add("limit")
        self._tell(Notice(kind="limit_reached", text=reason, worker=worker.identity, figures={"limit": which}))
        self._on_limit(worker.worker_id, reason)
