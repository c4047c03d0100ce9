"""Live sources: what the pipeline has no time for is dropped at the entrance, counted and told; the rest is in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.events import FrameDropped
from remotemedia.workers.pool import WorkerPool
from tests.nodes import Add

FEW = PoolConfig(in_flight_frames=2)


class Camera:
    """Gives numbers, as many as it is told to, whether somebody takes them or not."""

    def __init__(self) -> None:
        self._allowed = asyncio.Semaphore(0)
        self.given = 0
        self.closed = False

    def shoot(self, count: int) -> None:
        for _ in range(count):
            self._allowed.release()

    async def until_given(self, count: int) -> None:
        while self.given < count:  # noqa: ASYNC110 - it does not wait for time to pass
            await asyncio.sleep(0)

    async def frames(self, most: int) -> AsyncIterator[int]:
        try:
            for number in range(most):
                await self._allowed.acquire()
                self.given = number + 1
                yield number
        finally:
            self.closed = True


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_what_there_is_no_time_for_is_dropped(overflow: Any, loop_kind: str) -> None:
    camera, told = Camera(), []
    async with WorkerPool([Add(0)], config=FEW) as pool:
        pool.on_event(lambda event: told.append(event) if isinstance(event, FrameDropped) else None)
        async with contextlib.aclosing(pool.stream(camera.frames(100), overflow=overflow, backlog=3)) as outputs:
            first = asyncio.ensure_future(anext(outputs))
            camera.shoot(1)
            assert await first == 0
            camera.shoot(99)  # nobody takes outputs now: what is under way, and the backlog, is all there is room for
            await camera.until_given(100)
            found = [0, *[output async for output in outputs]]
        drops = pool.snapshot().drops
    assert found == sorted(set(found))
    if overflow == "drop_oldest":
        assert found[-3:] == [97, 98, 99]
    else:
        assert found[:4] == [0, 1, 2, 3]  # those that found the backlog empty
    assert drops == 100 - len(found) > 0
    assert [event.dropped for event in told] == list(range(1, drops + 1))
    assert camera.closed


async def test_a_pipeline_that_keeps_up_loses_nothing() -> None:
    camera = Camera()
    async with WorkerPool([Add(0)]) as pool:
        async with contextlib.aclosing(pool.stream(camera.frames(20), overflow="drop_oldest")) as outputs:
            for number in range(20):
                camera.shoot(1)
                assert await anext(outputs) == number
            assert [output async for output in outputs] == []
        assert pool.snapshot().drops == 0


async def test_an_error_comes_behind_what_was_taken_and_a_stream_may_be_left() -> None:
    async def breaks() -> AsyncIterator[int]:
        yield 1
        raise ValueError("the camera's own")

    async def never_waits() -> AsyncIterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    async with WorkerPool([Add(0)], config=FEW) as pool:
        with pytest.raises(ValueError, match="own"):
            [output async for output in pool.stream(breaks(), overflow="drop_newest")]
        async with contextlib.aclosing(pool.stream(never_waits(), overflow="drop_oldest")) as outputs:
            taken = [await anext(outputs) for _ in range(5)]
        assert taken == sorted(set(taken))
        assert await pool.process(1) == 1
        for wrong in ({"overflow": "leaky"}, {"overflow": "drop_oldest", "backlog": 0}):
            with pytest.raises(ConfigurationError, match="expected"):
                await anext(pool.stream(breaks(), **wrong))  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="async iterable"):
            await anext(pool.stream([1, 2], overflow="drop_oldest"))
