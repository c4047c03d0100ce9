"""remotemedia itself, through its public interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import numpy as np

from benchmarks.peers.base import Contestant
from benchmarks.work import WINDOW, Array, Work
from remotemedia import Node, PoolConfig, RestartPolicy, WorkerPool


class AddOne(Node):
    def process(self, frame: Array) -> Array:
        out = self.empty_like(frame)
        np.add(frame, 1, out=out)
        return out


class PassThrough(Node):
    def process(self, frame: Array) -> Array:
        return frame


NODES: dict[Work, type[Node]] = {Work.ADD_ONE: AddOne, Work.PASS_THROUGH: PassThrough}


class RemoteMedia(Contestant):
    """The window, from end to end, is a setting of the pool; `stream` keeps it by itself."""

    restart: RestartPolicy | None = None
    """The pool's own default: frames are kept for workers that die."""

    async def start(self, stages: int, work: Work, size: int) -> None:
        nodes = [NODES[work](name=f"stage_{index}") for index in range(stages)]
        config = PoolConfig(in_flight_frames=WINDOW, restart=self.restart)
        self._pool = WorkerPool(nodes, config=config)
        await self._pool.__aenter__()

    async def roundtrip(self, frame: Array) -> Array:
        result: Array = await self._pool.process(frame)
        return result

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        async for out in self._pool.stream(frames):
            yield out

    async def stop(self) -> None:
        await self._pool.__aexit__(None, None, None)


class WithoutRestarts(RemoteMedia):
    """The first death is the end, as with all the others: nothing is kept. The difference is what keeping costs."""

    restart = RestartPolicy.never()
