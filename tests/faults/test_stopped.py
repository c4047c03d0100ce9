"""Workers that are stopped by a signal, or held by a debugger."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import logging
import os
import signal
from pathlib import Path

import pytest
from fault_nodes import Faulty, Pass, stop_itself
from fault_tools import Place, chain, check_fields, collect, is_running, soon
from watching import KILL_S, config, parts_of, pid_of, supervisor_of, told, unresponsive

from remotemedia.config import ChannelConfig
from remotemedia.workers.pool import WorkerPool
from tests.nodes import Repeat

PATIENT = config(unresponsive_s=1000.0)


async def test_one_that_goes_on_before_the_limit_has_lost_nothing(
    place: Place, loop_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with WorkerPool(chain(Pass(name="stopped"), 1, of=2), config=PATIENT) as pool:
        pid = pid_of(pool, 1)
        os.kill(pid, signal.SIGSTOP)  # while it has nothing to do
        calls = [asyncio.ensure_future(pool.process(value)) for value in range(5)]
        await soon(lambda: len(told(caplog)) == 1, "a warning")
        os.kill(pid, signal.SIGCONT)
        assert await asyncio.gather(*calls) == list(range(5))
        await soon(lambda: len(told(caplog)) == 2, "the news that it goes on")
        assert pid_of(pool, 1) == pid
    warning, news = told(caplog)
    for part in ("'stopped'", f"pid {pid}", "no sign of life", "process state T", "SIGCONT", "writes no stacks"):
        assert part in warning
    assert "answers again" in news
    assert "most recent call first" not in caplog.text


async def test_one_that_stays_stopped_is_killed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async with WorkerPool(chain(Faulty(stop_itself, at=1), 1, of=2), config=config()) as pool:
        pids = [pid_of(pool, index) for index in range(2)]
        assert await pool.process(0) == 0
        error = await unresponsive(pool, 1)
        check_fields(error, "faulty", 1, pids)
        assert (error.process_state, error.frame, error.stacks) == ("T", 1, "")
        assert error.waited_s >= KILL_S
        for part in ("gave no sign of life", "process state T: stopped by a signal", "writes no stacks"):
            assert part in str(error)
        assert not is_running(pids[1])
    assert len(told(caplog)) == 1


async def test_one_that_others_wait_for_is_no_standstill(place: Place) -> None:
    settings = dataclasses.replace(PATIENT, channel=ChannelConfig(queue_frames=4))
    outputs: list[tuple[int, int]] = []
    async with WorkerPool([Repeat(8), Pass(name="stopped")], config=settings) as pool:
        pid, boards = pid_of(pool, 1), parts_of(pool).fabric.boards
        os.kill(pid, signal.SIGSTOP)  # while it has nothing to do
        running = asyncio.ensure_future(collect(pool.stream(range(3)), outputs))
        await soon(lambda: boards[0].waits, "the first stage waits for room")
        beats = boards[0].beats
        await soon(lambda: boards[0].beats > beats + 20, "many rounds")
        assert not running.done()
        os.kill(pid, signal.SIGCONT)
        await running
    assert outputs == [(value, index) for value in range(3) for index in range(8)]


# -- a debugger --------------------------------------------------------------------------------------------------------

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Debugger:
    """Holds every thread of a process, as a debugger does at a breakpoint."""

    def __init__(self, pid: int) -> None:
        self._threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
        for thread in self._threads:
            if _libc.ptrace(PTRACE_ATTACH, thread, None, None) != 0:
                pytest.skip(f"may not trace: {os.strerror(ctypes.get_errno())}")
            os.waitpid(thread, WALL)

    def let_go(self) -> None:
        for thread in self._threads:
            _libc.ptrace(PTRACE_DETACH, thread, None, None)


async def test_the_clock_stands_still_while_a_debugger_holds_it(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async with WorkerPool([Pass()], config=config(frame_timeout_s=KILL_S)) as pool:
        assert await pool.process(1) == 1
        pid = pid_of(pool, 0)
        watch = supervisor_of(pool, 0).watch
        assert watch is not None
        debugger = Debugger(pid)
        try:
            await soon(lambda: watch.silent_s > 2 * KILL_S, "twice the time after which others are killed")
            assert pool.snapshot().workers[0].state == "ready"
        finally:
            debugger.let_go()
        assert await pool.process(2) == 2
        assert pid_of(pool, 0) == pid
    assert "process state t: held by a debugger" in told(caplog)[0]
    assert "most recent call first" not in caplog.text
