"""Workers are killed while others read frames from their memory, and while the user holds such frames: all outputs
come, once and in order, and what somebody holds never changes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_tools import Place, soon

from remotemedia.config import ChannelConfig, PoolConfig, RestartPolicy
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.ipc.lane import GENERATION, ONE_REQUEST
from remotemedia.workers import feed
from remotemedia.workers.pool import WorkerPool

ALWAYS = RestartPolicy(max_restarts=10_000, backoff_s=(0.001, 0.002), max_attempts=1_000)

pytestmark = pytest.mark.timeout(120)


class Pass(Node):
    """Passes on what it gets, or a view of all of it."""

    def process(self, data: Any) -> Any:
        return data if data[0] % 2 else data.reshape(-1, 2).reshape(-1)


class Keep(Pass):
    """The same, and keeps some of it."""

    def __init__(self, name: str, most: int = 3) -> None:
        super().__init__(name)
        self.most, self.kept = most, list[tuple[int, Any]]()

    def process(self, data: Any) -> Any:
        assert unchanged(self.kept), "a kept frame has changed"
        if data[0] % 3 == 0:
            self.kept = [*self.kept, (int(data[0]), data)][-self.most :]
        return super().process(data)


class Own(Node):
    """Gives arrays in its own memory."""

    def process(self, data: Any) -> Any:
        out = self.empty_like(data)
        out[:] = data
        return out


class OwnFirst(Pass):
    """The same for the first frame, and passes on the others."""

    def process(self, data: Any) -> Any:
        return data.copy() if data[0] == 0 else super().process(data)


class Gate(Pass):
    """Does not go on with the first frame before somebody opens the FIFO for writing."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(name)
        self.path, self.is_open = path, False

    def process(self, data: Any) -> Any:
        if not self.is_open:
            Path(self.path).read_bytes()
            self.is_open = True
        return super().process(data)


def frame(number: int) -> Any:
    return np.full(8_000, number)


def unchanged(kept: list[tuple[int, Any]]) -> bool:
    return all((array == number).all() for number, array in kept)


def kill(pool: WorkerPool, names: str) -> None:
    for worker in pool.snapshot().workers:
        if worker.node in names and worker.pid is not None:
            with suppress(ProcessLookupError):  # it has been killed before, and is not waited for yet
                os.kill(worker.pid, signal.SIGKILL)


async def run(pool: WorkerPool, count: int, kills: dict[int, str]) -> None:
    """A stream whose user keeps some outputs for a while and some to the end; before output n is taken, the workers
    of the nodes `kills[n]` are killed.
    """
    recent: list[tuple[int, Any]] = []
    first: list[tuple[int, Any]] = []
    came = 0
    async for output in pool.stream(frame(number) for number in range(count)):
        kill(pool, kills.get(came, ""))
        assert (output == came).all(), came
        recent = [*recent, (came, output)][-3:]
        if came % 40 == 0:
            first.append((came, output))
        assert unchanged(recent)
        assert unchanged(first)
        came += 1
    assert came == count


def rounds(victims: list[str], every: int = 15) -> dict[int, str]:
    return {20 + every * at: names for at, names in enumerate(victims)}


CHAIN = ["a", "b", "c", "ab", "bc", "ac", "abc", "a", "ab", "b"]
DIAMOND = ["a", "b", "c", "d", "ab", "bd", "cd", "ad", "abcd"]


async def test_a_chain_that_passes_on_what_it_gets(place: Place) -> None:
    nodes = [Pass("a"), Pass("b"), Pass("c")]
    async with WorkerPool(nodes, config=PoolConfig(restart=ALWAYS)) as pool:
        await run(pool, 250, rounds(CHAIN))


async def test_with_an_origin_in_the_midst_and_nodes_that_keep(place: Place) -> None:
    nodes = [Own("a"), Keep("b"), Keep("c"), Keep("d")]
    async with WorkerPool(nodes, config=PoolConfig(restart=ALWAYS)) as pool:
        await run(pool, 250, rounds(["a", "b", "c", "d", "ab", "bc", "cd", "abc", "bcd", "abcd"]))


@pytest.mark.slow
async def test_where_branches_meet_in_small_channels(place: Place) -> None:
    nodes = (Own("a"), Keep("b"), Pass("c"), Tell("d"))
    graph = Graph(nodes, tuple("abcd"), ((0, 1), (0, 2), (1, 3), (2, 3)))
    config = PoolConfig(restart=ALWAYS, channel=ChannelConfig(queue_frames=16, window_bytes=500_000))
    expected = [number for number in range(200) for _ in range(2)]
    came: list[Any] = []
    async with WorkerPool(graph, config=config) as pool:
        kills = rounds(DIAMOND, 30)
        async for output in pool.stream(frame(number) for number in range(200)):
            kill(pool, kills.get(len(came), ""))
            assert (output == output[0]).all()
            came.append(int(output[0]))
    assert came == expected


class Tell(Node):
    """One element of each frame, to be told from others."""

    def process(self, data: Any) -> Any:
        assert (data == data[0]).all()
        return data[:1]


def requests(pool: WorkerPool, producer: int) -> int:
    """How often the receiver of a stage's frames has asked for some again."""
    channel = pool._plan.routes[producer].shared
    assert channel is not None
    return channel.lane(0, pool._parts.fabric.ledger).words[GENERATION] // ONE_REQUEST


async def lose_the_origin(pool: WorkerPool) -> None:
    """Kill the first stage when the second has passed on all; what is left of it is removed before the next begins."""
    await soon(lambda: pool.snapshot().workers[1].frames >= 6, "all frames to be passed on")
    kill(pool, "a")
    await soon(lambda: (w := pool.snapshot().workers[0]).generation == 1 and w.state == "ready", "the next generation")


async def test_the_origin_is_gone_before_its_frames_are_taken(place: Place, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    nodes = [Own("a"), OwnFirst("b"), Gate(gate, "c")]
    async with WorkerPool(nodes, config=PoolConfig(restart=ALWAYS)) as pool:
        calls = [asyncio.ensure_future(pool.process(frame(number))) for number in range(6)]
        await lose_the_origin(pool)
        await asyncio.to_thread(Path(gate).write_bytes, b"")
        results = await asyncio.gather(*calls)
        assert unchanged(list(enumerate(results)))
        assert requests(pool, 1) == 1
        await run(pool, 100, {})
        assert requests(pool, 1) == 1


async def test_the_origin_is_gone_before_the_user_takes_its_frames(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_TOP_UP_S", 60.0)  # all six go in at once, however slow that is
    async with WorkerPool([Own("a"), OwnFirst("b")], config=PoolConfig(restart=ALWAYS)) as pool:
        stream = pool.stream(frame(number) for number in range(6))
        kept = [(0, await anext(stream))]
        await lose_the_origin(pool)
        kept += [(number, await anext(stream)) for number in range(1, 6)]
        assert unchanged(kept)
        assert requests(pool, 1) == 1
        await stream.aclose()
        await run(pool, 100, {})


@pytest.mark.parametrize("policy", [RestartPolicy.never(), ALWAYS])
async def test_what_the_user_keeps_outlives_the_pool(policy: RestartPolicy, place: Place) -> None:
    async with WorkerPool([Own("a"), Pass("b"), Pass("c")], config=PoolConfig(restart=policy)) as pool:
        kept = [(number, await pool.process(frame(number))) for number in range(10)]
        assert sum(worker.copies for worker in pool.snapshot().workers) == 0
        await run(pool, 100, {})
        under_way = [asyncio.ensure_future(pool.process(frame(number))) for number in range(10)]
        await asyncio.sleep(0)
        assert unchanged(kept)
    await asyncio.gather(*under_way, return_exceptions=True)
    assert unchanged(kept)
