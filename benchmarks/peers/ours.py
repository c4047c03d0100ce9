"""remotemedia itself, through its public interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
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


class PassThrough(Node):
    def process(self, frame: Array) -> Array:
        return frame


NODES: dict[Work, type[Node]] = {Work.ADD_ONE: AddOne, Work.PASS_THROUGH: PassThrough}


class RemoteMedia(Contestant):
    """The window, from end to end, is a setting of the pool; `stream` keeps it by itself."""

    settings: Mapping[str, Any] = {}
    """What differs from the pool's defaults."""

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

    async def stop(self) -> None:
        await self._pool.__aexit__(None, None, None)


class WithoutRestarts(RemoteMedia):
    """The first death is the end, as with all the others: nothing is kept. The difference is what keeping costs."""

    settings: Mapping[str, Any] = {"restart": RestartPolicy.never()}


class Spinning(RemoteMedia):
    """Who waits looks for its frame before it sleeps, as long as there is a processor for each process."""

    settings: Mapping[str, Any] = {"spin_us": 100}


class OneCore(RemoteMedia):
    """The driver and the stages share one processor: nobody has to be woken on another one."""

    settings: Mapping[str, Any] = {"placement": "same_core"}
