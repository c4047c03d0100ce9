"""A pool without frames sleeps: nothing polls, in no process."""

from __future__ import annotations

from pathlib import Path

from fault_nodes import AsyncPass, Pass
from fault_tools import Place, soon
from watching import parts_of, pid_of

from remotemedia.config import PoolConfig, Timeouts
from remotemedia.workers.pool import WorkerPool

BEATS = 10


def wake_ups(pid: int, thread: int) -> int:
    """How often a thread has gone to sleep, and so has been woken, until now."""
    for line in Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not count context switches")


def all_wake_ups(pid: int) -> int:
    return sum(wake_ups(pid, int(entry.name)) for entry in Path(f"/proc/{pid}/task").iterdir())


async def test_only_the_heartbeat_wakes_an_idle_worker(place: Place) -> None:
    """Once per beat its control thread; its frame loop, and its event loop, never."""
    config = PoolConfig(timeouts=Timeouts(heartbeat_s=0.1))
    async with WorkerPool([Pass(), AsyncPass()], config=config) as pool:
        assert await pool.process(1) == 1
        boards = parts_of(pool).fabric.boards
        pids = [pid_of(pool, index) for index in (0, 1)]

        async def beats(count: int) -> None:
            goal = [board.beats + count for board in boards]
            await soon(lambda: all(b.beats >= g for b, g in zip(boards, goal, strict=True)), "heartbeats")

        await beats(2)  # what the frame has left to do is done by now
        before = [(board.beats, wake_ups(pid, pid), all_wake_ups(pid)) for board, pid in zip(boards, pids, strict=True)]
        await beats(BEATS)
        for board, pid, (beat, main, everything) in zip(boards, pids, before, strict=True):
            beaten = board.beats - beat
            assert wake_ups(pid, pid) == main  # not once
            assert all_wake_ups(pid) - everything <= 4 * (beaten + 1)
