"""Warm spares: processes that have done their imports and wait to become the next generation of whatever worker dies.

Without a fork server, starting an interpreter and importing takes most of the time of a restart; with one, a spare
saves the fork. It inherits the descriptors of every worker of the pool, and is told which one it is through a pipe that
only the coordinator can write to.
"""

from __future__ import annotations

import asyncio
import logging
import marshal
import os
from collections.abc import Callable, Sequence

from remotemedia.config import WorkerLimits
from remotemedia.workers.boot import MARSHAL_VERSION, BootSpec
from remotemedia.workers.launcher import Launcher
from remotemedia.workers.process import ExitStatus, WorkerProcess
from remotemedia.workers.rundir import PoolDir

_logger = logging.getLogger("remotemedia.supervisor")


class Spare:
    """One process that waits. Whoever takes it owns its process and its parent pipe."""

    def __init__(self, process: WorkerProcess, parent_pipe: int, parent_fd: int, orders: int) -> None:
        self.process = process
        self.parent_pipe = parent_pipe
        """Our end: the process learns of our death by it."""
        self.parent_fd = parent_fd
        """Its end, as its number there."""
        self._orders = orders

    def become(self, spec: BootSpec) -> bool:
        """Tell it which worker it is; False: it has ended meanwhile, or is about to."""
        data = marshal.dumps(spec.to_builtins(), MARSHAL_VERSION)
        orders, self._orders = self._orders, -1
        try:
            with os.fdopen(orders, "wb") as pipe:
                pipe.write(data)
        except BrokenPipeError:
            return False
        return not self.process.is_lost

    def kill_now(self) -> None:
        """Kill and reap it, without the loop."""
        self.process.on_exit = None
        self.process.kill_now()
        self.process.close_pipes()
        for fd in (self._orders, self.parent_pipe):
            if fd >= 0:
                os.close(fd)
        self._orders = self.parent_pipe = -1


class Spares:
    """Keeps so many spares ready."""

    def __init__(
        self,
        count: int,
        launcher: Launcher,
        fds: Callable[[], Sequence[int]],
        directory: PoolDir,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`fds`: what any worker of the pool may need."""
        self._count, self._launcher = count, launcher
        self._fds, self._directory, self._loop = fds, directory, loop
        self._waiting: list[Spare] = []
        self._closed = False

    def fill(self) -> None:
        """Start what is missing. One that cannot be started now is tried again when the next one is taken."""
        while not self._closed and len(self._waiting) < self._count:
            try:
                self._waiting.append(self._start())
            except OSError as error:
                _logger.warning("a spare worker could not be started: %s", error)
                return

    def _start(self) -> Spare:
        parent_end, parent_pipe = os.pipe2(os.O_CLOEXEC)
        orders_end, orders = os.pipe2(os.O_CLOEXEC)
        try:
            fds = (parent_end, orders_end, *self._fds())
            process = self._launcher.launch({"orders_fd": orders_end}, fds, WorkerLimits(), self._on_exit)
        except OSError:
            os.close(parent_pipe)
            os.close(orders)
            raise
        finally:
            os.close(parent_end)
            os.close(orders_end)
        self._directory.record_worker(process.pid)
        return Spare(process, parent_pipe, parent_end, orders)

    def _on_exit(self, _status: ExitStatus) -> None:
        """One has ended while it waited."""
        for spare in [spare for spare in self._waiting if spare.process.status is not None]:
            self._waiting.remove(spare)
            self._directory.forget_worker(spare.process.pid)
            spare.kill_now()

    def take(self) -> Spare | None:
        """One that waits, if there is one; another is started as soon as the loop has time."""
        self._loop.call_soon(self.fill)
        return self._waiting.pop(0) if self._waiting else None

    def close(self) -> None:
        """Kill those that wait."""
        self._closed = True
        while self._waiting:
            spare = self._waiting.pop()
            spare.kill_now()
            self._directory.forget_worker(spare.process.pid)
