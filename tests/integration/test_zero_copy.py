"""Arrays through workers: where they are copied, that nobody writes them, that they live as long as they are held."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import Brighten, Hoarder, TryToWrite
from tests.nodes import Add


def frame(number: int, size: int = 100_000) -> Any:
    return np.full(size, number % 200, np.uint8)


async def test_an_array_from_empty_is_never_copied_on_its_way() -> None:
    async with WorkerPool([Brighten("a"), Brighten("b"), Brighten("c")]) as pool:
        number = 0
        async for output in pool.stream(frame(number) for number in range(100)):
            assert (output == number % 200 + 3).all()
            number += 1
        assert number == 100
        assert [worker["copies"] for worker in pool.metrics()] == [0, 0, 0]


async def test_any_other_array_is_copied_once() -> None:
    async with WorkerPool([Add(1, name="a"), Brighten("b")]) as pool:
        for number in range(20):
            await pool.process(frame(number))
        async for _ in pool.stream([]):  # at its end the counters are up to date
            pass
        first, second = pool.metrics()
        assert (first["copies"], first["bytes_copied"]) == (20, 2_000_000)
        assert (second["copies"], second["bytes_in"]) == (0, 2_000_000)


async def test_inputs_are_read_only_in_workers_and_so_are_results() -> None:
    async with WorkerPool([TryToWrite(), Add([])]) as pool:
        for _ in range(3):
            assert [text.split(":")[0] for text in await pool.process(frame(1))] == [
                "assignment destination is read-only",
                "cannot set WRITEABLE flag to True of this array",
            ]
    async with WorkerPool([Brighten()]) as pool:
        results = [await pool.process(frame(number)) for number in range(40)]
        for result in results:
            with pytest.raises(ValueError, match="read-only"):
                result[0] = 1


@pytest.mark.parametrize("most", [1, 3, 1000])
@pytest.mark.parametrize("size", [100, 100_000, 3_000_000])
async def test_a_node_that_keeps_its_inputs_stalls_nobody(most: int, size: int) -> None:
    config = PoolConfig(channel=ChannelConfig(queue_frames=4, window_bytes=4_000_000))
    async with WorkerPool([Brighten("a"), Hoarder(most), Brighten("b")], config=config) as pool:
        seen = [int(output[-1]) async for output in pool.stream(frame(number, size) for number in range(30))]
    assert seen == [*range(2, 32), min(most, 30) + 1]


async def test_results_stay_valid_when_the_pool_is_closed() -> None:
    async with WorkerPool([Brighten("a"), Brighten("b")]) as pool:
        results = [await pool.process(frame(number)) for number in range(40)]
        nested = await pool.process(frame(100))
    gc.collect()
    assert all((result == number + 2).all() for number, result in enumerate(results))
    view = nested[500:]
    del nested, results
    assert (view == 102).all()


async def test_copies_on_request() -> None:
    async with WorkerPool([Brighten()]) as pool:
        async for output in pool.stream((frame(1) for _ in range(3)), copy=True):
            assert output.flags.owndata
            output[:] = 3  # nobody else sees that
