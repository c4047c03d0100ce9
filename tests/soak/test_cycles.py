"""Pools made, used and closed, one after another: nothing grows."""

from __future__ import annotations

import os
import signal

import pytest

from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.testing.gauges import Gauges
from remotemedia.testing.leaks import descendants
from remotemedia.testing.soak import Add, Soak, cycle, tolerances
from remotemedia.workers.pool import WorkerPool
from tests.faults.fault_tools import until

# What a pool with a worker needs once, and keeps, is there before the first reading counts.
INLINE, WITH_WORKER = 160, 40


@pytest.mark.timeout(180)
async def test_two_hundred_pools_leave_nothing() -> None:
    at_first = len(descendants())  # the fork server that is kept for all tests
    warm_up, inline, remote = Soak(), Soak(), Soak()
    await cycle(3, workers=1, soak=warm_up)
    await cycle(INLINE, workers=0, soak=inline)
    await cycle(WITH_WORKER, workers=1, soak=remote)
    for soak, count in ((inline, INLINE), (remote, WITH_WORKER)):
        assert soak.wrong == []
        assert len(soak.readings) == count
        growing = [line for line in soak.trends(tolerances(hours=0.0)) if not line.is_flat]
        assert growing == []

    def left() -> tuple[int, int, int]:
        now = Gauges.read()
        return now.children - at_first, now.shm_files, now.shm_bytes

    until(lambda: left() == (0, 0, 0), "nothing left, nor of a pool that a test beside this one has killed")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_eighty_generations_leave_nothing() -> None:
    """A worker is killed again and again: nothing of the dead stays, in the coordinator or in shared memory."""
    soak = Soak()
    often = PoolConfig(restart=RestartPolicy(max_restarts=1000, max_attempts=1000, backoff_s=(0.001, 0.002)))
    async with WorkerPool([Add("first"), Add("second")], config=often) as pool:
        for generation in range(80):
            pid = pool.snapshot(memory=False).workers[generation % 2].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while pool.snapshot(memory=False).workers[generation % 2].pid == pid:
                assert await pool.process(generation) == generation + 2
            assert await pool.process(generation) == generation + 2
            soak.read(generation)
        assert [worker.generation for worker in pool.snapshot().workers] == [40, 40]
    assert [line for line in soak.trends(tolerances(hours=0.0)) if not line.is_flat] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_thousand_pools_leave_nothing() -> None:
    soak = await cycle(1000, workers=1)
    assert soak.wrong == []
    assert [line for line in soak.trends(tolerances(hours=0.0)) if not line.is_flat] == []
