"""Pools that look for their frames before they sleep, and pools on one processor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import Any

import pytest
from fault_nodes import AsyncPass, Pass
from fault_tools import Place, soon
from watching import parts_of, pid_of

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.core.node import Node
from remotemedia.events import Restarted
from remotemedia.workers.pool import WorkerPool

PROCESSORS = os.sched_getaffinity(0)
SPIN = PoolConfig(spin_us=1000)
"""So long that a worker is certain to look still when something is done right behind a frame."""

needs_two = pytest.mark.skipif(len(PROCESSORS) < 2, reason="nobody spins on one processor")


def debug_texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "remotemedia.pool" and r.levelno == logging.DEBUG]


@needs_two
@pytest.mark.parametrize("kind", [Pass, AsyncPass])
async def test_results_kills_and_the_stop(kind: type[Node], place: Place, caplog: pytest.LogCaptureFixture) -> None:
    pool = WorkerPool([kind(name="only")], config=SPIN)
    restarts: list[Any] = []
    pool.on_event(lambda event: restarts.append(event) if isinstance(event, Restarted) else None)
    async with pool:
        assert parts_of(pool).spin_us == 1000
        spin = pool._exchange.spin if pool._exchange is not None else None
        assert spin is not None
        for number in range(200):
            assert await pool.process(number) == number
        assert 0 < spin.looks <= 200
        assert await asyncio.gather(*(pool.process(number) for number in range(100))) == list(range(100))
        assert [value async for value in pool.stream(range(100))] == list(range(100))
        for kill in range(2):
            assert await pool.process("spin") == "spin"
            os.kill(pid_of(pool, 0), signal.SIGKILL)  # while it looks for the next frame
            assert await asyncio.gather(pool.process("a"), pool.process("b")) == ["a", "b"]
            await soon(lambda kill=kill: len(restarts) == kill + 1, "the restart")  # type: ignore[misc]
        await pool.process("last")
    assert pool.snapshot().workers[0].state == "exited"
    assert not [r.getMessage() for r in caplog.records if "was killed" in r.getMessage() or "stop_s" in r.getMessage()]


async def test_not_with_more_processes_than_processors(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    nodes = [Pass(name=f"n{index}") for index in range(len(PROCESSORS))]
    with caplog.at_level(logging.DEBUG, "remotemedia.pool"):
        async with WorkerPool(nodes, config=SPIN) as pool:
            assert parts_of(pool).spin_us == 0
            assert pool._exchange is not None
            assert pool._exchange.spin is None
            assert await pool.process(1) == 1
    assert [text for text in debug_texts(caplog) if text.startswith("spin_us=1000 is ignored for this pool: its ")]


class Where(Node):
    """Adds where its process may run to the list that it gets."""

    def process(self, data: list[Any]) -> list[Any]:
        return [*data, sorted(os.sched_getaffinity(0))]


async def test_one_processor_for_all(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """For the workers, also those that come later, and the loop's thread, which gets back what it had."""
    other = max(PROCESSORS)
    config = PoolConfig(placement="same_core", spin_us=50, limits={"apart": WorkerLimits(cpu_affinity=(other,))})
    with caplog.at_level(logging.DEBUG, "remotemedia.pool"):
        pool = WorkerPool([Where(name="here"), Where(name="apart")], config=config)
        async with pool:
            home = parts_of(pool).home
            assert home is not None
            core = home.processor
            assert core in PROCESSORS
            assert os.sched_getaffinity(0) == {core}
            assert await pool.process([]) == [[core], [other]]
            assert parts_of(pool).spin_us == 0
            async with WorkerPool([Where()], config=PoolConfig(placement="same_core")) as inner:
                assert await inner.process([]) == [[core]]
            assert os.sched_getaffinity(0) == {core}  # the outer pool's still
            heir = await asyncio.to_thread(threading.get_native_id)  # a thread that lives on
            os.kill(pid_of(pool, 0), signal.SIGKILL)
            assert await pool.process([]) == [[core], [other]]
        assert os.sched_getaffinity(0) == PROCESSORS
        assert os.sched_getaffinity(heir) == PROCESSORS
    assert [text for text in debug_texts(caplog) if "spin_us=50 is ignored" in text and "same_core" in text]


def test_a_pool_without_asyncio_has_a_thread_of_its_own_for_that(place: Place) -> None:
    with WorkerPool([Where()], config=PoolConfig(placement="same_core")) as pool:
        home = parts_of(pool).home
        assert home is not None
        assert pool.run([]) == [[home.processor]]
        assert os.sched_getaffinity(0) == PROCESSORS  # this thread's


async def test_a_start_that_fails_gives_the_thread_back(place: Place) -> None:
    pool = WorkerPool(
        [Pass()], config=PoolConfig(placement="same_core", limits=WorkerLimits(cpu_affinity=(60_000,)))
    )
    with pytest.raises(Exception, match="cpu_affinity"):
        await pool.start()
    assert os.sched_getaffinity(0) == PROCESSORS
