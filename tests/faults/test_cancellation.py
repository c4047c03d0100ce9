"""Cancelled at every await in turn: the cancellation arrives where it was sent, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from fault_nodes import AsyncPass, Faulty, Pass, hang_for_ever
from fault_tools import Place, soon

from remotemedia.config import PoolConfig, Timeouts
from remotemedia.workers.pool import WorkerPool

FEW_STEPS = 5


class Stepwise:
    """Awaits a coroutine, counts how often it waits, and cancels the task at the `at`-th and the `more` waits after."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, more: int) -> None:
        self._coroutine, self._at, self._more = coroutine, at, more
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        step: Callable[[], Any] = lambda: self._coroutine.send(None)
        while True:
            try:
                waited_for = step()
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self._at <= self.waits <= self._at + self._more:
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                value = yield waited_for
                step = lambda value=value: self._coroutine.send(value)
            except BaseException as error:
                step = lambda error=error: self._coroutine.throw(error)


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        await asyncio.sleep(0)
        yield number


async def everything() -> None:
    """Every public operation of a pool once."""
    pool = WorkerPool([Pass(), AsyncPass(), Pass()], places=("multiprocess", "inline", "multiprocess"))
    async with pool:
        assert await pool.process(1) == 1
        assert [output async for output in pool.stream(range(3))] == [0, 1, 2]
        assert [output async for output in pool.stream(numbers())] == [0, 1, 2]


async def cancelled_at(scenario: Callable[[], Coroutine[Any, Any, Any]], at: int, more: int) -> bool:
    """Runs it with a cancellation at the `at`-th wait; False when it has fewer waits than that."""
    steps = Stepwise(scenario(), at, more)
    task = asyncio.ensure_future(as_coroutine(steps))
    try:
        async with asyncio.timeout(30):
            await asyncio.wait([task])
    finally:
        assert task.done(), f"hangs after a cancellation at wait {at}"
    assert task.cancelled() or task.exception() is None, f"at wait {at}: {task.exception()!r}"
    assert task.cancelled() or steps.waits < at, f"the cancellation at wait {at} was swallowed"
    return task.cancelled()


def descriptor_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_sweep_over_every_await(place: Place, loop_kind: str) -> None:
    more = 0 if loop_kind == "asyncio" else 2  # again at the next two waits: during the close that the first one began
    assert not await cancelled_at(everything, 10_000, 0)  # what stays for the life of the process is there after this
    gc.collect()
    descriptors = descriptor_count()
    at = 1
    while await cancelled_at(everything, at, more):
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        assert place.leftovers() == [], f"after a cancellation at wait {at}"
        gc.collect()
        assert descriptor_count() == descriptors, f"after a cancellation at wait {at}"
        at += 1
    assert at > FEW_STEPS


async def test_close_goes_on_although_it_is_cancelled(place: Place) -> None:
    pool = WorkerPool([Faulty(hang_for_ever, phase="cleanup")], config=PoolConfig(timeouts=Timeouts(stop_s=0.5)))
    await pool.start()
    closing = asyncio.ensure_future(pool.aclose())
    await asyncio.sleep(0)
    for _ in range(3):
        closing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert place.leftovers() == []
    assert pool.snapshot().workers[0].state == "exited"


async def test_a_cancelled_call_takes_nothing_from_the_others(place: Place) -> None:
    async with WorkerPool([Pass(), AsyncPass()]) as pool:
        for _ in range(20):
            calls = [asyncio.ensure_future(pool.process(number)) for number in range(40)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert results[1::2] == list(range(1, 40, 2))
            for number, result in zip(range(0, 40, 2), results[::2], strict=True):
                assert result == number or isinstance(result, asyncio.CancelledError)  # some were quicker
        assert await pool.process("after") == "after"
        assert [output async for output in pool.stream(range(100))] == list(range(100))


async def test_cancelled_calls_that_are_kept_hold_no_slots(place: Place) -> None:
    """A call that waits for room has its frame packed already; its kept exception must not keep the slot."""
    async with WorkerPool([Faulty(hang_for_ever, at="hang")], config=PoolConfig(timeouts=Timeouts(stop_s=0.5))) as pool:
        stuck = asyncio.ensure_future(pool.process("hang"))
        kept = []
        for _ in range(60):
            call = asyncio.ensure_future(pool.process(b"x" * 1000))
            await asyncio.sleep(0)
            kept.append(call)
        for call in kept:
            call.cancel()
            await soon(call.done, "the cancellation")
        assert all(call.cancelled() for call in kept)
        more = [asyncio.ensure_future(pool.process(b"x")) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(call.done() for call in more)
        for call in [*more, stuck]:
            call.cancel()
        await asyncio.gather(*more, stuck, return_exceptions=True)


async def test_cancelled_streams(place: Place) -> None:
    async def consume(pool: WorkerPool) -> None:
        async for _ in pool.stream(numbers_for_ever()):
            pass

    async with WorkerPool([Pass(), AsyncPass()]) as pool:
        for _ in range(5):
            consumer = asyncio.ensure_future(consume(pool))
            await pool.process(1)
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
            assert await pool.process(2) == 2


async def numbers_for_ever() -> AsyncIterator[int]:
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(0)
