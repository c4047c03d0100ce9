"""Processes that come from a fork server: every way to end, watched from both kinds of event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.workers import fork_server, forked_process, launcher
from remotemedia.workers.commands import boot_data, environment
from remotemedia.workers.forked_process import ForkedProcess
from remotemedia.workers.launcher import Launcher
from remotemedia.workers.process import ExitStatus, WorkerProcess


class Waiting:
    """A process that does nothing until it is told, and a pipe to tell it that it is not needed."""

    def __init__(self, launcher: Launcher, on_exit: Callable[[ExitStatus], None] = lambda _: None) -> None:
        its_end, self.orders = os.pipe2(os.O_CLOEXEC)
        try:
            process = launcher.launch({"orders_fd": its_end}, [its_end], WorkerLimits(), on_exit)
        except BaseException:
            os.close(self.orders)
            raise
        finally:
            os.close(its_end)
        assert isinstance(process, ForkedProcess)
        self.process = process

    def let_go(self) -> None:
        if self.orders >= 0:
            os.close(self.orders)
            self.orders = -1

    async def ended(self) -> ExitStatus:
        status = await self.process.wait()
        self.close()
        return status

    def close(self) -> None:
        self.let_go()
        self.process.close_pipes()


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that is the test's own, to be killed."""
    monkeypatch.setattr(fork_server, "_shared", {})
    yield
    assert fork_server._shared == {}


async def ready() -> Launcher:
    made = Launcher(PoolConfig(), asyncio.get_running_loop())
    await made.ready()
    assert made.server_pid is not None
    return made


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("number", "expected", "text"),
    [
        (None, ExitStatus(code=0), "exit 0"),
        (signal.SIGKILL, ExitStatus(signal="SIGKILL"), "SIGKILL"),
        (signal.SIGSEGV, ExitStatus(signal="SIGSEGV"), "SIGSEGV"),
        (signal.SIGTERM, ExitStatus(signal="SIGTERM"), "SIGTERM"),
        (36, ExitStatus(signal="SIGRTMIN+2"), "SIGRTMIN+2"),
    ],
)
async def test_every_end_has_its_name_and_is_reaped(number, expected, text, loop_kind) -> None:
    made = await ready()
    called: asyncio.Queue[ExitStatus] = asyncio.Queue()
    waiting = Waiting(made, called.put_nowait)
    assert os.getpgid(waiting.process.pid) == waiting.process.pid
    if number is None:
        waiting.let_go()
    else:
        os.kill(waiting.process.pid, number)
    status = await waiting.ended()
    assert (status, str(status), await called.get()) == (expected, text, expected)
    assert not is_there(waiting.process.pid)
    waiting.process.kill()
    waiting.process.terminate()
    assert waiting.process.kill_now() == expected
    assert called.empty()
    made.close()


async def test_a_stopped_process_can_be_killed_and_needs_no_loop_for_it(loop_kind) -> None:
    made = await ready()
    called: list[ExitStatus] = []
    waiting = Waiting(made, called.append)
    os.kill(waiting.process.pid, signal.SIGSTOP)
    assert waiting.process.kill_now() == ExitStatus(signal="SIGKILL")
    assert called == []
    assert not is_there(waiting.process.pid)
    await asyncio.sleep(0)
    assert called == [waiting.process.status]
    waiting.close()
    made.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_killing_now_works_after_the_loop_is_closed(new_loop) -> None:
    async def start() -> tuple[Launcher, Waiting]:
        made = await ready()
        return made, Waiting(made)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        made, waiting = runner.run(start())
    assert waiting.process.kill_now() == ExitStatus(signal="SIGKILL")
    waiting.close()
    made.close()


def wait_for_end(pid: int) -> None:
    """Blocks the loop."""
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll()
    os.close(pidfd)


async def test_its_end_while_the_loop_is_busy_is_seen_once(loop_kind) -> None:
    """A zombie that is killed again, and asked for twice."""
    made = await ready()
    called: asyncio.Queue[ExitStatus] = asyncio.Queue()
    waiting = Waiting(made, called.put_nowait)
    os.kill(waiting.process.pid, signal.SIGABRT)
    wait_for_end(waiting.process.pid)
    waiting.process.kill()
    assert waiting.process.kill_now() == ExitStatus(signal="SIGABRT")
    assert await waiting.ended() == await called.get() == ExitStatus(signal="SIGABRT")
    made.close()


async def test_what_nobody_took_over_is_reaped_all_the_same() -> None:
    """Who wanted it was interrupted, say."""
    loop = asyncio.get_running_loop()
    server = fork_server.use(PoolConfig())
    await server.ready(loop, 30.0)
    read_end, write_end = os.pipe()
    boot = boot_data(server.pid, orders_fd=read_end)
    pid, line = server.fork(boot, environment(WorkerLimits()), {1: write_end, 2: write_end, read_end: read_end})
    line.close()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    for _ in range(2):  # the first answer may come before it has seen that the line is closed
        await server.ready(loop, 30.0)
    assert not is_there(pid)
    os.close(read_end)
    os.close(write_end)
    fork_server.leave(server)


def children_of(pid: int | None) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


# -- the server ends, or does not do its work --------------------------------------------------------------------------


async def test_the_end_of_the_server_is_that_of_its_processes(own_server, loop_kind) -> None:
    made = await ready()
    waiting = [Waiting(made) for _ in range(2)]
    os.kill(made.server_pid or 0, signal.SIGKILL)
    for one in waiting:
        status = await one.ended()
        assert (status.with_server, str(status)) == (True, "exit status unknown (its fork server has ended)")
        assert one.process.kill_now() == status
    made.close()


async def test_it_ends_without_a_loop_and_without_a_server(own_server) -> None:
    made = await ready()
    waiting = Waiting(made)
    os.kill(made.server_pid or 0, signal.SIGKILL)
    wait_for_end(made.server_pid or 0)
    status = waiting.process.kill_now()
    assert status is not None
    assert status.with_server
    waiting.close()
    made.close()


async def test_a_server_that_is_stopped_hides_no_death(own_server, monkeypatch, loop_kind) -> None:
    monkeypatch.setattr(forked_process, "_TOLD_S", 0.05)
    made = await ready()
    waiting = [Waiting(made) for _ in range(2)]
    os.kill(made.server_pid or 0, signal.SIGSTOP)
    os.kill(waiting[0].process.pid, signal.SIGKILL)
    assert await waiting[0].ended() == ExitStatus()
    assert waiting[1].process.kill_now() == ExitStatus()
    waiting[1].close()
    os.kill(made.server_pid or 0, signal.SIGCONT)
    made.close()


async def test_a_server_that_does_not_answer_is_killed_and_done_without(own_server, monkeypatch, caplog) -> None:
    monkeypatch.setattr(fork_server, "_ANSWER_S", 0.05)
    made = await ready()
    server = made.server_pid or 0
    os.kill(server, signal.SIGSTOP)
    await expect_started_without(made)
    assert not is_there(server)
    assert "did not answer for 0.05 s: workers of this pool are started without" in caplog.text
    made.close()


# -- there is no process -----------------------------------------------------------------------------------------------


async def test_a_process_that_cannot_be_watched_is_not_left_alone(monkeypatch) -> None:
    """Where pidfds are forbidden, processes are started without the server."""

    def not_permitted(pid: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    made = await ready()
    server = made.server_pid
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", not_permitted)
        await expect_started_without(made)
    # The server does one thing after the other: it has reaped the other one when this one is there.
    last = Waiting(made)
    last.process.kill_now()
    last.close()
    assert children_of(server) == ""
    made.close()


async def test_too_many_descriptors_for_a_message(monkeypatch) -> None:
    monkeypatch.setattr(launcher, "MOST_FDS", 2)
    made = await ready()
    await expect_started_without(made)
    made.close()


async def expect_started_without(made: Launcher) -> None:
    """A process that is not needed any more is started as an interpreter, and ends."""
    read_end, write_end = os.pipe()
    process = made.launch({"orders_fd": read_end}, [read_end], WorkerLimits(), lambda _: None)
    os.close(read_end)
    os.close(write_end)
    assert type(process) is WorkerProcess
    assert await process.wait() == ExitStatus(code=0)
    process.close_pipes()
