"""Subprocesses: every way to end, with and without pidfd, on both kinds of event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import textwrap
from collections.abc import Callable

import pytest
import uvloop

from remotemedia.workers import process as process_module
from remotemedia.workers.process import ExitStatus, WorkerProcess


@pytest.fixture(params=["pidfd", "thread"])
def watching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to notice an end: pidfds, and the thread for where they are not permitted."""
    if request.param == "thread":

        def not_permitted(pid: int) -> int:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "pidfd_open", not_permitted)
    return str(request.param)


def spawn(code: str, on_exit: Callable[[ExitStatus], None] | None = None, **options) -> WorkerProcess:
    argv = [sys.executable, "-I", "-c", textwrap.dedent(code)]
    loop = asyncio.get_running_loop()
    return WorkerProcess.spawn(argv, env=dict(os.environ), loop=loop, on_exit=on_exit, **options)


SLEEP = "import time; print('up', flush=True); time.sleep(1000)"


async def up(process: WorkerProcess) -> bytes:
    return await asyncio.to_thread(process.stdout.readline)


async def ended(process: WorkerProcess) -> ExitStatus:
    status = await process.wait()
    process.close_pipes()
    return status


def wait_as_host(process: WorkerProcess) -> None:
    os.waitpid(process.pid, 0)


@pytest.mark.parametrize(
    ("code", "expected", "text"),
    [
        ("pass", ExitStatus(code=0), "exit 0"),
        ("raise SystemExit(3)", ExitStatus(code=3), "exit 3"),
        ("import os; os._exit(255)", ExitStatus(code=255), "exit 255"),
        ("import os; os.kill(os.getpid(), 9)", ExitStatus(signal="SIGKILL"), "SIGKILL"),
        ("import os; os.abort()", ExitStatus(signal="SIGABRT"), "SIGABRT"),
        ("import faulthandler; faulthandler._sigsegv()", ExitStatus(signal="SIGSEGV"), "SIGSEGV"),
        ("import os; os.kill(os.getpid(), 36)", ExitStatus(signal="SIGRTMIN+2"), "SIGRTMIN+2"),
    ],
)
async def test_every_end_has_its_name(code, expected, text, watching, loop_kind) -> None:
    process = spawn(code)
    status = await ended(process)
    assert (status, str(status), process.status) == (expected, text, expected)
    assert not status.reaped_elsewhere
    with pytest.raises(ChildProcessError):
        wait_as_host(process)


async def test_the_end_is_called_back_once_in_the_loop(watching, loop_kind) -> None:
    called: asyncio.Queue[ExitStatus] = asyncio.Queue()
    process = spawn("pass", called.put_nowait)
    assert await called.get() == ExitStatus(code=0)
    process.kill()
    process.terminate()
    assert process.kill_now() == ExitStatus(code=0)
    await ended(process)
    assert called.empty()


async def test_killing_takes_the_helpers_along(watching, loop_kind) -> None:
    process = spawn(
        """
        import subprocess, sys, time
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        print(helper.pid, flush=True)
        time.sleep(1000)
        """
    )
    helper = os.pidfd_open(int(await up(process))) if watching == "pidfd" else None
    process.kill()
    assert await ended(process) == ExitStatus(signal="SIGKILL")
    if helper is not None:
        await readable(helper)
        os.close(helper)


async def test_helpers_of_a_process_that_just_ends_are_killed_as_well(loop_kind) -> None:
    process = spawn(
        """
        import subprocess, sys, time
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        print(helper.pid, flush=True)
        time.sleep(1000)
        """
    )
    helper = os.pidfd_open(int(await up(process)))
    process.terminate()
    assert await ended(process) == ExitStatus(signal="SIGTERM")
    await readable(helper)
    os.close(helper)


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    seen = asyncio.Event()
    loop.add_reader(fd, seen.set)
    await seen.wait()
    loop.remove_reader(fd)


async def test_ctrl_c_at_the_terminal_does_not_reach_it(loop_kind) -> None:
    process = spawn("import os; print(os.getpgrp() == os.getpid(), flush=True)")
    assert await up(process) == b"True\n"
    await ended(process)


async def test_terminate_asks_and_kill_does_not(watching) -> None:
    polite = spawn("import signal, time; print('up', flush=True); time.sleep(1000)")
    deaf = spawn("import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)")
    for process in (polite, deaf):
        await up(process)
        process.terminate()
    assert await ended(polite) == ExitStatus(signal="SIGTERM")
    assert deaf.status is None
    deaf.kill()
    assert await ended(deaf) == ExitStatus(signal="SIGKILL")


async def test_a_stopped_process_can_be_killed(watching) -> None:
    process = spawn(SLEEP)
    await up(process)
    os.kill(process.pid, signal.SIGSTOP)
    process.kill()
    assert await ended(process) == ExitStatus(signal="SIGKILL")


async def test_killing_now_needs_no_loop_iteration(watching, loop_kind) -> None:
    called: list[ExitStatus] = []
    process = spawn(SLEEP, called.append)
    assert process.kill_now() == ExitStatus(signal="SIGKILL")
    assert process.status == ExitStatus(signal="SIGKILL")
    assert called == []
    await asyncio.sleep(0)
    assert called == [process.status]
    assert await ended(process) == process.status


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_killing_now_works_after_the_loop_is_closed(new_loop, watching) -> None:
    async def start() -> WorkerProcess:
        return spawn(SLEEP)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        process = runner.run(start())
    assert process.kill_now() == ExitStatus(signal="SIGKILL")
    process.close_pipes()


async def test_a_host_that_reaps_our_children_is_survived(loop_kind) -> None:
    process = spawn("pass")
    wait_as_host(process)  # blocks the loop: the host is first
    status = await ended(process)
    assert status.reaped_elsewhere
    assert "reaped elsewhere" in str(status)


async def test_a_host_that_ignores_sigchld_is_survived(watching) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = spawn("pass")
        assert (await ended(process)).reaped_elsewhere
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_cancelling_a_wait_cancels_nothing_else() -> None:
    process = spawn(SLEEP)
    await up(process)
    waits = [asyncio.create_task(process.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    waits[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits[0]
    process.kill()
    assert await waits[1] == ExitStatus(signal="SIGKILL")
    process.close_pipes()


async def test_it_inherits_what_it_is_given_and_nothing_else() -> None:
    read_end, write_end = os.pipe()
    other_read, other_write = os.pipe()
    os.set_inheritable(other_write, True)
    code = """
        import os, sys
        print(sorted(os.environ), os.getcwd(), os.read(0, 1))
        print(sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")))
    """
    argv = [sys.executable, "-I", "-c", textwrap.dedent(code)]
    process = WorkerProcess.spawn(
        argv, env={"LC_ALL": "C.UTF-8"}, pass_fds=(write_end,), cwd="/", loop=asyncio.get_running_loop()
    )
    output = await asyncio.to_thread(process.stdout.read)
    await ended(process)
    assert output.decode().splitlines() == ["['LC_ALL'] / b''", str([0, 1, 2, write_end])]
    for fd in (read_end, write_end, other_read, other_write):
        os.close(fd)


async def test_what_cannot_start_is_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        WorkerProcess.spawn(["/nonexistent/python"], env={}, loop=asyncio.get_running_loop())


async def test_an_unobserved_end_warns_of_nothing(watching) -> None:
    process = spawn("pass")
    await process.wait()
    process.close_pipes()
    process.close_pipes()
    del process
    gc.collect()


async def test_a_process_that_does_not_die_is_told(monkeypatch) -> None:
    process = spawn(SLEEP)
    await up(process)
    monkeypatch.setattr(process_module, "KILL_WAIT_S", 0.0)
    monkeypatch.setattr(WorkerProcess, "kill", lambda self: None)  # as if it slept in the kernel
    assert process.kill_now() is None
    monkeypatch.undo()
    assert process.kill_now() == ExitStatus(signal="SIGKILL")
    process.close_pipes()
