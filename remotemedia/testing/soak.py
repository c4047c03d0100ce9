"""Soak: a pool lives for long, or many pools live one after another, and nothing may grow.

    python -m remotemedia.testing.soak --minutes 60       streams come and go, workers are killed every 20 s
    python -m remotemedia.testing.soak --cycles 1000      so many pools are made, used once and closed

Memory (PSS), descriptors, threads and shared memory are read all the time; after a warm-up, a line through the readings
shows whether they grow by more than a stated tolerance. Exit code 0 if none does and all outputs were right, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from remotemedia.config import MIB, PoolConfig, RestartPolicy
from remotemedia.core.node import Node
from remotemedia.testing import chaos_nodes
from remotemedia.testing.gauges import Gauges, Trend, trends
from remotemedia.testing.killer import KILL, Blow
from remotemedia.testing.killer import Killer as _Killer
from remotemedia.testing.meter import Meter, say, table
from remotemedia.workers.pool import WorkerPool

_READ_S = 1.0
_WARM_UP = 0.3
"""Part of the readings that is left out: imports, caches and arenas fill up at first."""
_AT_ONCE = 3
_STREAM_FRAMES = 50
_LARGEST_FRAME = 64 * 1024
_WITHOUT_END = 10**9

_BYTES_PER_HOUR = MIB
_BYTES_NOISE = 8 * MIB
_TREE_NOISE = 32 * MIB
_COUNT_NOISE = 2.0


def tolerances(hours: float) -> dict[str, float]:
    """How much each gauge may grow in `hours`: noise (allocators, a worker that is just restarting), and 1 MiB an hour.
    """
    return {
        "own_pss": _BYTES_NOISE + hours * _BYTES_PER_HOUR,
        "tree_pss": _TREE_NOISE + hours * _BYTES_PER_HOUR,
        "descriptors": _COUNT_NOISE,
        "threads": _COUNT_NOISE,
        "children": _COUNT_NOISE,
        "shm_files": 2 * _COUNT_NOISE,
        "shm_bytes": _BYTES_NOISE,
    }


@dataclass(kw_only=True)
class Soak:
    """What a soak has seen so far."""

    places: list[float] = field(default_factory=list)
    """Where each reading was taken: seconds since the start, or the number of the cycle."""
    readings: list[Gauges] = field(default_factory=list)
    streams: int = 0
    frames: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)

    def read(self, place: float) -> None:
        """Take a reading."""
        self.places.append(place)
        self.readings.append(Gauges.read())

    def trends(self, allowed: dict[str, float]) -> list[Trend]:
        """The trends of all gauges after the warm-up. Raises ValueError for too few readings."""
        start = int(len(self.places) * _WARM_UP)
        return trends(self.places[start:], self.readings[start:], allowed)


class Add(Node):
    """input + 1."""

    def process(self, data: Any) -> Any:
        return data + 1


# -- one pool for long -------------------------------------------------------------------------------------------------


async def live(seconds: float, kill_every_s: float, *, seed: int = 0, meter: Meter | None = None) -> Soak:
    """Streams come and go for so long through one pool, three at once, while a worker is killed now and then."""
    soak = Soak()
    restart = RestartPolicy(max_restarts=_WITHOUT_END, max_attempts=_WITHOUT_END)
    async with WorkerPool([Add("first"), Add("second")], config=PoolConfig(restart=restart)) as pool:
        ends_at = monotonic() + seconds
        async with _read_beside(soak, meter), _kill_beside(pool, soak, kill_every_s):
            await _all_or_none([_streams(pool, soak, ends_at, seed + lane) for lane in range(_AT_ONCE)])
    return soak


async def _all_or_none(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them together; when one fails the others are cancelled, and its error is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _streams(pool: WorkerPool, soak: Soak, ends_at: float, seed: int) -> None:
    while monotonic() < ends_at:
        soak.streams += 1
        stream = soak.streams
        inputs = [chaos_nodes.array(seed, stream * _STREAM_FRAMES + i, _LARGEST_FRAME) for i in range(_STREAM_FRAMES)]
        taken = 0
        async with contextlib.aclosing(pool.stream(inputs)) as outputs:
            async for output in outputs:
                if taken < len(inputs) and not (output == inputs[taken] + 2).all():
                    soak.wrong.append(f"stream {stream}: output {taken} is wrong")
                taken += 1
        soak.frames += taken
        if taken != len(inputs):
            soak.wrong.append(f"stream {stream}: {taken} outputs for {len(inputs)} inputs")


@contextlib.asynccontextmanager
async def _kill_beside(pool: WorkerPool, soak: Soak, every_s: float) -> AsyncIterator[None]:
    killer = _Killer(pool, 0, every_s)

    async def kill() -> None:
        victim = 0
        while True:
            await asyncio.sleep(every_s)
            victim += 1
            order = (float(victim % 2), 0.5)
            killer.strike(Blow(kind=KILL, victims=1, order=order, standstill_s=0.0))
            soak.kills = sum(killer.deaths.values())

    task = asyncio.ensure_future(kill())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _read_beside(soak: Soak, meter: Meter | None) -> AsyncIterator[None]:
    started = monotonic()

    async def read() -> None:
        while True:
            await asyncio.sleep(_READ_S)
            elapsed = monotonic() - started
            soak.read(elapsed)
            if meter is not None:
                meter.show(elapsed, f"{soak.streams} streams  {soak.frames} frames  {soak.kills} kills")

    task = asyncio.ensure_future(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# -- many pools --------------------------------------------------------------------------------------------------------


async def cycle(cycles: int, *, workers: int = 1, soak: Soak | None = None, meter: Meter | None = None) -> Soak:
    """Make, use and close so many pools, with so many workers each, one after the other. `soak`: to be gone on with."""
    soak = soak or Soak()
    places = ["multiprocess"] * workers or ["inline"]
    for _ in range(cycles):
        async with WorkerPool([Add() for _ in places], places=places) as pool:
            if await pool.process(1) != 1 + len(places):
                soak.wrong.append(f"pool {soak.streams}: a wrong output")
        soak.streams += 1
        soak.frames += 1
        gc.collect()  # what is garbage is no leak
        soak.read(soak.streams)
        if meter is not None:
            meter.show(soak.streams, f"{soak.streams} pools")
    return soak


# -- the program -------------------------------------------------------------------------------------------------------


def report(soak: Soak, lines: Sequence[Trend], unit: str) -> str:
    """Everything about a soak as text."""
    rows: list[Sequence[object]] = [("gauge", "at first", f"per {unit}", "growth", "tolerance", "verdict")]
    rows += [
        (x.name, f"{x.first:,.0f}", f"{x.slope:+,.3f}", f"{x.growth:+,.1f}", f"{x.tolerance:,.0f}", x.verdict)
        for x in lines
    ]
    return "\n".join([
        table(rows),
        f"{len(soak.readings)} readings, {soak.streams} streams or pools, {soak.frames} frames, {soak.kills} kills",
        *(f"WRONG: {line}" for line in soak.wrong[:10]),
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser("python -m remotemedia.testing.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long one pool lives (default 1)")
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="S", help="between kills (default 20 s)")
    parser.add_argument("--cycles", type=int, metavar="N", help="instead: so many pools, one after another")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="of each pool of --cycles (default 1)")
    arguments = parser.parse_args(argv)
    started = monotonic()
    if arguments.cycles is not None:
        with Meter("cycles", arguments.cycles) as meter:
            soak = asyncio.run(cycle(arguments.cycles, workers=arguments.workers, meter=meter))
    else:
        with Meter("soak", arguments.minutes * 60) as meter:
            soak = asyncio.run(live(arguments.minutes * 60, arguments.kill_every, meter=meter))
    try:
        lines = soak.trends(tolerances((monotonic() - started) / 3600))
    except ValueError:
        parser.error("too short: a trend needs several readings")
    say(report(soak, lines, "second" if arguments.cycles is None else "cycle"))
    return 0 if all(line.is_flat for line in lines) and not soak.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
