"""remotemedia with executor="ray": all stages on one host, or half of them on a second one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing

from benchmarks.peers.base import Contestant
from benchmarks.peers.ours import NODES
from benchmarks.peers.ray_machines import RayMachines, host_of
from benchmarks.work import WINDOW, Array, Work
from remotemedia import PoolConfig, RestartPolicy
from remotemedia.core.graph import Graph
from remotemedia.executors import Output, RunOptions, open_execution


class OneIsland(Contestant):
    hosts = 1

    async def start(self, stages: int, work: Work, size: int) -> None:
        self._machines = RayMachines(self.hosts)  # not in a thread: Ray sets a signal handler
        nodes = [
            NODES[work](name=f"stage_{stage}", host=str(host_of(stage, stages, self.hosts))) for stage in range(stages)
        ]
        config = PoolConfig(in_flight_frames=WINDOW, restart=RestartPolicy())
        self._execution = open_execution(Graph.chain(nodes), "ray", RunOptions(config=config))
        await self._execution.__aenter__()
        self._asked: asyncio.Queue[Array] = asyncio.Queue()
        self._answers: AsyncGenerator[Output, None] | None = None

    async def roundtrip(self, frame: Array) -> Array:
        self._answers = self._answers or self._execution.stream(self._frames())
        self._asked.put_nowait(frame)
        result: Array = (await anext(self._answers)).value
        return result

    async def _frames(self) -> AsyncGenerator[Array, None]:
        while True:
            yield await self._asked.get()

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        await self._end_calls()
        async with aclosing(self._execution.stream(frames)) as outputs:
            async for output in outputs:
                yield output.value

    async def _end_calls(self) -> None:
        answers, self._answers = self._answers, None
        if answers is not None:
            await answers.aclose()

    async def stop(self) -> None:
        await self._end_calls()
        await self._execution.__aexit__(None, None, None)
        self._machines.close()


class TwoIslands(OneIsland):
    hosts = 2
