"""remotemedia itself, through its public interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.base import Contestant
from benchmarks.work import WINDOW, Array, Work
from remotemedia import Node, PoolConfig, RestartPolicy, WorkerPool


class AddOne(Node):
    def process(self, frame: Array) -> Array:
        out = self.empty_like(frame)
        np.add(frame, 1, out=out)
        return out


class AddOneFresh(Node):
    def process(self, frame: Array) -> Array:
        return np.add(frame, 1)


class PassThrough(Node):
    def process(self, frame: Array) -> Array:
        return frame


NODES: dict[Work, type[Node]] = {Work.ADD_ONE: AddOne, Work.FRESH: AddOneFresh, Work.PASS_THROUGH: PassThrough}


class RemoteMedia(Contestant):
    """The window, from end to end, is a setting of the pool; `stream` keeps it by itself."""

    settings: Mapping[str, Any] = {}
    """What differs from the pool's defaults. Only that is given, so that older versions take it as well."""

    async def start(self, stages: int, work: Work, size: int) -> None:
        nodes = [NODES[work](name=f"stage_{index}") for index in range(stages)]
        self._pool = WorkerPool(nodes, config=PoolConfig(in_flight_frames=WINDOW, **self.settings))
        await self._pool.__aenter__()

    async def roundtrip(self, frame: Array) -> Array:
        result: Array = await self._pool.process(frame)
        return result

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        async for out in self._pool.stream(frames):
            yield out

    def stage_pids(self) -> Sequence[int]:
        return [worker.pid for worker in self._pool.snapshot(memory=False).workers if worker.pid is not None]

    async def stop(self) -> None:
        await self._pool.__aexit__(None, None, None)


class WithoutRestarts(RemoteMedia):
    """The first death is the end, as with all the others: nothing is kept. The difference is what keeping costs."""

    settings: Mapping[str, Any] = {"restart": RestartPolicy.never()}


class WithWarmSpare(RemoteMedia):
    """A process that has done its imports waits to replace a worker that dies."""

    settings: Mapping[str, Any] = {"warm_spares": 1}
