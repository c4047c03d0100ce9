"""Starts the processes of a pool: forked by the fork server, or as interpreters of their own."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.workers import fork_server
from remotemedia.workers.boot import write_boot_fd
from remotemedia.workers.commands import boot_data, command, environment
from remotemedia.workers.fork_protocol import MOST_FDS, STDERR, STDOUT
from remotemedia.workers.fork_server import ForkServer, ForkServerLost
from remotemedia.workers.forked_process import ForkedProcess
from remotemedia.workers.process import ExitStatus, WorkerProcess

_logger = logging.getLogger("remotemedia.supervisor")

OnExit = Callable[[ExitStatus], None]


class Launcher:
    """Starts what the pool of one event loop asks for. Where a fork server cannot help, it does without."""

    def __init__(self, config: PoolConfig, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to start the fork server, if there is to be one."""
        self._config, self._loop = config, loop
        self._server: ForkServer | None = None
        if config.start == "fork_server":
            try:
                self._server = fork_server.use(config)
            except OSError as error:  # logged as text: who keeps records must not keep the pool with them
                _logger.warning("the fork server could not be started, workers are started without: %s", str(error))

    @property
    def server_pid(self) -> int | None:
        return self._server.pid if self._server is not None else None

    def forks(self, limits: WorkerLimits) -> bool:
        """Whether a worker with these limits comes from the fork server: not if they must be there before the imports,
        because numerical libraries look at the processors and the environment when they are imported.
        """
        return self._server is not None and not limits.environment and limits.cpu_affinity is None

    async def ready(self) -> None:
        """Returns when the fork server can fork, or is given up."""
        if self._server is not None:
            try:
                await self._server.ready(self._loop, self._config.timeouts.hello_s)
            except ForkServerLost as error:
                self._do_without(str(error))

    def launch(
        self, what: Mapping[str, Any], fds: Sequence[int], limits: WorkerLimits, on_exit: OnExit
    ) -> WorkerProcess:
        """Start a process that is `what` (see boot_data) and has `fds` under the same numbers as here.

        Raises OSError (EMFILE, EAGAIN, ENOENT, ...) if it cannot start.
        """
        if self._server is not None and self.forks(limits) and len(fds) <= MOST_FDS - STDERR:
            try:
                return self._fork(self._server, what, fds, on_exit)
            except ForkServerLost as error:
                self._do_without(str(error))
            except OSError as error:
                _logger.debug("no fork, an interpreter of its own: %s", str(error))
        return self._spawn(what, fds, limits, on_exit)

    def _fork(
        self, server: ForkServer, what: Mapping[str, Any], fds: Sequence[int], on_exit: OnExit
    ) -> WorkerProcess:
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for _ in (STDOUT, STDERR):
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
                ours.append(read_end)
                theirs.append(write_end)
            descriptors = {STDOUT: theirs[0], STDERR: theirs[1], **{fd: fd for fd in fds}}
            pid, line = server.fork(boot_data(server.pid, **what), environment(WorkerLimits()), descriptors)
            stdout, stderr = (open(fd, "rb", buffering=0) for fd in ours)  # noqa: PTH123, SIM115 - the process's
            ours.clear()
            try:
                return ForkedProcess(pid, line, stdout, stderr, self._loop, on_exit)
            except OSError:
                stdout.close()
                stderr.close()
                raise
        finally:
            for fd in (*ours, *theirs):
                os.close(fd)

    def _spawn(
        self, what: Mapping[str, Any], fds: Sequence[int], limits: WorkerLimits, on_exit: OnExit
    ) -> WorkerProcess:
        boot_fd = write_boot_fd(boot_data(os.getpid(), **what))
        try:
            return WorkerProcess.spawn(
                [*command(self._config), str(boot_fd)],
                env=environment(limits),
                loop=self._loop,
                pass_fds=(boot_fd, *fds),
                on_exit=on_exit,
            )
        finally:
            os.close(boot_fd)

    def _do_without(self, why: str) -> None:
        _logger.warning("%s: workers of this pool are started without from now on", why)
        self.close()

    def close(self) -> None:
        """Leave the fork server; the processes that it forked must be gone, or are lost. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            fork_server.leave(server)
