"""A worker that came from a fork server: watched and killed like any other, but reaped by its parent, the server."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from remotemedia.workers import fork_protocol
from remotemedia.workers.fork_protocol import Answer, Ended
from remotemedia.workers.process import KILL_WAIT_S, ExitStatus, WorkerProcess, exit_status

_TOLD_S = 2.0
"""How long the server may take to say how a process ended: no death goes unnoticed because the server is stopped."""


class ForkedProcess(WorkerProcess):
    """Its end is seen by a pidfd; what is left of its group is killed then, and the server is told to reap it and says
    how it ended. So its number is never signalled when it may be another process's.

    If the server ends, its workers do: the kernel sends them the death signal, and here they are killed at once.
    """

    def __init__(
        self,
        pid: int,
        line: socket.socket,
        stdout: IO[bytes],
        stderr: IO[bytes],
        loop: asyncio.AbstractEventLoop,
        on_exit: Callable[[ExitStatus], None] | None,
    ) -> None:
        """`line`: from the server, about this process; ours from now on. Raises OSError where there can be no pidfd;
        the process is killed then.
        """
        self._line = line
        self._asked = False
        """The server was told to reap it: its number may be anybody's."""
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._opened = os.pidfd_open(pid)  # of this very process: nobody reaps it before we ask for it
        except OSError:
            with line:
                line.send(fork_protocol.KILL)
            raise
        super().__init__(pid, stdout, stderr, loop, on_exit)

    def _watch(self) -> None:
        self._pidfd = self._opened
        self._loop.add_reader(self._opened, self._reap)
        self._loop.add_reader(self._line.fileno(), self._hear)

    def _reap(self) -> None:
        self._loop.remove_reader(self._opened)
        self._ask()
        if self.status is None:
            self._timer = self._loop.call_later(_TOLD_S, self._finish, ExitStatus())

    def _ask(self) -> None:
        """It has ended: have it reaped."""
        if self._asked or self.status is not None:
            return
        self._kill_group()  # while it is a zombie nobody else can get its number, nor its group's
        self._asked = True
        try:
            self._line.send(fork_protocol.REAP)
        except OSError:
            self._finish(ExitStatus(with_server=True))

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            self._settle(fork_protocol.receive_answer(self._line))

    def _settle(self, answer: Answer | None) -> None:
        if isinstance(answer, Ended):
            self._finish(exit_status(answer.si_code, answer.si_status))
        elif self._asked:
            self._finish(ExitStatus(with_server=True))
        else:  # the server has ended; the pidfd tells the rest
            self._loop.remove_reader(self._line.fileno())
            self.kill()

    def _finish(self, status: ExitStatus) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._line.fileno())
        self._line.close()
        super()._finish(status)

    @property
    def is_lost(self) -> bool:
        """Whether it has ended, or is sure to end at once, because its server has."""
        return self.status is not None or self._server_has_ended()

    def _kill_group(self) -> None:
        # The children of a server that has ended are reaped by whoever takes them over, at any time.
        if not self._asked and not (self._server_has_ended() and self._has_ended(0.0)):
            super()._kill_group()

    def _server_has_ended(self) -> bool:
        """The kernel closes what a process has open before it gives its children away."""
        try:
            return not self._line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def kill_now(self) -> ExitStatus | None:
        """Kill and reap without the loop, for finalizers; None if it does not die in 5 s (asleep in the kernel)."""
        self.kill()
        if self.status is None and self._has_ended(KILL_WAIT_S):
            self._ask()
        if self.status is None and self._asked:
            self._line.settimeout(_TOLD_S)
            try:
                self._settle(fork_protocol.receive_answer(self._line))
            except TimeoutError:  # the server is stopped
                self._finish(ExitStatus())
        return self.status

    def _has_ended(self, within_s: float) -> bool:
        poller = select.poll()
        poller.register(self._opened, select.POLLIN)
        return bool(poller.poll(within_s * 1000))


__all__ = ["ForkedProcess"]
