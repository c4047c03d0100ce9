"""Everything of a running pool that must be given back, in one object that holds no reference to the pool."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from remotemedia.config import PoolConfig
from remotemedia.core.graph import Graph
from remotemedia.workers import rundir
from remotemedia.workers.diagnose import Hang, MemoryGroup, process_facts
from remotemedia.workers.event_bus import EventBus
from remotemedia.workers.fabric import Fabric
from remotemedia.workers.launcher import Launcher
from remotemedia.workers.limits import limits_of
from remotemedia.workers.loop_waiter import LoopWaiter
from remotemedia.workers.obituary import Circumstances
from remotemedia.workers.observers import Observers, PoolFace
from remotemedia.workers.placement import SameCore
from remotemedia.workers.plan import Plan
from remotemedia.workers.portal import Portal
from remotemedia.workers.rounds import Notice, Rounds
from remotemedia.workers.serving import StatusPage, serve_status
from remotemedia.workers.slot import Slot
from remotemedia.workers.spares import Spare, Spares
from remotemedia.workers.spinning import why_not
from remotemedia.workers.supervisor import Supervisor

_logger = logging.getLogger("remotemedia.pool")

_POOL_FDS, _WORKER_FDS = 39, 9
"""Descriptors that a started pool holds in the coordinator, measured: 28 + 9 per worker, 4 more when slots grow."""


class Parts:
    """Everything of a running pool that must be given back; holds no reference to the pool."""

    def __init__(self, plan: Plan, config: PoolConfig, events: EventBus) -> None:
        self.owner_pid = os.getpid()
        self.slots: dict[int, Slot] = {}
        self.control: Any = None
        self.session_names: dict[int, str] = {}
        """Of the sessions that are under way, by number: for workers that start while they are."""
        self.events = events
        self.waiter: LoopWaiter | None = None
        self.rounds: Rounds | None = None
        self.observers: Observers | None = None
        self.served: weakref.WeakSet[StatusPage] = weakref.WeakSet()
        """Threads hold these until they are closed."""
        self._launcher: Launcher | None = None
        self._spares: Spares | None = None
        self.limits = limits_of(plan.graph, config)
        self.home = SameCore() if config.placement == "same_core" and any(plan.remote) else None
        """The processor that the loop and the workers share."""
        self.spin_us = self._checked_spin_us(plan, config)
        self._config = config
        self._memory = MemoryGroup()
        self._memory.sample()
        shared = sum(route.shared is not None for route in plan.routes.values())
        self._shm_need_bytes = shared * config.channel.window_bytes
        self.directory = rundir.PoolDir.create(config.runtime_dir)
        try:
            self.fabric = Fabric(plan, config.channel)
        except BaseException:
            self.directory.close()
            raise

    def _checked_spin_us(self, plan: Plan, config: PoolConfig) -> int:
        """0 where there are not enough processors to spin."""
        here = frozenset(os.sched_getaffinity(0))
        workers = [limits for limits, remote in zip(self.limits, plan.remote, strict=True) if remote]
        allowed = [here, *(frozenset(limits.cpu_affinity or here) for limits in workers)]
        why = why_not(config.spin_us, config.placement, allowed)
        if why is not None:
            _logger.debug("spin_us=%d is ignored for this pool: %s", config.spin_us, why)
        return config.spin_us if why is None else 0

    def open_control(self, loop: asyncio.AbstractEventLoop, on_message: Any) -> None:
        from remotemedia.ipc.control import ControlServer, require_free_fds

        # All that the start will take, now: were they to run out later, a worker that connects would end this process.
        count = len(self.fabric.boards)
        require_free_fds(_POOL_FDS + _WORKER_FDS * count, f"a pool of {count} nodes")
        self.control = ControlServer(self.directory.socket_path, weakly(on_message), loop)

    def open_observers(self, graph: Graph, face: PoolFace, loop: asyncio.AbstractEventLoop) -> None:
        """Answer those who look at the pool from outside, from now on."""
        self.observers = Observers(
            self.directory.observer_path,
            self.directory.pool_id,
            graph,
            self.fabric.boards,
            self.slots,
            self.control,
            face,
            self._config.channel.queue_frames,
            loop,
        )
        self.events.add_sink(self.observers.note)

    def serve_status(self, port: int, host: str, allowed_hosts: Sequence[str]) -> StatusPage:
        """A status page until it or the pool is closed. Raises ConfigurationError if the port cannot be had."""
        page = serve_status(self.directory.pool_id, self.directory.path, port, host, allowed_hosts)
        self.served.add(page)
        return page

    def begin_launcher(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on processes can be started, or are about to be."""
        self._launcher = Launcher(self._config, loop)
        if (pid := self._launcher.server_pid) is not None:
            self.directory.record_worker(pid)

    @property
    def launcher(self) -> Launcher:
        assert self._launcher is not None
        return self._launcher

    def begin_rounds(
        self,
        loop: asyncio.AbstractEventLoop,
        on_notice: Callable[[Notice], None],
        on_limit: Callable[[int, str], None],
        on_round: Callable[[], None],
    ) -> None:
        """Look after the workers from now on."""
        self.rounds = Rounds(
            self._workers,
            self._config.timeouts,
            self._memory,
            loop,
            on_notice=on_notice,
            on_limit=on_limit,
            on_round=on_round,
        )

    def begin_spares(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have spare workers ready from now on."""
        if self._config.warm_spares and self.slots:
            self._spares = Spares(
                self._config.warm_spares,
                self.launcher,
                lambda: [*self.fabric.fds(), *(slot.payload_fd for slot in self.slots.values())],
                self.directory,
                loop,
            )
            self._spares.fill()

    def take_spare(self, worker_id: int) -> Spare | None:
        """A spare process for this worker, unless its limits have to be there before anything is imported."""
        limits = self.limits[worker_id]
        if self._spares is None or limits.environment or limits.cpu_affinity is not None:
            return None
        return self._spares.take()

    def _workers(self) -> list[Supervisor]:
        return [slot.supervisor for slot in self.slots.values()]

    def circumstances(self, supervisor: Supervisor, hang: Hang | None) -> Circumstances:
        """What is known of a worker's end beside its life and its last words."""
        from remotemedia.ipc.shm_memory import free_shared_memory

        memory = [(other.node_id, other.own_bytes) for other in self._workers()]
        known = [(node, nbytes) for node, nbytes in memory if nbytes is not None]
        return Circumstances(
            hang=hang,
            process=process_facts(supervisor.pid) if supervisor.pid is not None else None,
            oom=self._memory.facts(),
            memory=sorted(known, key=lambda item: -item[1]),
            shm_free_bytes=free_shared_memory(),
            shm_need_bytes=self._shm_need_bytes,
        )

    def close(self) -> None:
        """Give everything back; the workers must be gone."""
        if self.home is not None:
            self.home.give_back()
        for page in list(self.served):
            page.close()
        for part in (self.rounds, self._spares, self.observers, self._launcher, self.control, self.waiter):
            if part is not None:  # else the start has not got there
                part.close()
        self.fabric.close()
        self.directory.close()

    def abandon(self, pool: str, portal: Portal) -> None:
        """The pool was not closed: at its collection, or at the end of the interpreter."""
        if os.getpid() != self.owner_pid:
            return
        try:
            warnings.warn(f"{pool} was never closed: its workers are killed", ResourceWarning, stacklevel=2)
        finally:  # a warning may have been made an error
            self.give_up(portal)

    def give_up(self, portal: Portal) -> None:
        """Kill what runs, and give everything back, without asking anybody and without waiting for the loop."""
        portal.close(self._release)

    def _release(self) -> None:
        for slot in self.slots.values():
            slot.kill_now()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.close()


def weakly(method: Any) -> Any:
    """`method` without keeping its object alive: a pool that nobody holds any more must be collected, and finalized."""
    reference = weakref.WeakMethod(method)

    @functools.wraps(method.__func__)
    def call(*args: Any) -> Any:
        bound = reference()
        return bound(*args) if bound is not None else None

    return call
