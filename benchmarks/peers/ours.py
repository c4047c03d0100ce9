"""remotemedia itself, through its public interface."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.peers.base import Contestant
from benchmarks.peers.our_nodes import AddOne, AddOneFresh, PassThrough
from benchmarks.work import WINDOW, Array, Work
from remotemedia import Node, PoolConfig, RestartPolicy, WorkerPool

NODES: dict[Work, type[Node]] = {Work.ADD_ONE: AddOne, Work.FRESH: AddOneFresh, Work.PASS_THROUGH: PassThrough}


class RemoteMedia(Contestant):
    """The window, from end to end, is a setting of the pool; `stream` keeps it by itself."""

    settings: Mapping[str, Any] = {}
    """What differs from the pool's defaults. Only that is given, so that older versions take it as well."""

    def __init__(self) -> None:
        unknown = self.settings.keys() - {field.name for field in dataclasses.fields(PoolConfig)}
        if unknown:
            raise ImportError(f"this version has no PoolConfig({', '.join(sorted(unknown))}=)")

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


class Spinning(RemoteMedia):
    """Who waits looks for its frame before it sleeps, as long as there is a processor for each process."""

    settings: Mapping[str, Any] = {"spin_us": 100}


class OneCore(RemoteMedia):
    """The driver and the stages share one processor: nobody has to be woken on another one."""

    settings: Mapping[str, Any] = {"placement": "same_core"}


class WithWarmSpare(RemoteMedia):
    """A process that has done its imports waits to replace a worker that dies."""

    settings: Mapping[str, Any] = {"warm_spares": 1}
