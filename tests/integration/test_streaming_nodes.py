"""Nodes with `is_streaming`: one iteration over all inputs, in a worker or in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.core.exceptions import NodeProcessError
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import GivesUp, Impatient, Pairs
from tests.nodes import Add, FailAt, Keep, RunningPairs, TakeFirst

PLACES = pytest.mark.parametrize("place", ["multiprocess", "inline"])
TIGHT = PoolConfig(channel=ChannelConfig(queue_frames=2))


@PLACES
async def test_one_iteration_for_each_stream(place: str, loop_kind: str) -> None:
    async with WorkerPool([RunningPairs(executor=place)], config=TIGHT) as pool:
        assert [out async for out in pool.stream([1, 2, 3])] == [("pair", 1, 2), ("rest", 3)]
        assert [out async for out in pool.stream([])] == []
        assert [out async for out in pool.stream([4, 5])] == [("pair", 4, 5)]


@PLACES
async def test_outputs_carry_the_number_of_the_last_input(place: str) -> None:
    async with WorkerPool([Pairs(3, executor=place)], config=TIGHT) as pool:
        for _ in range(2):
            numbers = [number async for number, _ in pool.numbered_stream([10, 20, 30, 40, 50])]
            assert numbers == [0, 1, 3, 5]


@PLACES
async def test_calls_are_answered_one_by_one(place: str) -> None:
    async with WorkerPool([RunningPairs(executor=place)]) as pool:
        answers = [asyncio.ensure_future(pool.process(value)) for value in range(5)]
        assert await asyncio.gather(*answers[:4]) == [None, ("pair", 0, 1), None, ("pair", 2, 3)]
        answers[4].cancel()


@PLACES
async def test_a_node_may_leave_before_the_inputs_end(place: str) -> None:
    async with WorkerPool([TakeFirst(2, executor=place), Add(0)], config=TIGHT) as pool:
        for _ in range(2):
            assert [out async for out in pool.stream(range(50))] == [0, 1]


@PLACES
async def test_inputs_that_were_filtered_out_before_it(place: str) -> None:
    async with WorkerPool([Keep(10), RunningPairs(executor=place)], config=TIGHT) as pool:
        assert [out async for out in pool.stream(range(35))] == [("pair", 0, 10), ("pair", 20, 30)]


@PLACES
async def test_a_node_may_give_outputs_while_it_waits(place: str) -> None:
    """They belong to the input that comes next, however long that takes."""

    async def slow() -> AsyncIterator[int]:
        for value in range(10):
            await asyncio.sleep(0.005)
            yield value

    async with WorkerPool([Impatient(executor=place)], config=TIGHT) as pool:
        outputs = [out async for out in pool.numbered_stream(slow())]
        assert [value for _, value in outputs if value != "nothing yet"] == list(range(10))
        assert [number for number, _ in outputs] == sorted(number for number, _ in outputs)
        assert all(number == value for number, value in outputs if value != "nothing yet")


@PLACES
async def test_a_node_may_give_up_waiting(place: str) -> None:
    async def slow() -> AsyncIterator[int]:
        for value in range(30):
            if value % 3 == 0:
                await asyncio.sleep(0.002)
            yield value

    async with WorkerPool([Keep(3), GivesUp(executor=place), Add(1)], config=TIGHT) as pool:
        assert [out async for out in pool.stream(slow())] == list(range(1, 31, 3))


@PLACES
async def test_its_failure_names_the_input(place: str) -> None:
    class Broken(Node):
        is_streaming = True

        async def process(self, inputs: Any) -> Any:
            async for value in inputs:
                if value == 3:
                    raise ValueError("three")
                yield value

    async with WorkerPool([Broken(executor=place), FailAt(99, ValueError())]) as pool:
        with pytest.raises(NodeProcessError, match="three") as caught:
            _ = [out async for out in pool.stream(range(10))]
    assert caught.value.frame == 3
