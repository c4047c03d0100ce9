"""One subprocess: started, watched and killed from an event loop, without asyncio's child watchers.

Its end is noticed through a pidfd in the loop (a waiting thread where pidfds are not permitted): that works the same
under asyncio and uvloop, installs no signal handler, and needs none.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

KILL_WAIT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ExitStatus:
    """How a process ended: with exit `code`, or by `signal` ("SIGSEGV"); neither if somebody else has reaped it.

    `with_server`: nobody can tell, because the fork server that it was a child of has ended as well.
    """

    code: int | None = None
    signal: str | None = None
    with_server: bool = False

    @property
    def reaped_elsewhere(self) -> bool:
        return self.code is None and self.signal is None

    def __str__(self) -> str:
        if self.with_server:
            return "exit status unknown (its fork server has ended)"
        return self.signal or ("exit status unknown (reaped elsewhere)" if self.code is None else f"exit {self.code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"signal {number}"


class WorkerProcess:
    """A running subprocess with a process group of its own. Use it from its loop's thread.

    `pid`; `stdout` and `stderr`: unbuffered pipes, whoever reads them closes them; `status`: an ExitStatus once it has
    ended, None before. When it ends, what is left of its process group is killed, and it is reaped.
    """

    def __init__(
        self,
        pid: int,
        stdout: IO[bytes],
        stderr: IO[bytes],
        loop: asyncio.AbstractEventLoop,
        on_exit: Callable[[ExitStatus], None] | None,
        popen: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Watch a child of this process; use `spawn`. (Children of a fork server: see ForkedProcess.)"""
        self._popen, self._loop = popen, loop
        self.on_exit = on_exit
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.status: ExitStatus | None = None
        self._ended: asyncio.Future[ExitStatus] = loop.create_future()
        self._pidfd: int | None = None
        self._waiter: threading.Thread | None = None
        self._watch()

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
        pass_fds: Sequence[int] = (),
        cwd: str | None = None,
        on_exit: Callable[[ExitStatus], None] | None = None,
    ) -> WorkerProcess:
        """Start `argv` with exactly the environment `env` and, beside stdin (null), stdout and stderr, only `pass_fds`.

        To be called in the loop's thread: a death signal that the child asks for is tied to the thread that started it.
        `on_exit(status)` is called once, in the loop. Raises OSError (EMFILE, EAGAIN, ENOENT, ...) if it cannot start.
        """
        popen = subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            close_fds=True,
            process_group=0,
        )
        assert popen.stdout is not None
        assert popen.stderr is not None
        return cls(popen.pid, popen.stdout, popen.stderr, loop, on_exit, popen)

    @property
    def is_lost(self) -> bool:
        """Whether it has ended, or is sure to end at once."""
        return self.status is not None

    async def wait(self) -> ExitStatus:
        """Wait until it has ended. A cancelled wait does no harm to others."""
        return await asyncio.shield(self._ended)

    # -- watching ------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # not permitted (seccomp), not known (old kernel), reaped by the host already
            self._waiter = threading.Thread(target=self._wait_in_thread, name=f"wait-{self.pid}", daemon=True)
            self._waiter.start()
        else:
            self._loop.add_reader(self._pidfd, self._reap)

    def _wait_in_thread(self) -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed: kill_now() does the rest
            self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        if self.status is not None:
            return
        which = (os.P_PID, self.pid) if self._pidfd is None else (os.P_PIDFD, self._pidfd)
        result: Any = None
        try:
            if os.waitid(*which, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
            # While it is a zombie nobody else can get its number, nor its group's.
            self._kill_group()
            result = os.waitid(*which, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            pass  # the host reaps all children itself, or ignores SIGCHLD
        self._finish(ExitStatus() if result is None else exit_status(result.si_code, result.si_status))

    def _finish(self, status: ExitStatus) -> None:
        self.status = status
        # So that Popen neither waits for, nor signals, nor warns about a process that is gone.
        if self._popen is not None:
            self._popen.returncode = 0 if status.code is None else status.code
        alive = not self._loop.is_closed()
        if self._pidfd is not None:
            if alive:
                self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if alive:
            self._ended.set_result(status)
            if self.on_exit is not None:
                self._loop.call_soon(self.on_exit, status)

    # -- ending --------------------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); its helpers are not asked. Nothing happens if it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and its process group (SIGKILL). Nothing happens if it has ended."""
        if self.status is None:
            self._kill_group()
            self.send_signal(signal.SIGKILL)

    def kill_now(self) -> ExitStatus | None:
        """Kill and reap without the loop, for finalizers; None if it does not die in 5 s (asleep in the kernel)."""
        self.kill()
        if self.status is None:
            if self._pidfd is not None:
                poller = select.poll()
                poller.register(self._pidfd, select.POLLIN)
                poller.poll(KILL_WAIT_S * 1000)
            elif self._waiter is not None:
                self._waiter.join(KILL_WAIT_S)
            self._reap()
        return self.status

    def close_pipes(self) -> None:
        """Close stdout and stderr, for when nobody else has taken them over. Idempotent."""
        self.stdout.close()
        self.stderr.close()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it alone. Nothing happens if it has ended: the number may be another process's by then."""
        if self.status is not None:
            return
        with suppress(ProcessLookupError):  # ended just now
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody left, or only members that changed their user
            os.killpg(self.pid, signal.SIGKILL)


def exit_status(si_code: int, si_status: int) -> ExitStatus:
    """From what waitid(2) tells of a process that has ended."""
    if si_code == os.CLD_EXITED:
        return ExitStatus(code=si_status)
    return ExitStatus(signal=_signal_name(si_status))
