"""The fork server, from outside: one process of this one, shared by its pools, from which workers are forked.

A fork takes a millisecond, where a new interpreter and its imports take some hundred. The server lives as long as a
pool uses it, or somebody keeps it (`keep_fork_server`), and leaves with the last of them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.workers import fork_protocol
from remotemedia.workers.boot import sealed_fd, write_boot_fd
from remotemedia.workers.commands import boot_data, command, environment
from remotemedia.workers.fork_protocol import Order, Refused, Started

_ANSWER_S = 10.0
"""How long a server that is up may take for one fork. Longer, and it is stopped, or worse."""
_END_S = 5.0

_READ_AT_START = (
    "PYTHON", "LD_", "GLIBC_", "MALLOC_", "LANG", "LC_", "TZ",
    "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "NPY_", "NUMPY_",
)  # fmt: skip
"""Beginnings of variables that the interpreter, libc, or a library that a worker imports reads once."""
_INHERITED = ("Umask:", "Uid:", "Gid:", "Groups:", "SigBlk:", "SigIgn:", "Cap", "NoNewPrivs:", "Cpus_allowed_list:")


class ForkServerLost(Exception):  # noqa: N818 - named for what happened
    """The fork server has ended, does not answer and was killed, or cannot do its work. The text says it."""


class ForkServer:
    """A running fork server. `fork` may be called in any thread.

    `pid`; `users`: how many hold it, see `use` and `leave`.
    """

    def __init__(self, argv: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start it; it can fork when `ready` returns. Raises OSError."""
        self.users = 0
        self._control, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        boot_fd = -1
        try:
            boot_fd = write_boot_fd(boot_data(os.getpid(), control_fd=its_end.fileno()))
            self._process = subprocess.Popen(
                [*argv, str(boot_fd)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what keeps it from starting keeps a worker from it, too: that one tells
                env=dict(variables),
                pass_fds=(boot_fd, its_end.fileno()),
                close_fds=True,
                process_group=0,
            )
        except OSError:
            self._control.close()
            raise
        finally:
            its_end.close()
            if boot_fd >= 0:
                os.close(boot_fd)
        self.pid = self._process.pid
        _running.add(self)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    async def ready(self, loop: asyncio.AbstractEventLoop, within_s: float) -> None:
        """Wait until it can fork. Raises ForkServerLost that says why it cannot, and OSError (EMFILE)."""
        line, its_end = _line()
        heard = asyncio.Event()
        with line:
            with its_end:
                self._request([its_end.fileno()])
            loop.add_reader(line.fileno(), heard.set)
            try:
                async with asyncio.timeout(within_s):
                    await heard.wait()
            except TimeoutError:
                self._process.kill()
                raise ForkServerLost(f"the fork server (pid {self.pid}) was not ready after {within_s:g} s") from None
            finally:
                loop.remove_reader(line.fileno())
            answer = fork_protocol.receive_answer(line)
        if isinstance(answer, Refused):
            raise ForkServerLost(f"the fork server (pid {self.pid}) must not fork: {answer.text}")
        if answer is None:
            raise self._gone()

    def fork(
        self, boot: dict[str, Any], variables: Mapping[str, str], descriptors: Mapping[int, int]
    ) -> tuple[int, socket.socket]:
        """A new process: its pid, and the line on which the server tells of it, which the caller closes.

        `descriptors`: what it has, by the numbers under which it has them. Raises OSError if there can be no new
        process or no descriptor, ForkServerLost.
        """
        line, its_end = _line()
        opened: list[int] = []
        try:
            with its_end:
                order = Order(boot, variables, tuple(descriptors))
                opened.append(sealed_fd("order", order.to_bytes()))
                opened.append(os.open(".", os.O_PATH | os.O_CLOEXEC))
                self._request([its_end.fileno(), *opened, *descriptors.values()])
            return self._heard_pid(line), line
        except BaseException:
            line.close()
            raise
        finally:
            for fd in opened:
                os.close(fd)

    def _heard_pid(self, line: socket.socket) -> int:
        line.settimeout(_ANSWER_S)
        try:
            answer = fork_protocol.receive_answer(line)
        except TimeoutError:
            self._process.kill()
            raise ForkServerLost(f"the fork server (pid {self.pid}) did not answer for {_ANSWER_S:g} s") from None
        finally:
            line.settimeout(0.0)
        match answer:
            case Started(pid):
                return pid
            case Refused(number, text):
                raise OSError(number, text)
        raise self._gone()

    def _gone(self) -> ForkServerLost:
        return ForkServerLost(f"the fork server (pid {self.pid}) has ended")

    def _request(self, descriptors: Sequence[int]) -> None:
        """One message: a send of this kind is whole or not at all, whatever other threads send."""
        try:
            socket.send_fds(self._control, [bytes([len(descriptors)])], list(descriptors))
        except ConnectionError as error:
            raise self._gone() from error

    def close(self) -> None:
        """Let it end, and wait for that. Its workers must be gone."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # unlike close(), it tells although forked copies hold the socket
        self._control.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _running.discard(self)

    def forget(self) -> None:
        """In a forked copy of this process: it is not ours."""
        self._control.close()
        self._process.returncode = 0  # nobody waits for it here


def _line() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


# -- who uses which ----------------------------------------------------------------------------------------------------

_running: weakref.WeakSet[ForkServer] = weakref.WeakSet()
_shared: dict[object, ForkServer] = {}
_lock = threading.Lock()


def use(config: PoolConfig) -> ForkServer:
    """The server for workers that this process would start now, a new one if there is none. Raises OSError."""
    argv, variables = command(config), environment(WorkerLimits())
    key = _what_it_passes_on(argv, variables)
    with _lock:
        server = _shared.get(key)
        if server is None or server.has_ended:
            server = _shared[key] = ForkServer(argv, variables)
        server.users += 1
        return server


def leave(server: ForkServer) -> None:
    """The other end of `use`: the last one takes the server along."""
    with _lock:
        server.users -= 1
        if server.users:
            return
        for key in [key for key, other in _shared.items() if other is server]:
            del _shared[key]
    server.close()


@contextmanager
def keep_fork_server(config: PoolConfig | None = None) -> Iterator[None]:
    """Keep the fork server running between one pool and the next: `with keep_fork_server(): ...`.

    For programs that open pools, or call `execute_pipeline`, again and again: each start takes some ten milliseconds
    then. Without it the server ends with the last pool that uses it. `config`: of the pools, for another interpreter.
    Raises OSError if it cannot be started.
    """
    server = use(config or PoolConfig())
    try:
        yield
    finally:
        leave(server)


def _what_it_passes_on(argv: Sequence[str], variables: Mapping[str, str]) -> object:
    """All that a child has from its parent and that cannot be given to it later: who differs here needs another server.

    Beside this there are the working directory and the other variables of the environment, which come with each order.
    """
    early = sorted(item for item in variables.items() if item[0].startswith(_READ_AT_START))
    status = Path("/proc/thread-self/status").read_text().splitlines()
    facts = [line for line in status if line.startswith(_INHERITED)]
    others = [Path("/proc/self", name).read_text() for name in ("limits", "cgroup", "oom_score_adj")]
    return (tuple(argv), tuple(early), tuple(facts), tuple(others), os.getpriority(os.PRIO_PROCESS, 0))


def _in_forked_copy() -> None:
    global _lock  # noqa: PLW0603 - another thread of the original may hold it
    _lock = threading.Lock()
    _shared.clear()
    for server in list(_running):
        server.forget()


os.register_at_fork(after_in_child=_in_forked_copy)
