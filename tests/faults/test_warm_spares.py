"""A process that waits takes the place of a worker that dies."""

from __future__ import annotations

import os
import signal
from typing import Any

from fault_tools import Place, is_running, soon

from remotemedia.config import PoolConfig, RestartPolicy, WorkerLimits
from remotemedia.core.node import Node
from remotemedia.workers.parts import Parts
from remotemedia.workers.pool import WorkerPool

ALWAYS = RestartPolicy(max_restarts=1000, backoff_s=(0.001, 0.002), max_attempts=100)


class WhoAmI(Node):
    """Process id, and a variable of the environment."""

    def process(self, data: Any) -> Any:
        return os.getpid(), os.environ.get("REMOTEMEDIA_TEST_WORD"), self.restart_count


def waiting(pool: WorkerPool) -> list[int]:
    parts = pool._parts
    assert isinstance(parts, Parts)
    assert parts._spares is not None
    return [spare.process.pid for spare in parts._spares._waiting]


async def kill_and_ask(pool: WorkerPool) -> Any:
    os.kill(pool.snapshot().workers[0].pid or 0, signal.SIGKILL)
    return await pool.process(None)


async def test_a_spare_becomes_the_worker_and_another_takes_its_place(place: Place) -> None:
    config = PoolConfig(restart=ALWAYS, warm_spares=1)
    async with WorkerPool([WhoAmI()], config=config) as pool:
        for count in range(1, 4):
            (spare,) = await soon(lambda: waiting(pool), "a spare")
            assert await kill_and_ask(pool) == (spare, None, count)
        left = await soon(lambda: waiting(pool), "a spare")
    assert not any(is_running(pid) for pid in left)


async def test_two_deaths_at_once_take_two(place: Place) -> None:
    config = PoolConfig(restart=ALWAYS, warm_spares=2)
    async with WorkerPool([WhoAmI("a"), WhoAmI("b")], config=config) as pool:
        spares = set(waiting(pool))
        for worker in pool.snapshot().workers:
            os.kill(worker.pid or 0, signal.SIGKILL)
        await pool.process(None)
        await soon(lambda: {worker.pid for worker in pool.snapshot().workers} == spares, "the spares at work")


async def test_a_spare_that_has_died_is_not_taken(place: Place) -> None:
    config = PoolConfig(restart=ALWAYS, warm_spares=1)
    async with WorkerPool([WhoAmI()], config=config) as pool:
        (spare,) = waiting(pool)
        os.kill(spare, signal.SIGKILL)
        pid, _, count = await kill_and_ask(pool)
        assert pid != spare
        assert count == 1


async def test_a_stopped_spare_is_the_same_as_a_worker_that_does_not_start(place: Place) -> None:
    """It has taken its orders without reading them; killed, it is replaced."""
    config = PoolConfig(restart=ALWAYS, warm_spares=1)
    async with WorkerPool([WhoAmI()], config=config) as pool:
        (spare,) = waiting(pool)
        os.kill(spare, signal.SIGSTOP)
        os.kill(pool.snapshot().workers[0].pid or 0, signal.SIGKILL)
        await soon(lambda: pool.snapshot().workers[0].pid == spare, "the spare in the worker's place")
        os.kill(spare, signal.SIGKILL)
        assert (await pool.process(None))[2] == 2


async def test_what_must_be_there_before_the_imports_rules_a_spare_out(place: Place) -> None:
    limits = {"WhoAmI": WorkerLimits(environment={"REMOTEMEDIA_TEST_WORD": "here"})}
    config = PoolConfig(restart=ALWAYS, warm_spares=1, limits=limits)
    async with WorkerPool([WhoAmI()], config=config) as pool:
        spares = waiting(pool)
        pid, word, count = await kill_and_ask(pool)
        assert (word, count) == ("here", 1)
        assert waiting(pool) == spares
        assert pid not in spares
