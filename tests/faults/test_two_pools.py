"""Two pools in one process: what happens to one does not concern the other."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from fault_nodes import Faulty, Pass, hang_for_ever, value_error
from fault_tools import NO_RESTART, Place

from remotemedia.config import PoolConfig, Timeouts
from remotemedia.core.exceptions import NodeInitializeError, WorkerDied
from remotemedia.workers.pool import WorkerPool


async def test_a_killed_worker_of_one_leaves_the_other_alone(place: Place, loop_kind: str) -> None:
    async with WorkerPool([Pass(), Pass()]) as healthy:
        async with WorkerPool([Pass(), Pass()], config=NO_RESTART) as broken:  # the same names on purpose
            assert len(place.pool_ids()) == 2
            streaming = asyncio.ensure_future(everything(healthy))
            os.kill(broken.snapshot().workers[1].pid or 0, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await everything(broken)
            assert await streaming == list(range(500))
        assert len(place.pool_ids()) == 1
        assert await healthy.process(1) == 1
        assert await everything(healthy) == list(range(500))


async def everything(pool: WorkerPool) -> list[int]:
    return [output async for output in pool.stream(range(500))]


async def test_closing_one_leaves_the_other(place: Place) -> None:
    pools = [WorkerPool([Pass()]) for _ in range(3)]
    await asyncio.gather(*(pool.start() for pool in pools))
    assert len(set(place.pool_ids())) == 3
    while pools:
        assert await asyncio.gather(*(pool.process(7) for pool in pools)) == [7] * len(pools)
        await pools.pop().aclose()


async def test_a_start_that_fails_beside_one_that_does_not(place: Place) -> None:
    good = WorkerPool([Pass()])
    bad = WorkerPool([Faulty(value_error, phase="initialize")])
    results = await asyncio.gather(good.start(), bad.start(), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], NodeInitializeError)
    assert await good.process(1) == 1
    await good.aclose()


async def test_one_that_is_slow_to_close(place: Place) -> None:
    hanging = WorkerPool([Faulty(hang_for_ever, phase="cleanup")], config=PoolConfig(timeouts=Timeouts(stop_s=1.0)))
    await hanging.start()
    async with WorkerPool([Pass()]) as pool:
        closing = asyncio.ensure_future(hanging.aclose())
        while not closing.done():
            assert await pool.process(1) == 1
        await closing
