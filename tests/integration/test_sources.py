"""Pipelines whose first nodes make the frames themselves, in workers and in this process."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.core.exceptions import ConfigurationError, NodeProcessError, PipelineError
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.runtime import execute_pipeline
from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import Ticker
from tests.nodes import Add, AsyncCount, Count, Hold, Tag


@pytest.mark.parametrize("source", [Count, AsyncCount])
@pytest.mark.parametrize("place", ["multiprocess", "inline"])
@pytest.mark.parametrize("count", [0, 1, 100])
async def test_a_source_anywhere(source: type[Count], place: str, count: int) -> None:
    nodes = [source(count, executor=place), Add(1)]
    outputs = await execute_pipeline(nodes, executor="multiprocess")
    assert outputs == {0: None, 1: 1}.get(count, list(range(1, count + 1)))


async def test_it_runs_again_for_each_stream() -> None:
    async with WorkerPool([Count(3), Hold()]) as pool:
        for _ in range(3):
            assert [output async for output in pool.stream()] == [[0, 1, 2]]


@pytest.mark.parametrize("place", ["multiprocess", "inline"])
async def test_a_source_without_end_is_held_back_and_can_be_left(place: str) -> None:
    config = PoolConfig(channel=ChannelConfig(queue_frames=2))
    async with WorkerPool([Ticker(executor=place), Add(0)], config=config) as pool:
        async with aclosing(pool.stream()) as outputs:
            assert [await anext(outputs) for _ in range(50)] == list(range(50))
        with pytest.raises(PipelineError, match="left before its end"):
            await anext(pool.stream())


async def test_sources_of_different_length_are_merged_number_by_number() -> None:
    nodes = (Count(2, name="a"), Count(4, name="b"), Tag("out"))
    async with WorkerPool(Graph(nodes, ("a", "b", "out"), ((1, 2), (0, 2)))) as pool:
        outputs = [output async for output in pool.numbered_stream()]
    assert outputs == [(n, ("out", n)) for n in (0, 0, 1, 1, 2, 3)]


async def test_a_source_takes_no_input() -> None:
    async with WorkerPool([Count(3)]) as pool:
        with pytest.raises(ConfigurationError, match="makes its own frames"):
            pool.numbered_stream([1])
    for executor in ("multiprocess", "inline"):
        with pytest.raises(ConfigurationError, match="makes its own"):
            await execute_pipeline([Count(3)], [1], executor=executor)


async def test_sources_with_and_without_input_do_not_mix() -> None:
    graph = Graph((Count(1, name="a"), Add(1, name="b")), ("a", "b"), ())
    with pytest.raises(ConfigurationError, match="use one kind"):
        WorkerPool(graph)


async def test_a_source_that_fails() -> None:
    class Broken(Node):
        def process(self) -> Any:  # type: ignore[override]
            yield 1
            raise ValueError("tape torn")

    async with WorkerPool([Broken(), Add(0)]) as pool:
        with pytest.raises(NodeProcessError, match="tape torn") as caught:  # may overtake the output on its way
            assert [output async for output in pool.stream()] == [1]
    assert caught.value.frame == 1
