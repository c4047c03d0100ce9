"""Sessions over real workers: order, state, bounds, and neighbours that are slow or go away."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.core.exceptions import ConfigurationError, NodeProcessError, PipelineError, PoolClosed
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.sessions import Session
from tests.integration.stages import AsyncTally, Brighten, Pairs, Tally
from tests.nodes import Add, Count, FailAt, Keep, Repeat, Tag

TIGHT = PoolConfig(channel=ChannelConfig(queue_frames=2), session_frames=3)
EXECUTORS = pytest.mark.parametrize("kind", [Tally, AsyncTally])


async def use(session: Session, values: range) -> list[Any]:
    """Everything that a session gives for `values`, sent and received at the same time."""

    async def send() -> None:
        for value in values:
            await session.send(value)
        await session.finish()

    sending = asyncio.ensure_future(send())
    outputs = [output async for output in session]
    await sending
    return outputs


def expected(values: range) -> list[Any]:
    return [(value, index, 0) for index, value in enumerate(values, 1)]


@pytest.mark.parametrize("config", [PoolConfig(), TIGHT], ids=["default", "tight"])
@EXECUTORS
async def test_many_sessions_each_with_its_own_order_and_state(
    kind: Callable[[], Node], config: PoolConfig, loop_kind: str
) -> None:
    async with WorkerPool([Add(0), kind(), Add((), executor="inline", name="after")], config=config) as pool:
        async with AsyncExitStack() as stack:
            ranges = [range(n, n + 20 + n) for n in range(20)]
            names = [f"caller-{n}" for n in range(20)]
            sessions = [await stack.enter_async_context(pool.session(name)) for name in names]
            assert pool.snapshot().sessions == 20
            results = await asyncio.gather(*map(use, sessions, ranges))
            for outputs, values in zip(results, ranges, strict=True):
                assert outputs[:-1] == expected(values)
                word, total, _ = outputs[-1]
                assert (word, total) == ("sum", sum(values))
        # States are dropped with their session, and a name that is free again starts anew.
        assert await pool.process(5) == (5, 1, 0)
        async with pool.session("caller-0") as again:
            assert await use(again, range(2)) == [(0, 1, 0), (1, 2, 0), ("sum", 1, ["caller-0", "default"])]


async def test_through_branches_that_meet_again() -> None:
    nodes = (Tag(name="in"), Tally(name="left"), Repeat(2, name="right"), Tag(name="out"))
    graph = Graph(nodes, ("in", "left", "right", "out"), ((0, 1), (0, 2), (1, 3), (2, 3)))
    graph = Graph((Add(0, name="in"), *nodes[1:]), graph.ids, graph.edges)
    async with WorkerPool(graph) as pool, pool.session("one") as one, pool.session("two") as two:
        for outputs in await asyncio.gather(use(one, range(10)), use(two, range(5))):
            per_input = [outputs[at : at + 3] for at in range(0, len(outputs) - 1, 3)]
            for value, found in enumerate(per_input):
                assert found == [("out", (value, value + 1, 0)), ("out", (value, 0)), ("out", (value, 1))]
            assert outputs[-1][1][0] == "sum"


async def test_slow_abandoned_and_failing_sessions_do_not_stall_their_neighbours() -> None:
    async with WorkerPool([Add(0), FailAt(13, ValueError("unlucky")), Keep(1)], config=TIGHT) as pool:
        async with pool.session("slow") as slow, pool.session("gone") as gone:
            for value in range(3):
                await slow.send(value)
                await gone.send(value)
            stuck = asyncio.ensure_future(gone.send(4))
            async with pool.session("failing") as failing, pool.session("busy") as busy:
                assert await use(busy, range(14, 100)) == list(range(14, 100))
                for value in (12, 13, 14):
                    await failing.send(value)
                assert await failing.receive() == 12
                with pytest.raises(NodeProcessError, match="unlucky"):
                    await failing.receive()
                assert await failing.receive() == 14
            await gone.__aexit__(None, None, None)
            with pytest.raises(PipelineError, match="closed"):
                await stuck
            async with pool.session("gone") as back:
                assert await use(back, range(5)) == list(range(5))
            assert [await slow.receive() for _ in range(3)] == [0, 1, 2]
        assert await pool.process(1) == 1


async def test_unread_pictures_do_not_use_up_the_channel() -> None:
    """More are unread than a channel has frames; streams and calls go on beside them."""
    config = PoolConfig(channel=ChannelConfig(queue_frames=4), session_frames=10)
    async with WorkerPool([Brighten(), Brighten()], config=config) as pool, pool.session("s") as session:
        for value in range(10):
            await session.send(np.full((100, 100), value, np.uint8))
        outputs = [output async for output in pool.stream([np.zeros(10, np.uint8)] * 30)]
        assert len(outputs) == 30
        for value in range(10):
            assert np.array_equal(await session.receive(), np.full((100, 100), value + 2, np.uint8))


async def test_cancelled_and_forgotten_sessions_are_cleared_away() -> None:
    async with WorkerPool([Tally()], config=TIGHT) as pool:

        async def wait_for_ever() -> None:
            async with pool.session("cancelled") as session:
                await session.send(1)
                await session.receive()
                await session.receive()

        task = asyncio.ensure_future(wait_for_ever())
        forgotten = await pool.session("forgotten").__aenter__()
        await forgotten.send(1)
        assert await pool.process(1) == (1, 1, 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del forgotten
        async with pool.session("cancelled") as one, pool.session("forgotten") as two:
            for session in (one, two):
                await session.send(7)
                assert await session.receive() == (7, 1, 0)


async def test_what_is_refused() -> None:
    async with WorkerPool([Add(1)]) as pool:
        for name in ("", "default", 5, "\ud800"):
            with pytest.raises(ConfigurationError, match="name"):
                pool.session(name)  # type: ignore[arg-type]
        new = pool.session("s")
        with pytest.raises(PipelineError, match="not open"):
            await new.send(1)
        async with new:
            with pytest.raises(ConfigurationError, match="'s' is open already"):
                await pool.session("s").__aenter__()
            with pytest.raises(PipelineError, match="entered before"):
                await new.__aenter__()
    with pytest.raises(PoolClosed):
        pool.session("late")
    with pytest.raises(PipelineError, match="closed"):
        await new.send(1)
    for nodes, reason in (([Pairs(1)], "is streaming"), ([Count(3)], "makes its own frames")):
        async with WorkerPool(nodes, places=["inline"]) as pool:
            with pytest.raises(ConfigurationError, match=reason):
                pool.session("s")


async def test_draining_and_then_closing_loses_nothing(loop_kind: str) -> None:
    async with WorkerPool([Brighten(), Brighten()]) as pool:
        session = await pool.session("s").__aenter__()
        for value in range(8):
            await session.send(np.full(1000, value, np.uint8))
        calls = [asyncio.ensure_future(pool.process(np.full(10, n, np.uint8))) for n in range(100)]
        endless = pool.stream(itertools.repeat(np.zeros(10, np.uint8)))
        await anext(endless)
        await pool.drain()
        for n, call in enumerate(calls):
            assert np.array_equal(await call, np.full(10, n + 2, np.uint8))
        for refused in (pool.process(1), session.send(1)):
            with pytest.raises(PoolClosed, match="drained"):
                await refused
    assert all((output == 2).all() for output in [output async for output in endless])
    for value in range(8):
        assert np.array_equal(await session.receive(), np.full(1000, value + 2, np.uint8))
    with pytest.raises(PoolClosed):
        await session.receive()
