"""The host blocks its event loop for longer than any deadline of the pool: no worker is killed for that."""

from __future__ import annotations

import asyncio
import time

import pytest
from fault_nodes import AsyncPass, Pass
from fault_tools import Place

from remotemedia.config import PoolConfig, Timeouts
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool

BLOCKED_S = 3.0
HASTY = PoolConfig(timeouts=Timeouts(hello_s=2.5, load_s=2.5, initialize_s=2.5, stop_s=2.5))


def block() -> None:
    time.sleep(BLOCKED_S)


class SlowToStart(Pass):
    """An inline node whose initialize() blocks the loop."""

    def initialize(self) -> None:
        time.sleep(BLOCKED_S)


def nodes() -> list[Node]:
    return [Pass(name="a"), AsyncPass(name="b")]


@pytest.mark.slow
async def test_during_the_start_by_an_inline_node(place: Place, loop_kind: str) -> None:
    places = ("multiprocess", "multiprocess", "inline")
    async with WorkerPool([*nodes(), SlowToStart()], config=HASTY, places=places) as pool:
        assert await pool.process(1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("turns", [1, 15])
async def test_during_the_start_by_another_task(turns: int, place: Place, loop_kind: str) -> None:
    pool = WorkerPool(nodes(), config=HASTY)
    starting = asyncio.ensure_future(pool.start())
    for _ in range(turns):
        await asyncio.sleep(0.01)
    block()
    await starting
    assert await pool.process(1) == 1
    await pool.aclose()


@pytest.mark.slow
async def test_while_it_streams_and_while_it_closes(
    place: Place, loop_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = WorkerPool(nodes(), config=HASTY)
    await pool.start()
    outputs = []
    async for output in pool.stream(range(100)):
        outputs.append(output)
        if output == 50:
            block()
    assert outputs == list(range(100))
    closing = asyncio.ensure_future(pool.aclose())
    await asyncio.sleep(0.01)
    block()
    await closing
    assert "killed" not in caplog.text
