"""The fork server, from inside: a process that has imported what every worker needs, and becomes one by forking.

It has no thread, no socket but those of workers/fork_protocol.py, and nothing of ZeroMQ or iceoryx2: a fork copies
neither threads nor what belongs to them, and copies of iceoryx2's objects would remove the files of the original.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from remotemedia.workers import fork_protocol
from remotemedia.workers.child import own_limits as _imported_beforehand  # noqa: F401
from remotemedia.workers.child import parent_watch
from remotemedia.workers.child import worker as _imported_as_well  # noqa: F401
from remotemedia.workers.fork_protocol import Answer, Ended, Here, Order, Refused, Started

_NAME = "rm-fork-server"
_COMM = Path("/proc/self/comm")
_NOT_HEARD = (signal.SIGINT, signal.SIGTERM)
"""Who stops a service may send these to every process of it. The server ends when the coordinator is done with it. They
are blocked, not ignored: what is sent to a new process before it has unblocked them is not lost.
"""


def serve(control: int, coordinator_pid: int) -> dict[str, Any]:
    """Fork whenever the coordinator asks for it. Returns in the new processes, with what that is to go on as; the
    server itself ends in here. `control`: the descriptor of its socket.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_HEARD)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a host that ignores it has no zombies, and no exit statuses
    parent_watch.follow(coordinator_pid)
    own_name = _COMM.read_text().rstrip("\n")
    _COMM.write_text(_NAME)  # as `ps` and `top` show it
    os.chdir("/")  # no reason to keep the host's directory
    problem = _lose_threads()
    gc.freeze()  # what is here now is for all: no collection in a worker touches, and thereby copies, its pages
    boot = _Server(control, problem).run()
    _COMM.write_text(own_name)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return boot


def _lose_threads() -> str | None:
    """Numerical libraries start threads when they are imported, end them before a fork (pthread_atfork), and start them
    again when they need them. Gives what is wrong if others are left: a copy of this process could not be trusted.
    """
    first = os.fork()
    if not first:
        os._exit(0)
    os.waitpid(first, 0)
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return f"something that it has imported runs threads ({', '.join(names)})" if len(names) > 1 else None


class _Server:
    def __init__(self, control: int, problem: str | None) -> None:
        """`problem`: why it must not fork."""
        self._control, self._problem = control, problem
        self._lost: list[int] = []
        """Processes that nobody asks for: whoever wanted them was interrupted. They see that, too, and end."""
        self._workers: dict[int, int] = {}
        """The server's end of the line of each → its pid. Bare numbers: in a copy nothing may close them later on."""
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)

    def run(self) -> dict[str, Any]:
        while True:
            for fd, _ in self._poller.poll():
                if fd != self._control:
                    self._hear(fd)
                elif (boot := self._take_request()) is not None:
                    return boot

    # -- a new process -------------------------------------------------------------------------------------------------

    def _take_request(self) -> dict[str, Any] | None:
        """Do what is asked for; what to go on as, in a process that has just been forked."""
        with _borrowed(self._control) as control:
            request = fork_protocol.receive_request(control)
        if request is None:
            os._exit(0)  # the coordinator is done, or dead: the kernel tells what workers there are
        self._lost = [pid for pid in self._lost if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None]
        count, fds = request
        if not fds:
            return None  # no room for any; who asked sees that the line is closed
        line, *others = fds
        if len(fds) < count:
            _answer(line, Refused(errno.EMFILE, "the fork server has too few file descriptors"))
        elif not others:
            _answer(line, Refused(0, self._problem) if self._problem else Here())
        elif (boot := self._fork(line, others)) is not None:
            return boot
        for fd in others if line in self._workers else fds:
            os.close(fd)
        return None

    def _fork(self, line: int, others: list[int]) -> dict[str, Any] | None:
        try:
            pid = os.fork()
        except OSError as error:
            _answer(line, Refused(error.errno or errno.EAGAIN, error.strerror or str(error)))
            return None
        if not pid:
            return self._become(line, *others)
        with suppress(OSError):  # both do it, because neither knows who is first; it may have ended
            os.setpgid(pid, pid)
        self._workers[line] = pid
        self._poller.register(line, select.POLLIN)
        _answer(line, Started(pid))
        return None

    def _become(self, line: int, order_fd: int, directory: int, *descriptors: int) -> dict[str, Any]:
        """In the new process: make it what a spawned interpreter would be, with the imports done."""
        os.setpgid(0, 0)
        order = Order.from_bytes(os.pread(order_fd, os.fstat(order_fd).st_size, 0))  # its offset is the writer's
        os.fchdir(directory)
        for fd in (self._control, *self._workers, line, order_fd, directory):
            os.close(fd)
        fork_protocol.renumber(descriptors, order.numbers)
        if order.environment != os.environ:
            os.environ.clear()
            os.environ.update(order.environment)
        importlib.invalidate_caches()  # directories may have changed
        if (random := sys.modules.get("numpy.random")) is not None:
            random.seed()  # else all workers would draw the same numbers; the module `random` sees to that itself
        return order.boot

    # -- the end of a process ------------------------------------------------------------------------------------------

    def _hear(self, line: int) -> None:
        word = b""
        with suppress(ConnectionResetError):
            word = os.read(line, 1)
        pid = self._workers.pop(line)
        self._poller.unregister(line)
        if word == fork_protocol.KILL:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        if word:
            result = os.waitid(os.P_PID, pid, os.WEXITED)
            assert result is not None
            _answer(line, Ended(result.si_code, result.si_status))
        else:
            self._lost.append(pid)
        os.close(line)


class _borrowed:  # noqa: N801 - used like a function
    """A socket object for a descriptor that stays open."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.detach()


def _answer(line: int, answer: Answer) -> None:
    with suppress(OSError):  # nobody waits for it any more
        os.write(line, fork_protocol.encode(answer))
