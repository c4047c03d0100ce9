"""A node fails on one frame: whoever put that in hears of it, and everybody else goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remotemedia import events
from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import ConfigurationError, NodeProcessError, WorkerError
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.runtime import execute_pipeline
from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import AsyncBurst, Burst, FirstThree
from tests.nodes import Add, AsyncAdd, AsyncRepeat, Count, FailAt, Journal, Repeat, Tag

PLACES = pytest.mark.parametrize("place", ["multiprocess", "inline"])


class FailAfterOne(Repeat):
    """Fails after its first output for 5."""

    def process(self, data: Any) -> Any:
        yield (data, 0)
        if data == 5:
            raise ValueError("five")


class AsyncFailAfterOne(AsyncRepeat):
    """The same as an async generator."""

    async def process(self, data: Any) -> Any:
        yield (data, 0)
        if data == 5:
            raise ValueError("five")


@PLACES
@pytest.mark.parametrize("kind", [FailAfterOne, AsyncFailAfterOne])
async def test_calls_streams_and_sessions(place: str, kind: type[Repeat], loop_kind: str) -> None:
    nodes = [Add(0), kind(1, name="fragile"), AsyncAdd((), name="c")]
    async with WorkerPool(nodes, places=["multiprocess", place, "multiprocess"]) as pool:
        heard = pool.events()
        results = await asyncio.gather(*(pool.process(n) for n in range(10)), return_exceptions=True)
        error = results.pop(5)
        assert isinstance(error, NodeProcessError)
        assert (error.node, error.worker_id, error.frame) == ("fragile", 1, 5)
        assert type(error.__cause__) is ValueError
        if place == "inline":
            assert error.__cause__.__traceback__ is not None
        assert results == [(n, 0) for n in range(10) if n != 5]
        event = await anext(heard)
        assert isinstance(event, events.FrameFailed)
        assert (event.node, event.worker_id, event.frame) == ("fragile", 1, 5)
        assert "five" in event.reason

        seen: list[Any] = []
        outputs = pool.stream(range(20))
        with pytest.raises(NodeProcessError):  # noqa: PT012 - outputs first, then the error
            while True:
                seen.append(await anext(outputs))
        assert seen == [(n, 0) for n in range(6)], "what the generator gave before it failed is kept"

        async with pool.session("s") as session:
            for value in (4, 5, 6):
                await session.send(value)
            assert [await session.receive(), await session.receive()] == [(4, 0), (5, 0)]
            with pytest.raises(NodeProcessError, match="five"):
                await session.receive()
            assert await session.receive() == (6, 0)
        worker = pool.snapshot().workers[1]
        assert (worker.errors, worker.drops) == (3, 0)


@PLACES
async def test_skipping(place: str) -> None:
    node = FailAt(3, ValueError("three"), name="picky")
    node.on_error = "skip"
    async with WorkerPool([node, Add(0)], places=[place, "multiprocess"]) as pool:
        heard = pool.events()
        assert [output async for output in pool.stream(range(6))] == [0, 1, 2, 4, 5]
        assert await pool.process(3) is None
        for frame in (3, 7):
            event = await anext(heard)
            assert isinstance(event, events.FrameSkipped)
            assert (event.node, event.frame, event.reason) == ("picky", frame, "ValueError: three")
        worker = pool.snapshot().workers[0]
        assert (worker.errors, worker.drops) == (2, 2)


async def test_the_pools_setting_and_the_nodes_own() -> None:
    strict = FailAt(1, ValueError("one"), name="strict")
    strict.on_error = "raise"
    nodes = [FailAt(0, ValueError("nought"), name="lax"), strict]
    async with WorkerPool(nodes, config=PoolConfig(on_error="skip")) as pool:
        assert await pool.process(0) is None
        with pytest.raises(NodeProcessError, match="one"):
            await pool.process(1)
        assert await pool.process(2) == 2
    odd = Add(1)
    odd.on_error = "ignore"
    with pytest.raises(ConfigurationError, match="on_error='ignore'"):
        WorkerPool([odd])


class Unsendable(Node):
    """Gives a generator inside a list, which no channel takes."""

    def process(self, data: int) -> Any:
        return [(x for x in ())] if data == 1 else data

    def flush(self) -> Any:
        raise KeyError("at the end")


@pytest.mark.parametrize(
    ("method", "frame", "text"),
    [
        ("process", 0, "process() raised LocalError: as meant (frame 0)"),
        ("flush", 2, "flush() raised LocalError: as meant"),
        ("initialize", None, "initialize() raised LocalError: as meant"),
    ],
)
async def test_every_executor_says_it_in_the_same_words(method: str, frame: int | None, text: str) -> None:
    class LocalError(Exception):
        """A worker's own, which the coordinator cannot import."""

    for executor, place in (("inline", None), ("multiprocess", "inline"), ("multiprocess", "multiprocess")):
        node = Journal("fragile", [], fails_in=method, error=LocalError("as meant"))
        node.executor = place
        with pytest.raises(WorkerError) as caught:
            await execute_pipeline([Add(0), node], [1, 2], executor=executor)
        error = caught.value
        assert (error.reason, error.node, error.worker_id, error.frame) == (text, "fragile", 1, frame), place


@PLACES
async def test_outputs_that_cannot_travel_and_flushes_that_fail(place: str) -> None:
    async with WorkerPool([Unsendable(), Add(0)], places=[place, "multiprocess"]) as pool:
        for _ in range(2):
            with pytest.raises(NodeProcessError, match="cannot be pickled"):
                await pool.process(1)
        seen = []
        outputs = pool.stream([2, 3])
        with pytest.raises(NodeProcessError, match=r"flush\(\) raised KeyError: .at the end"):  # noqa: PT012 - outputs first, then the error
            while True:
                seen.append(await anext(outputs))
        assert seen == [2, 3]
        async with pool.session("s") as session:
            await session.send(4)
            await session.finish()
            assert await session.receive() == 4
            with pytest.raises(NodeProcessError, match="at the end"):
                await session.receive()
            with pytest.raises(StopAsyncIteration):
                await session.receive()


async def test_a_branch_that_fails() -> None:
    ids = ("in", "left", "right", "out")
    graph = Graph(
        (Add(0), FailAt(2, ValueError("left two")), FailAt(3, ValueError("right three")), Tag(name="out")),
        ids,
        ((0, 1), (0, 2), (1, 3), (2, 3)),
    )
    async with WorkerPool(graph) as pool, pool.session("s") as session:
        for value in range(5):
            await session.send(value)
        assert [await session.receive() for _ in range(4)] == [("out", 0)] * 2 + [("out", 1)] * 2
        with pytest.raises(NodeProcessError, match="left two"):
            await session.receive()
        assert await session.receive() == ("out", 3)  # of the branch that came first
        with pytest.raises(NodeProcessError, match="right three"):
            await session.receive()
        assert [await session.receive() for _ in range(2)] == [("out", 4)] * 2
        assert await pool.process(1) == [("out", 1)] * 2


@PLACES
async def test_a_streaming_node_behind_the_failing_one_never_sees_it(place: str) -> None:
    nodes = [FailAt(1, ValueError("one")), FirstThree(7), Burst(8), AsyncBurst(9)]
    async with WorkerPool(nodes, places=["multiprocess", place, "multiprocess", place]) as pool:
        with pytest.raises(NodeProcessError, match="one"):
            await pool.process(1)


async def test_execute_pipeline_raises_the_first_error() -> None:
    with pytest.raises(NodeProcessError, match="three") as caught:
        await execute_pipeline(
            [Add(0), FailAt(3, ValueError("three")), Add(0)], list(range(50)), executor="multiprocess"
        )
    assert caught.value.frame == 3


@PLACES
async def test_a_node_behind_a_source(place: str) -> None:
    async with WorkerPool([Count(9), FailAt(3, ValueError("three"))], places=["multiprocess", place]) as pool:
        seen = []
        outputs = pool.stream()
        with pytest.raises(NodeProcessError, match="three") as caught:  # noqa: PT012 - outputs first, then the error
            while True:
                seen.append(await anext(outputs))
        assert seen == [0, 1, 2]
        assert caught.value.frame == 3
