"""A worker is killed while it works on a frame: the error names the frame, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_nodes import Faulty, FaultyAsyncGenerator, FaultyCoroutine, FaultyGenerator, FaultyStreaming, Pass, kill
from fault_tools import NO_RESTART, Place, chain, check_fields, collect, soon

from remotemedia.config import ChannelConfig, PoolConfig, RestartPolicy
from remotemedia.core.exceptions import WorkerDied
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_stream_ends_with_the_death_and_its_frame(position: int, place: Place, loop_kind: str) -> None:
    outputs: list[Any] = []
    async with WorkerPool(chain(Faulty(kill, at=5), position), config=NO_RESTART) as pool:
        pids = [worker.pid or 0 for worker in pool.snapshot().workers]
        with pytest.raises(WorkerDied) as caught:
            await collect(pool.stream(range(50)), outputs)
        check_fields(caught.value, "faulty", position, pids)
        assert caught.value.frame == 5
        assert "frame 5; the outcome of that frame is unknown" in str(caught.value)
    assert outputs == list(range(len(outputs)))
    assert len(outputs) <= 5


@pytest.mark.parametrize("kind", [FaultyCoroutine, FaultyGenerator, FaultyAsyncGenerator, FaultyStreaming])
async def test_whatever_the_style_of_the_node(kind: type[Faulty], place: Place) -> None:
    async with WorkerPool([kind(kill, at=3)], config=NO_RESTART) as pool:
        with pytest.raises(WorkerDied) as caught:
            [output async for output in pool.stream(range(10))]
        assert caught.value.frame == 3


async def test_every_process_call_that_is_under_way_gets_the_error(place: Place) -> None:
    async with WorkerPool([Pass(), Faulty(kill, at="deadly")], config=NO_RESTART) as pool:
        calls = [asyncio.ensure_future(pool.process(value)) for value in (1, 2, "deadly", 4, 5)]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        assert all(isinstance(result, WorkerDied) for result in results[2:])
        assert results[:2] in ([1, 2], [1, results[2]], [results[2], results[2]])


async def test_in_flush(place: Place) -> None:
    outputs: list[Any] = []
    async with WorkerPool([Faulty(kill, phase="flush")], config=NO_RESTART) as pool:
        with pytest.raises(WorkerDied) as caught:
            await collect(pool.stream(range(3)), outputs)
        assert outputs == [0, 1, 2]
        assert caught.value.frame == 3


class DiesHolding(Node):
    """Holds what it received, has written half of what it wants to send, and is killed."""

    def process(self, data: Any) -> Any:
        out = self.empty_like(data)
        out[: len(out) // 2] = 255
        if data[0] == 7:
            kill()
        out[:] = data
        return out


async def test_no_consumer_sees_a_half_written_frame(place: Place) -> None:
    frames = [np.full(200_000, value, np.uint8) for value in range(20)]
    seen: list[Any] = []
    async with WorkerPool([DiesHolding(), Pass()], config=NO_RESTART) as pool:
        with pytest.raises(WorkerDied) as caught:
            await collect(pool.stream(frames), seen)
        assert caught.value.frame == 7
    assert [int(array[0]) for array in seen] == list(range(len(seen)))
    assert all((array == array[0]).all() for array in seen)  # views outlive the worker, and the pool


class Stuck(Node):
    """Says that it has begun, and does not end."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def process(self, data: Any) -> None:
        Path(self.path).touch()
        signal.pause()


@pytest.mark.parametrize("inputs", [1, 100])
async def test_a_producer_blocked_by_a_consumer_that_dies_wakes_up(inputs: int, place: Place, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    config = PoolConfig(channel=ChannelConfig(queue_frames=2), restart=RestartPolicy.never())
    async with WorkerPool([Pass(), Stuck(str(begun))], config=config) as pool:
        stream = pool.stream(range(inputs))
        waiting = asyncio.ensure_future(anext(stream))
        await soon(begun.exists, "the node to begin")
        os.kill(pool.snapshot().workers[1].pid or 0, signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:
            await asyncio.wait_for(waiting, 30)
        assert (caught.value.node, caught.value.frame) == ("Stuck", 0)


@pytest.mark.parametrize("places", [("inline", "multiprocess"), ("multiprocess", "inline")])
async def test_with_a_stage_in_the_coordinator(places: tuple[str, str], place: Place, loop_kind: str) -> None:
    deadly = Faulty(kill, at=4)
    nodes: list[Node] = [Pass(), deadly] if places[0] == "inline" else [deadly, Pass()]
    async with WorkerPool(nodes, places=places, config=NO_RESTART) as pool:
        with pytest.raises(WorkerDied) as caught:
            [output async for output in pool.stream(range(50))]
        assert caught.value.frame == 4
