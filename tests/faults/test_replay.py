"""Workers are killed in the midst of their work: what comes out is what comes out of a run in which nobody dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from fault_tools import Place, collect, soon

from remotemedia.config import ChannelConfig, PoolConfig, RestartPolicy
from remotemedia.core.exceptions import ConfigurationError, RestartLimitExceeded, WorkerDied
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool

ALWAYS = RestartPolicy(max_restarts=10_000, backoff_s=(0.001, 0.002), max_attempts=1_000)

pytestmark = pytest.mark.timeout(120)


class Scale(Node):
    """Array in, array out, in the outgoing memory."""

    def process(self, data: Any) -> Any:
        out = self.empty_like(data)
        np.multiply(data, 3, out=out)
        return out


class Split(Node):
    """Several outputs for an input, or none: as many as the last digit of its first element says, up to three."""

    def process(self, data: Any) -> Iterator[Any]:
        for part in range(int(data[0]) % 4):
            yield data + part


class AsyncSplit(Split):
    """The same as an async generator."""

    async def process(self, data: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        for part in range(int(data[0]) % 4):
            yield data + part


class Total(Node):
    """Adds up what it has seen: every output depends on all inputs before it."""

    def __init__(self, name: str = "total") -> None:
        super().__init__(name)
        self.total = 0

    def process(self, data: Any) -> Any:
        self.total += int(data[0]) * data.size
        return {"total": self.total, "data": data}

    def flush(self) -> Any:
        return self.total

    def snapshot_state(self) -> bytes:
        return self.total.to_bytes(16, "little")

    def restore_state(self, state: memoryview) -> None:
        self.total = int.from_bytes(state, "little")


class Measure(Node):
    """A summary of what it gets, to be compared."""

    def process(self, data: Any) -> Any:
        if isinstance(data, dict):
            return ("total", data["total"], int(data["data"].sum()))
        return ("plain", int(np.sum(data)))


class Numbers(Node):
    """A source."""

    def process(self) -> Iterator[Any]:  # type: ignore[override]
        for number in range(400):
            yield np.full(10, number)


def frames(count: int) -> Iterator[Any]:
    return (np.full(10 + number % 7 * 500, number) for number in range(count))


CHAINS = {
    "plain": lambda: Graph.chain([Scale("a"), Scale("b"), Measure("c")]),
    "generator": lambda: Graph.chain([Split("a"), Scale("b"), Measure("c")]),
    "async generator": lambda: Graph.chain([Scale("a"), AsyncSplit("b"), Measure("c")]),
    "state": lambda: Graph.chain([Scale("a"), Total("b"), Measure("c")]),
    "generator and state": lambda: Graph.chain([Split("a"), Total("b"), Measure("c")]),
    "diamond": lambda: Graph(
        (Split("a"), Scale("b"), Total("c"), Measure("d")), tuple("abcd"), ((0, 1), (0, 2), (1, 3), (2, 3))
    ),
}


async def run(graph: Graph, count: int, kills: dict[int, str], **settings: Any) -> list[Any]:
    """All outputs of a stream; before output number n is taken, the workers of the nodes `kills[n]` are killed."""
    outputs: list[Any] = []
    own_sources = isinstance(graph.nodes[0], Numbers)
    async with WorkerPool(graph, config=PoolConfig(**{"restart": ALWAYS, "snapshot_frames": 10, **settings})) as pool:
        async for output in pool.stream(None if own_sources else frames(count)):
            if victims := kills.get(len(outputs)):
                for worker in pool.snapshot(memory=False).workers:
                    if worker.node in victims and worker.pid is not None:
                        with suppress(ProcessLookupError):  # it is dead already, of the blow before
                            os.kill(worker.pid, signal.SIGKILL)
            outputs.append(output)
        left = [worker for worker in pool.snapshot().workers if worker.state not in ("ready", "backoff")]
        assert all(worker.state in ("spawned", "loading", "initializing") for worker in left)
    return outputs


@pytest.mark.parametrize("kind", CHAINS)
async def test_nothing_is_lost_and_nothing_comes_twice(kind: str, place: Place) -> None:
    expected = await run(CHAINS[kind](), 300, {}, restart=RestartPolicy.never())
    names = "".join(CHAINS[kind]().ids)
    one_by_one = {20 + 30 * at: name for at, name in enumerate(names)}
    together = {150: names[:2], 180: names[1:], 210: names}
    assert await run(CHAINS[kind](), 300, one_by_one | together) == expected


async def test_a_source_begins_again_and_what_it_has_made_before_is_dropped(place: Place) -> None:
    def graph() -> Graph:
        return Graph.chain([Numbers("a"), Scale("b"), Measure("c")])

    expected = [("plain", 30 * number) for number in range(400)]
    assert await run(graph(), 0, {50: "a", 120: "b", 200: "ac", 390: "a"}) == expected


async def test_in_small_channels_with_few_slots(place: Place) -> None:
    expected = await run(CHAINS["diamond"](), 100, {}, restart=RestartPolicy.never())
    kills = {10: "a", 40: "bc", 70: "d", 90: "abcd"}
    small = ChannelConfig(queue_frames=8, window_bytes=20_000, slot_bytes=64)
    assert await run(CHAINS["diamond"](), 100, kills, channel=small) == expected


async def test_calls_under_way_get_their_results(place: Place) -> None:
    async with WorkerPool([Scale("a"), Measure("b")], config=PoolConfig(restart=ALWAYS)) as pool:
        for _ in range(3):
            calls = [asyncio.ensure_future(pool.process(np.full(4, number))) for number in range(20)]
            for worker in pool.snapshot().workers:
                os.kill(worker.pid or 0, signal.SIGKILL)
            assert await asyncio.gather(*calls) == [("plain", 12 * number) for number in range(20)]
            await soon(lambda: all(w.state == "ready" for w in pool.snapshot().workers), "everybody is back")


class Tell(Node):
    """Says how often it was started again."""

    def process(self, data: Any) -> Any:
        return self.restart_count


async def test_a_node_knows_how_often_it_was_restarted(place: Place) -> None:
    async with WorkerPool([Tell()], config=PoolConfig(restart=ALWAYS)) as pool:
        for count in range(3):
            assert await pool.process(None) == count
            (worker,) = pool.snapshot().workers
            assert worker.generation == count
            os.kill(worker.pid or 0, signal.SIGKILL)


async def test_a_worker_may_be_started_afresh_between_two_frames(place: Place) -> None:
    async with WorkerPool(CHAINS["state"](), config=PoolConfig(restart=RestartPolicy(max_restarts=1))) as pool:
        outputs = []
        async for output in pool.stream(frames(100)):
            outputs.append(output)
            if len(outputs) in (20, 50, 80):
                await pool.restart_worker("b")
        assert [worker.restarts for worker in pool.snapshot().workers] == [0, 3, 0]
        with pytest.raises(ConfigurationError, match="no node 'x'"):
            await pool.restart_worker("x")
    assert outputs == await run(CHAINS["state"](), 100, {}, restart=RestartPolicy.never())


class Deadly(Node):
    """Kills its worker when it gets a 7."""

    def process(self, data: Any) -> Any:
        if data == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return data


async def test_a_frame_that_kills_its_worker_is_given_up_and_the_rest_flows_on(place: Place) -> None:
    policy = RestartPolicy(max_restarts=20, backoff_s=(0.001, 0.002), max_attempts=2)
    async with WorkerPool([Deadly("a"), Deadly("b")], config=PoolConfig(restart=policy)) as pool:
        calls = [asyncio.ensure_future(pool.process(number)) for number in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [number for number, result in enumerate(results) if result != number] == [7]
        error = results[7]
        assert isinstance(error, WorkerDied)
        assert (error.node, error.frame, error.signal) == ("a", 7, "SIGKILL")
        assert pool.snapshot().workers[0].generation == 2
        outputs: list[Any] = []
        with pytest.raises(WorkerDied):
            await collect(pool.stream(iter([1, 2, 7, 3])), outputs)
        assert outputs == [1, 2]
        assert await pool.process(8) == 8


async def test_too_many_restarts_end_the_pool(place: Place) -> None:
    policy = RestartPolicy(max_restarts=2, period_s=1000, backoff_s=(0.001, 0.002))
    async with WorkerPool([Tell()], config=PoolConfig(restart=policy)) as pool:
        for count in range(3):
            assert await pool.process(None) == count
            os.kill(pool.snapshot().workers[0].pid or 0, signal.SIGKILL)
        with pytest.raises(RestartLimitExceeded) as caught:
            await pool.process(None)
        assert (caught.value.restarts, caught.value.generation) == (2, 2)
        assert isinstance(caught.value.__cause__, WorkerDied)
        assert caught.value.__cause__.signal == "SIGKILL"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_random_kills(seed: int, place: Place) -> None:
    dice = random.Random(seed)
    expected = await run(CHAINS["diamond"](), 2000, {}, restart=RestartPolicy.never())
    names = [dice.choice(["a", "b", "c", "d", "ab", "cd", "bd", "abcd"]) for _ in range(30)]
    kills = {dice.randrange(len(expected)): name for name in names}
    assert await run(CHAINS["diamond"](), 2000, kills) == expected
