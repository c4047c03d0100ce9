"""ezmsg: stages are Units in processes of their own; producer and sink use its publisher and subscriber directly."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

os.environ.setdefault("EZMSG_LOGLEVEL", "ERROR")
os.environ.setdefault("EZMSG_DISABLE_BACKPRESSURE_WARNING", "1")

import ezmsg.core as ez
import numpy as np

from benchmarks.peers.base import Contestant
from benchmarks.peers.ports import free_port
from benchmarks.work import KIB, WINDOW, Array, Work

HEADER_BYTES = 4 * KIB
"""Room in each shared buffer for what ezmsg puts before the array."""


class StageSettings(ez.Settings):  # type: ignore[misc]
    work: Work
    size: int


class Stage(ez.Unit):  # type: ignore[misc]
    """Works from the shared input buffer into one output buffer, which publishing copies into shared memory."""

    SETTINGS = StageSettings
    INPUT = ez.InputStream(np.ndarray)
    OUTPUT = ez.OutputStream(np.ndarray, num_buffers=WINDOW)

    async def initialize(self) -> None:
        self._out = np.empty(self.SETTINGS.size, np.uint8)
        self.OUTPUT.buf_size = self.SETTINGS.size + HEADER_BYTES

    @ez.subscriber(INPUT)  # type: ignore[untyped-decorator]
    @ez.publisher(OUTPUT)  # type: ignore[untyped-decorator]
    async def on_frame(self, frame: Array) -> AsyncGenerator[tuple[object, Array], None]:
        yield self.OUTPUT, self.SETTINGS.work.result_for(frame, lambda _: self._out)


class EzmsgUnits(Contestant):
    async def start(self, stages: int, work: Work, size: int) -> None:
        self._context = ez.GraphContext(("127.0.0.1", free_port()), auto_start=True)
        await self._context.__aenter__()
        units = [Stage(StageSettings(work=work, size=size)) for _ in range(stages)]
        edges = [(before.OUTPUT, after.INPUT) for before, after in itertools.pairwise(units)]
        self._runner = ez.GraphRunner(
            components={f"STAGE{index}": unit for index, unit in enumerate(units)},
            connections=[("FRAMES", units[0].INPUT), *edges, (units[-1].OUTPUT, "RESULTS")],
            process_components=units,
            graph_address=self._context.graph_address,
        )
        # In a thread: it waits for the graph server, which this loop's context talks to as well.
        await asyncio.to_thread(self._runner.start)
        self._publisher = await self._context.publisher("FRAMES", num_buffers=WINDOW, buf_size=size + HEADER_BYTES)
        self._subscriber = await self._context.subscriber("RESULTS")

    async def roundtrip(self, frame: Array) -> Array:
        await self._publisher.broadcast(frame)
        async with self._subscriber.recv_zero_copy() as out:
            result: Array = out
        return result

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        in_flight = 0
        for frame in frames:
            if in_flight == window:
                async with self._subscriber.recv_zero_copy() as out:
                    yield out
                in_flight -= 1
            await self._publisher.broadcast(frame)
            in_flight += 1
        for _ in range(in_flight):
            async with self._subscriber.recv_zero_copy() as out:
                yield out

    async def stop(self) -> None:
        await asyncio.to_thread(self._runner.stop)
        await self._context.__aexit__(None, None, None)
