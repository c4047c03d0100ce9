"""WorkerPool: calls and streams, many at once, left early, cancelled, failing; on every kind of event loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.core.exceptions import NodeProcessError, PipelineError, PoolClosed, RemoteMediaError
from remotemedia.workers.pool import WorkerPool
from tests.nodes import Add, AsyncAdd, AsyncRepeat, FailAt, Hold, Keep, Repeat

TIGHT = PoolConfig(channel=ChannelConfig(queue_frames=2))


def chain() -> list[Any]:
    """A worker, a stage in this process, another worker."""
    return [Add(1, name="a"), AsyncAdd(10, name="b", executor="inline"), AsyncAdd(100, name="c")]


async def collect(outputs: Any) -> list[Any]:
    async with aclosing(outputs):
        return [output async for output in outputs]


async def test_one_value_at_a_time(loop_kind: str) -> None:
    async with WorkerPool(chain()) as pool:
        assert [await pool.process(value) for value in range(5)] == [111, 112, 113, 114, 115]


@pytest.mark.parametrize("name", ["ü" * 300, "camera\n\0/..", "日本語", " "])
async def test_a_node_may_have_any_name(name: str) -> None:
    async with WorkerPool([Add(1, name=name), Add(2, name=name)]) as pool:
        assert await pool.process(0) == 3
        assert [worker.node for worker in pool.snapshot().workers] == [f"{name}_0", f"{name}_1"]


async def test_no_output_one_output_several_outputs() -> None:
    async with WorkerPool([Keep(2), Repeat(2), AsyncRepeat(1)]) as pool:
        assert await pool.process(1) is None
        assert await pool.process(2) == [((2, 0), 0), ((2, 1), 0)]
    async with WorkerPool([Repeat(1)]) as pool:
        assert await pool.process("x") == ("x", 0)
    async with WorkerPool([Repeat(0)]) as pool:
        assert await pool.process("x") is None


@pytest.mark.parametrize("config", [PoolConfig(), TIGHT])
async def test_many_calls_at_once(loop_kind: str, config: PoolConfig) -> None:
    async with WorkerPool(chain(), config=config) as pool:
        assert await asyncio.gather(*(pool.process(value) for value in range(64))) == list(range(111, 175))


async def test_a_cancelled_call_leaves_the_others_alone() -> None:
    async with WorkerPool(chain(), config=TIGHT) as pool:
        calls = [asyncio.ensure_future(pool.process(value)) for value in range(40)]
        await asyncio.sleep(0)
        for call in calls[::3]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results[::3]] == [asyncio.CancelledError] * 14
        assert [result for i, result in enumerate(results) if i % 3] == [i + 111 for i in range(40) if i % 3]
        assert await pool.process(0) == 111


@pytest.mark.parametrize("place", ["multiprocess", "inline"])
async def test_when_a_call_fails_the_others_go_on(place: str) -> None:
    """Wherever they were: in flight, or waiting for room."""
    node = FailAt(30, ValueError("thirty"))
    async with WorkerPool([Add(0), node, Add(0)], places=["multiprocess", place, "multiprocess"], config=TIGHT) as pool:
        results = await asyncio.gather(*(pool.process(value) for value in range(64)), return_exceptions=True)
        error = results.pop(30)
        assert isinstance(error, NodeProcessError)
        assert "thirty" in str(error)
        assert results == [i for i in range(64) if i != 30]
        assert await pool.process(0) == 0


def plain(count: int) -> Iterator[int]:
    yield from range(count)


async def waiting(count: int) -> AsyncIterator[int]:
    for value in range(count):
        if value % 7 == 0:
            await asyncio.sleep(0)
        yield value


@pytest.mark.parametrize("make_source", [range, lambda count: list(range(count)), plain, waiting])
async def test_a_stream_of_anything_that_can_be_iterated(loop_kind: str, make_source: Any) -> None:
    async with WorkerPool(chain()) as pool:
        for count in (0, 1, 300):
            assert await collect(pool.stream(make_source(count))) == list(range(111, 111 + count))


async def test_every_stream_is_flushed() -> None:
    async with WorkerPool([Hold("held"), Repeat(2)]) as pool:
        assert await collect(pool.stream([1, 2])) == [([1, 2], 0), ([1, 2], 1)]
        assert await collect(pool.stream([3])) == [([3], 0), ([3], 1)]


async def test_several_streams_and_calls_at_once(loop_kind: str) -> None:
    async with WorkerPool(chain(), config=TIGHT) as pool:
        makers: list[Callable[[int], Any]] = [range, plain, waiting]
        streams = [collect(pool.stream(make_source(200))) for make_source in makers * 4]
        calls = [pool.process(value) for value in range(64)]
        results = await asyncio.gather(*streams, *calls)
        assert results[:12] == [list(range(111, 311))] * 12
        assert results[12:] == list(range(111, 175))


async def test_a_slow_consumer_holds_back_the_source() -> None:
    given = 0

    def count(value: int) -> int:
        nonlocal given
        given = value
        return value

    async with WorkerPool([Add(0), Add(0)], config=TIGHT) as pool:
        taken = most = 0
        async for output in pool.stream(map(count, range(1, 1001))):
            taken += 1
            assert output == taken
            most = max(most, given - taken)
        assert taken == 1000
        assert most <= 3 * 2 + 2  # two frames in each of three channels, one in each node


async def test_consumers_of_every_speed(loop_kind: str) -> None:
    async with WorkerPool(chain(), config=TIGHT) as pool:
        dice = random.Random(3)
        seen = []
        async with aclosing(pool.stream(waiting(1500))) as outputs:
            async for output in outputs:
                seen.append(output)
                for _ in range(dice.choice([0, 0, 0, 1, 30])):
                    await asyncio.sleep(0)
        assert seen == list(range(111, 1611))


@pytest.mark.parametrize("make_source", [plain, waiting])
async def test_a_stream_that_is_left_early_is_in_nobodys_way(make_source: Any) -> None:
    async with WorkerPool(chain(), config=TIGHT) as pool:
        for length in (1, 2, 7, 20):
            async with aclosing(pool.stream(make_source(10_000))) as outputs:
                async for output in outputs:
                    if output == 110 + length:
                        break
            assert await pool.process(5) == 116
            assert await collect(pool.stream(range(30))) == list(range(111, 141))


async def test_a_stream_that_nobody_reads_does_not_block_calls() -> None:
    async with WorkerPool([Add(1)], config=TIGHT) as pool, aclosing(pool.stream(range(1000))) as outputs:
        assert await anext(outputs) == 1
        assert await asyncio.gather(*(pool.process(value) for value in range(20))) == list(range(1, 21))
        assert [await anext(outputs) for _ in range(5)] == [2, 3, 4, 5, 6]


async def test_an_error_of_the_source_is_the_callers() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("source")

    async def broken_too() -> AsyncIterator[int]:
        yield 1
        raise KeyError("source")

    async with WorkerPool(chain()) as pool:
        for source in (broken(), broken_too()):
            with pytest.raises(KeyError, match="source"):
                await collect(pool.stream(source))
        assert await pool.process(0) == 111


async def test_the_error_of_a_node_ends_its_stream_after_the_outputs_before_it() -> None:
    async with WorkerPool([Add(0), FailAt(7, ValueError("seven"))]) as pool:
        seen = []
        outputs = pool.stream(range(20))
        with pytest.raises(NodeProcessError, match="seven") as caught:  # noqa: PT012 - outputs first, then the error
            while True:
                seen.append(await anext(outputs))
        assert seen == list(range(7))
        assert caught.value.frame == 7
        assert isinstance(caught.value.__cause__, ValueError)


async def test_two_pools_side_by_side(loop_kind: str) -> None:
    async with WorkerPool(chain()) as one, WorkerPool([Add(5)]) as two:
        for value in range(20):
            assert list(await asyncio.gather(one.process(value), two.process(value))) == [value + 111, value + 5]
        results = await asyncio.gather(collect(one.stream(range(100))), collect(two.stream(range(100))))
        assert list(results) == [list(range(111, 211)), list(range(5, 105))]
        pids = {worker.pid for pool in (one, two) for worker in pool.snapshot().workers}
        assert len(pids) == 4  # three workers, and None for the stage in this process


async def test_a_result_of_one_pool_is_the_input_of_another() -> None:
    async with WorkerPool([Add("x")]) as one, WorkerPool([Add("y")]) as two:
        assert await two.process(await one.process("")) == "xy"
        assert await collect(two.stream(one.stream(["a", "b"]))) == ["axy", "bxy"]


async def test_the_snapshot_counts(loop_kind: str) -> None:
    async with WorkerPool(chain()) as pool:
        await collect(pool.stream([0] * 30))
        workers = pool.snapshot().workers
        assert [(worker.node, worker.frames, worker.errors) for worker in workers] == [
            ("a", 30, 0),
            ("b", 30, 0),
            ("c", 30, 0),
        ]
        assert [worker.state for worker in workers] == ["ready", "inline", "ready"]
        assert all(worker.p99_us >= worker.p50_us > 0 for worker in workers)


async def test_what_a_pool_says_before_and_after_its_life() -> None:
    pool = WorkerPool([Add(1)])
    with pytest.raises(PipelineError, match="not started"):
        await pool.process(1)
    async with pool:
        pending = asyncio.ensure_future(collect(pool.stream(waiting(100_000))))
        assert await pool.process(1) == 2
    with pytest.raises(PoolClosed):
        await pending
    with pytest.raises(PoolClosed):
        await pool.process(1)
    with pytest.raises(PipelineError, match="started before"):
        await pool.start()


async def test_closing_while_calls_wait() -> None:
    async with WorkerPool(chain(), config=TIGHT) as pool:
        calls = [asyncio.ensure_future(pool.process(value)) for value in range(50)]
        await calls[0]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[0] == 111
    assert all(isinstance(result, (int, PoolClosed)) for result in results)
    assert isinstance(results[-1], RemoteMediaError)
