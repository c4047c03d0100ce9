"""Everything of a running pool that must be given back, in one object that holds no reference to the pool."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import warnings
import weakref
from typing import Any

from remotemedia.config import PoolConfig
from remotemedia.workers import rundir
from remotemedia.workers.event_bus import EventBus
from remotemedia.workers.fabric import Fabric
from remotemedia.workers.loop_waiter import LoopWaiter
from remotemedia.workers.plan import Plan
from remotemedia.workers.supervisor import Supervisor

_POOL_FDS, _WORKER_FDS = 36, 8
"""Descriptors that a started pool holds in the coordinator, measured: 26 + 8 per worker, 4 more when slots grow."""


class Parts:
    """Everything of a running pool that must be given back; holds no reference to the pool."""

    def __init__(self, plan: Plan, config: PoolConfig, events: EventBus) -> None:
        self.owner_pid = os.getpid()
        self.supervisors: dict[int, Supervisor] = {}
        self.control: Any = None
        self.session_names: dict[int, str] = {}
        """Of the sessions that are under way, by number: for workers that start while they are."""
        self.events = events
        self.waiter: LoopWaiter | None = None
        self.directory = rundir.PoolDir.create(config.runtime_dir)
        try:
            self.fabric = Fabric(plan, config.channel)
        except BaseException:
            self.directory.close()
            raise

    def open_control(self, loop: asyncio.AbstractEventLoop, on_message: Any) -> None:
        from remotemedia.ipc.control import ControlServer, require_free_fds

        # All that the start will take, now: were they to run out later, a worker that connects would end this process.
        count = len(self.fabric.boards)
        require_free_fds(_POOL_FDS + _WORKER_FDS * count, f"a pool of {count} nodes")
        self.control = ControlServer(self.directory.socket_path, weakly(on_message), loop)

    def close(self) -> None:
        """Give everything back; the workers must be gone."""
        if self.control is not None:
            self.control.close()
        if self.waiter is not None:
            self.waiter.close()
        self.fabric.close()
        self.directory.close()

    def abandon(self, pool: str) -> None:
        """The pool was not closed: at its collection, or at the end of the interpreter."""
        if os.getpid() != self.owner_pid:
            return
        warnings.warn(f"{pool} was never closed: its workers are killed", ResourceWarning, stacklevel=2)
        for supervisor in self.supervisors.values():
            supervisor.kill_now()
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
