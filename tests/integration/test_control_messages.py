"""Messages for the nodes of a running pool."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remotemedia.core.exceptions import ConfigurationError, NodeError, PipelineError, PoolClosed
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import AsyncTally, Gate, Tally
from tests.nodes import Add

PLACES = pytest.mark.parametrize("place", ["multiprocess", "inline"])


@PLACES
@pytest.mark.parametrize("kind", [Tally, AsyncTally])
async def test_they_reach_the_node_between_frames(kind: type[Tally], place: str, loop_kind: str) -> None:
    async with WorkerPool([Add(0), kind("tally")], places=["multiprocess", place]) as pool:
        await pool.send_control("tally", {"level": [1, 2.5, None, b"x"]})  # while it is idle
        assert await pool.process(7) == (7, 1, {"level": [1, 2.5, None, b"x"]})

        async def tune() -> None:
            for level in range(20):
                await pool.send_control("tally", level)

        calls = [pool.process(n) for n in range(100)]
        *results, _ = await asyncio.gather(*calls, tune())
        levels = [level for _, _, level in results[1:] if isinstance(level, int)]
        assert levels == sorted(levels)
        assert (await pool.process(0))[2] == 19

        with pytest.raises(NodeError, match=r"'tally'.*cannot be tuned to that") as caught:
            await pool.send_control("tally", "fail")
        assert "ValueError" in str(caught.value)  # the exception itself is too large for a message
        assert len(str(caught.value)) < 100_000
        assert (await pool.process(0))[2] == 19

        with pytest.raises(TypeError, match="cannot carry a value of type"):
            await pool.send_control("tally", {"x": object()})
        with pytest.raises(ConfigurationError, match=r"no node 'taly'.*did you mean 'tally'"):
            await pool.send_control("taly", 1)
        with pytest.raises(ConfigurationError, match="there are Add, tally"):
            await pool.send_control("zzz", 1)
        await pool.send_control("Add", "nodes that do not care get them as well")
    with pytest.raises(PoolClosed):
        await pool.send_control("tally", 1)


async def test_the_pool_closes_while_a_node_does_not_answer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(PipelineError, match="not started"):
        await WorkerPool([Add(1)]).send_control("Add", 1)
    async with WorkerPool([Gate(str(tmp_path))]) as pool:
        call = asyncio.ensure_future(pool.process("x"))
        while not (tmp_path / "x.waits").exists():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0)
        tasks = [asyncio.ensure_future(pool.send_control("gate", n)) for n in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        closing = asyncio.ensure_future(pool.aclose())
        for task in (*tasks[1:], call):
            with pytest.raises(PoolClosed):
                await task
        await asyncio.to_thread((tmp_path / "x").write_bytes, b"")
        await closing


class Metronome(Node):
    """A source that gives what it was told last, for ever."""

    beat: Any = 0

    def process(self) -> Iterator[Any]:  # type: ignore[override]
        while True:
            yield self.beat

    def on_control(self, message: Any) -> None:
        self.beat = message


@PLACES
async def test_a_source_hears_them_between_two_outputs(place: str) -> None:
    async with WorkerPool([Metronome(), Add(0)], places=[place, "multiprocess"]) as pool:
        outputs = pool.stream()
        assert await anext(outputs) == 0
        told = asyncio.ensure_future(pool.send_control("Metronome", 5))
        async for beat in outputs:
            if beat == 5:
                break
        await told
        await outputs.aclose()
