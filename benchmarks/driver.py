"""The process in which one contestant runs: producer and sink. Started and commanded by `driver_process`.

A process of its own per contestant, so that none inherits another's threads, handlers or imports, and a hung one can be
killed with all its stages.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import peers
from benchmarks.commands import Answer, Call, Command, FirstResult, Recovery, RoundTrips, Start, Stop, Stream
from benchmarks.peers.base import Contestant
from benchmarks.recovery import recovery_of
from benchmarks.summary import percentile
from benchmarks.work import WINDOW, Array, FrameSource, NumberedSource, WrongOutputError

WARM_UP_FRAMES = 3 * WINDOW
LEAST_ROUND_TRIPS = 5


class Driver:
    """Carries out commands for one contestant."""

    def __init__(self, contestant: Contestant | None) -> None:
        self._contestant = contestant
        self._source: FrameSource

    async def carry_out(self, command: Command) -> Any:  # noqa: PLR0911 - one for each command
        match command:
            case Start():
                return await self._start(command)
            case RoundTrips(seconds):
                return await self._round_trips(seconds)
            case Stream(seconds):
                return await self._stream(seconds)
            case Recovery():
                return await self._recovery(command)
            case Stop():
                return await self._chain.stop()
            case FirstResult():
                return await self._first_result(command)
            case Call(function, arguments):
                module, _, name = function.partition(":")
                return await getattr(importlib.import_module(module), name)(*arguments)

    @property
    def _chain(self) -> Contestant:
        assert self._contestant is not None
        return self._contestant

    async def _start(self, command: Start) -> None:
        self._begun = command
        self._source = FrameSource(command.size, command.work, command.stages)
        await self._chain.start(command.stages, command.work, command.size)
        async for out in self._chain.stream(self._source.frames_for(0.0, WARM_UP_FRAMES), WINDOW):
            self._source.check_whole(out)
        self._source.check_count()

    async def _round_trips(self, seconds: float) -> Mapping[str, float]:
        chain, source, clock = self._chain, self._source, time.perf_counter_ns
        times: list[int] = []
        end = clock() + int(seconds * 1e9)
        while clock() < end or len(times) < LEAST_ROUND_TRIPS:
            frame = source.next_frame()
            sent = clock()
            out = await chain.roundtrip(frame)
            times.append(clock() - sent)
            source.check(out)
            del out
        return {"median_us": percentile(times, 50) / 1e3, "p99_us": percentile(times, 99) / 1e3}

    async def _stream(self, seconds: float) -> Mapping[str, float]:
        chain, source = self._chain, self._source
        before, started = source.received, time.perf_counter()
        async for out in chain.stream(source.frames_for(seconds, WARM_UP_FRAMES), WINDOW):
            source.check(out)
        elapsed = time.perf_counter() - started
        source.check_count()
        streamed = source.received - before
        source.check_whole(await chain.roundtrip(source.next_frame()))
        return {"frames": streamed + 1, "frames_per_s": streamed / elapsed}

    async def _recovery(self, command: Recovery) -> Mapping[str, float]:
        """Every output is checked to be the next one: that none is missing or comes twice is part of the figure."""
        source = NumberedSource(self._begun.size, self._begun.work, self._begun.stages)
        pids = self._chain.stage_pids()
        if len(pids) != self._begun.stages:
            raise RuntimeError(f"{self._begun.stages} stages, but the processes {pids}")
        times: list[float] = []
        killed = 0.0
        clock = time.perf_counter
        started = clock()

        def frames() -> Iterator[Array]:
            while not killed or clock() < killed + command.after_s:
                yield source.next_frame()

        async for out in self._chain.stream(frames(), WINDOW):
            source.check(out)
            times.append(clock())
            if not killed and times[-1] > started + command.before_s:
                os.kill(pids[len(pids) // 2], signal.SIGKILL)
                killed = clock()
        source.check_count()
        return recovery_of([at - started for at in times], killed - started, WINDOW)

    async def _first_result(self, command: FirstResult) -> Mapping[str, float]:
        source = FrameSource(command.size, command.work, command.stages)
        frame = source.next_frame()
        started = time.perf_counter()
        await self._chain.start(command.stages, command.work, command.size)
        out = await self._chain.roundtrip(frame)
        elapsed = time.perf_counter() - started
        source.check_whole(out)
        del out
        await self._chain.stop()
        return {"first_result_ms": elapsed * 1e3}


async def serve(connection: Connection, driver: Driver) -> None:
    """Answer commands until the other side closes; the event loop stays free between them."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(connection.fileno(), arrived.set)
    try:
        while True:
            await arrived.wait()
            connection.send(await _answer(driver, connection.recv()))
            arrived.clear()
    except EOFError:
        return
    finally:
        loop.remove_reader(connection.fileno())


async def _answer(driver: Driver, command: Command) -> Answer:
    try:
        return Answer(await driver.carry_out(command))
    except WrongOutputError as error:
        return Answer(failure="wrong output", detail=str(error))
    except ImportError as error:
        return Answer(failure="unavailable", detail=str(error))
    except Exception:
        return Answer(failure="error", detail=traceback.format_exc())


def main() -> None:
    """`python -m benchmarks.driver <fd> [contestant]`; the first answer says whether the contestant is available."""
    connection = Connection(int(sys.argv[1]))
    contestant = None
    if len(sys.argv) > 2:
        try:
            contestant = peers.load(sys.argv[2])
        except ImportError as error:
            connection.send(Answer(failure="unavailable", detail=str(error)))
            return
    connection.send(Answer())
    asyncio.run(serve(connection, Driver(contestant)))


if __name__ == "__main__":
    main()
