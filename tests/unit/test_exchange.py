"""The coordinator's end of the frames, with a line that gives every frame back as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest

from remotemedia.core.exceptions import PipelineError, PoolClosed
from remotemedia.core.frames import VideoFrame
from remotemedia.ipc.channel import MARK
from remotemedia.workers import feed as feed_module
from remotemedia.workers.delivery import Window
from remotemedia.workers.exchange import _MOST_PACKED, Exchange, owned
from remotemedia.workers.stage import Inbox
from tests.unit.local_stage import Ground


@asynccontextmanager
async def echo(frames: int = 4) -> AsyncIterator[Exchange]:
    exchange: Exchange | None = None

    def on_ring() -> None:
        assert exchange is not None
        exchange.on_ring()

    ground = Ground(on_ring)
    feed = ground.channel(queue_frames=frames)
    window = Window(most_frames=frames, most_bytes=1 << 30, always=1)
    exchange = Exchange(feed, Inbox(feed.receivers), ground.bell, window, ValueError)
    yield exchange
    ground.close()


async def everything(outputs: Any) -> list[Any]:
    async with aclosing(outputs):
        return [tuple(output) async for output in outputs]


async def test_a_call_gets_its_own_result() -> None:
    async with echo() as exchange:
        assert await asyncio.gather(*(exchange.process(n) for n in range(30))) == list(range(30))


async def test_the_numbers_of_a_stream_begin_at_nought() -> None:
    async with echo() as exchange:
        await exchange.process("x")
        for _ in range(2):
            assert await everything(exchange.stream("abc")) == [(0, "a"), (1, "b"), (2, "c")]


async def test_without_a_source_there_is_one_item() -> None:
    async with echo() as exchange:
        assert await everything(exchange.stream(None)) == [(0, None)]


async def test_streams_and_calls_side_by_side() -> None:
    async def waiting() -> AsyncIterator[int]:
        for value in range(50):
            await asyncio.sleep(0)
            yield value

    async with echo(2) as exchange:
        streams = [exchange.stream(waiting() if i % 2 else range(50)) for i in range(10)]
        results = await asyncio.gather(*map(everything, streams), *(exchange.process(n) for n in range(40)))
        assert results[:10] == [[(n, n) for n in range(50)]] * 10
        assert results[10:] == list(range(40))


async def test_inputs_that_wait_hold_few_slots() -> None:
    async with echo(2) as exchange:
        streams = [exchange.stream(range(20)) for _ in range(20)]
        for stream in streams:
            assert await anext(stream) is not None
            waiting = [each.feed for each in exchange._streams if each.feed is not None]
            assert sum(feed.parcel is not None for feed in waiting) <= _MOST_PACKED + 1
        results = await asyncio.gather(*map(everything, streams))
        assert results == [[(n, n) for n in range(1, 20)]] * 20


async def test_a_stream_goes_on_after_looking_after_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when what it found there were no outputs but only marks."""
    monkeypatch.setattr(feed_module, "_TOP_UP_S", -1.0)
    async with echo() as exchange:
        assert await everything(exchange.stream([MARK] * 5 + [1] + [MARK] * 5)) == [(5, 1)]


async def test_an_endless_stream_lets_others_run() -> None:
    def endless() -> Iterator[int]:
        value = 0
        while True:
            yield value
            value += 1

    async with echo() as exchange:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while turns < 20:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        async with aclosing(exchange.stream(endless())) as outputs:
            async for _ in outputs:
                if task.done():
                    break
        assert turns == 20


async def test_a_failure_reaches_everybody() -> None:
    async with echo(2) as exchange:
        exchange._collect.take = lambda: None  # type: ignore[method-assign]  # nothing ever comes back
        waiting = [asyncio.ensure_future(exchange.process(n)) for n in range(5)]
        waiting.append(asyncio.ensure_future(everything(exchange.stream(range(5)))))
        for _ in range(3):
            await asyncio.sleep(0)
        exchange.fail(PoolClosed("first"))
        exchange.fail(PoolClosed("second"))
        exchange._bell.ring()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(result) for result in results] == ["first"] * 6
        with pytest.raises(PoolClosed, match="first"):
            await exchange.process(1)


async def test_own_sources_run_once_at_a_time() -> None:
    async with echo() as exchange:
        exchange._collect.take = lambda: None  # type: ignore[method-assign]  # nothing ever comes back
        pending = asyncio.ensure_future(anext(exchange.stream(None, own_sources=True)))
        await asyncio.sleep(0)
        with pytest.raises(PipelineError, match="run already"):
            await anext(exchange.stream(None, own_sources=True))
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)


def test_owned_copies_views_wherever_they_are() -> None:
    base = np.arange(10)
    value = {"a": [base[2:], (base[:3], "x")], "b": VideoFrame(array=base[1:]), "c": base, "d": 5}
    mine = owned(value)
    assert mine["c"] is base
    assert mine["d"] == 5
    for copy, view in ((mine["a"][0], base[2:]), (mine["a"][1][0], base[:3]), (mine["b"].array, base[1:])):
        assert copy.flags.owndata
        assert np.array_equal(copy, view)
