"""Soak: a pool lives for long, or many pools live one after another, and nothing may grow.

    python -m remotemedia.testing.soak --minutes 60    sessions and streams come and go, a worker is killed every 20 s
    python -m remotemedia.testing.soak --cycles 1000   so many pools are made, used once and closed

Memory (PSS), descriptors, threads, shared memory and the latency of frames are read all the time; after a warm-up, a
line through the readings shows whether they grow by more than a stated tolerance. Exit code 0 if none does and all
outputs were right, 1 if not, 2 if it was too short to tell.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

import numpy as np

from remotemedia.config import MIB, PoolConfig, RestartPolicy
from remotemedia.core.node import Node
from remotemedia.testing import chaos_nodes
from remotemedia.testing.beside import beside
from remotemedia.testing.gauges import Gauges, Trend, trend, trends
from remotemedia.testing.killer import KILL, Blow, Killer
from remotemedia.testing.meter import Meter, say, table
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.sessions import Session

_READ_S = 1.0
_WARM_UP = 0.3
"""Part of the readings that is left out: imports, caches and arenas fill up at first."""
_STREAMS_AT_ONCE = 2
_SESSIONS_AT_ONCE = 3
_FRAMES = 50
"""In each stream and session."""
_LARGEST_FRAME = 64 * 1024
_WITHOUT_END = 10**9

_BYTES_PER_HOUR = MIB
_BYTES_NOISE = 8 * MIB
_TREE_NOISE = 32 * MIB
_COUNT_NOISE = 2.0
_LATENCY_NOISE_US = 10_000.0
"""Of the median, which may double as well: the machine has other things to do."""
_ENOUGH = 30
"""Frames that a median is taken of: a few of them wait for a restart."""


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
    latencies_us: list[float] = field(default_factory=list)
    """At each reading: the median of the frames since some readings before."""
    pools: int = 0
    streams: int = 0
    sessions: int = 0
    frames: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)
    _recent_us: list[float] = field(default_factory=list)

    def took(self, seconds: float) -> None:
        """A frame has come back after this time."""
        self._recent_us.append(seconds * 1e6)

    def read(self, place: float) -> None:
        """Take a reading."""
        self.places.append(place)
        self.readings.append(Gauges.read())
        if len(self._recent_us) >= _ENOUGH:
            self.latencies_us.append(median(self._recent_us))
            self._recent_us.clear()
        elif self.latencies_us:
            self.latencies_us.append(self.latencies_us[-1])

    def trends(self, allowed: dict[str, float]) -> list[Trend]:
        """The trends of all gauges after the warm-up. Raises ValueError for too few readings."""
        start = int(len(self.places) * _WARM_UP)
        lines = trends(self.places[start:], self.readings[start:], allowed)
        latencies = self.latencies_us[-len(self.places[start:]) :]
        if len(latencies) > 1:
            tolerance = max(_LATENCY_NOISE_US, median(latencies))
            lines.append(trend("latency_us", self.places[-len(latencies) :], latencies, tolerance))
        return lines


class Add(Node):
    """input + 1."""

    def process(self, data: Any) -> Any:
        return data + 1


# -- one pool for long -------------------------------------------------------------------------------------------------


async def live(seconds: float, kill_every_s: float, *, seed: int = 0, meter: Meter | None = None) -> Soak:
    """Sessions and streams come and go for so long through one pool, five at once, while a worker is killed now and
    then.
    """
    soak = Soak()
    restart = RestartPolicy(max_restarts=_WITHOUT_END, max_attempts=_WITHOUT_END, backoff_s=(0.1, 0.5))
    async with WorkerPool([Add("first"), Add("second")], config=PoolConfig(restart=restart)) as pool:
        ends_at = monotonic() + seconds
        async with beside(_read(soak, meter), _kill(pool, soak, kill_every_s)):
            await _all_or_none([
                *(_streams(pool, soak, ends_at, seed + lane) for lane in range(_STREAMS_AT_ONCE)),
                *(_sessions(pool, soak, ends_at, seed + lane) for lane in range(_SESSIONS_AT_ONCE)),
            ])
        _expect_no_session(pool, soak)
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


def _inputs(seed: int, number: int) -> list[Any]:
    return [chaos_nodes.array(seed, number * _FRAMES + i, _LARGEST_FRAME) for i in range(_FRAMES)]


async def _streams(pool: WorkerPool, soak: Soak, ends_at: float, seed: int) -> None:
    while monotonic() < ends_at:
        soak.streams += 1
        stream, inputs, taken = f"stream {soak.streams}", _inputs(seed, soak.streams), 0
        async with contextlib.aclosing(pool.stream(inputs)) as outputs:
            async for output in outputs:
                _check(soak, stream, inputs, taken, output)
                taken += 1
        if taken != len(inputs):
            soak.wrong.append(f"{stream}: {taken} outputs for {len(inputs)} inputs")


async def _sessions(pool: WorkerPool, soak: Soak, ends_at: float, seed: int) -> None:
    """By turns: callers that wait for each output, that send ahead and read to the end, and that leave half-way."""
    while monotonic() < ends_at:
        soak.sessions += 1
        number = soak.sessions
        name, inputs = f"session {number}", _inputs(~seed & 0xFFFF, number)
        async with pool.session(name) as call:
            if number % 3 == 0:
                await _converse(call, soak, inputs)
            elif number % 3 == 1:
                await _read_to_the_end(call, soak, inputs)
            else:
                for value in inputs[: pool_room(pool)]:
                    await call.send(value)
                _check(soak, name, inputs, 0, await call.receive())


def pool_room(pool: WorkerPool) -> int:
    """Inputs that a session may put in without reading."""
    return min(pool._config.session_frames, _FRAMES)


async def _converse(call: Session, soak: Soak, inputs: list[Any]) -> None:
    for i, value in enumerate(inputs):
        sent_at = monotonic()
        await call.send(value)
        output = await call.receive()
        soak.took(monotonic() - sent_at)
        _check(soak, call.name, inputs, i, output)


async def _read_to_the_end(call: Session, soak: Soak, inputs: list[Any]) -> None:
    async def send() -> None:
        for value in inputs:
            await call.send(value)
        await call.finish()

    async def read() -> None:
        taken = 0
        async for output in call:
            _check(soak, call.name, inputs, taken, output)
            taken += 1
        if taken != len(inputs):
            soak.wrong.append(f"{call.name}: {taken} outputs for {len(inputs)} inputs")

    await _all_or_none([send(), read()])


def _check(soak: Soak, whose: str, inputs: list[Any], i: int, output: Any) -> None:
    soak.frames += 1
    if i < len(inputs) and not np.array_equal(output, inputs[i] + 2):
        soak.wrong.append(f"{whose}: output {i} is wrong")


def _expect_no_session(pool: WorkerPool, soak: Soak) -> None:
    under_way = pool.snapshot(memory=False).sessions
    if under_way > _SESSIONS_AT_ONCE:  # those that were left last may still be on their way out
        soak.wrong.append(f"{under_way} sessions are still there at the end")


async def _kill(pool: WorkerPool, soak: Soak, every_s: float) -> None:
    killer, victim = Killer(pool, 0, every_s), 0
    while True:
        await asyncio.sleep(every_s)
        victim += 1
        order = (float(victim % 2), 0.5)
        killer.strike(Blow(kind=KILL, victims=1, order=order, standstill_s=0.0))
        soak.kills = sum(killer.deaths.values())


async def _read(soak: Soak, meter: Meter | None) -> None:
    started = monotonic()
    while True:
        await asyncio.sleep(_READ_S)
        elapsed = monotonic() - started
        soak.read(elapsed)
        if meter is not None:
            meter.show(elapsed, _counts(soak))


# -- many pools --------------------------------------------------------------------------------------------------------


async def cycle(cycles: int, *, workers: int = 1, soak: Soak | None = None, meter: Meter | None = None) -> Soak:
    """Make, use and close so many pools, with so many workers each, one after the other. `soak`: to be gone on with."""
    soak = soak or Soak()
    places = ["multiprocess"] * workers or ["inline"]
    for _ in range(cycles):
        async with WorkerPool([Add() for _ in places], places=places) as pool:
            if await pool.process(1) != 1 + len(places):
                soak.wrong.append(f"pool {soak.pools}: a wrong output")
        soak.pools += 1
        soak.frames += 1
        gc.collect()  # what is garbage is no leak
        soak.read(soak.pools)
        if meter is not None:
            meter.show(soak.pools, f"{soak.pools} pools")
    return soak


# -- the program -------------------------------------------------------------------------------------------------------


def report(soak: Soak, lines: Sequence[Trend], unit: str) -> str:
    """Everything about a soak as text."""
    rows: list[Sequence[object]] = [("gauge", "at first", f"per {unit}", "growth", "tolerance", "verdict")]
    rows += [
        (x.name, f"{x.first:,.0f}", f"{x.slope:+,.3f}", f"{x.growth:+,.1f}", f"{x.tolerance:,.0f}", x.verdict)
        for x in lines
    ]
    growing = [line.name for line in lines if not line.is_flat]
    return "\n".join([
        table(rows),
        f"{len(soak.readings)} readings, {_counts(soak)}",
        *(f"WRONG: {line}" for line in soak.wrong[:10]),
        f"failed: {', '.join([*growing, *(['wrong outputs'] if soak.wrong else [])])}"
        if growing or soak.wrong
        else "passed: nothing grows, every output was right",
    ])  # fmt: skip


def _counts(soak: Soak) -> str:
    pools = f"{soak.pools} pools, " if soak.pools else f"{soak.streams} streams, {soak.sessions} sessions, "
    return f"{pools}{soak.frames} frames, {soak.kills} kills"


async def _live(arguments: argparse.Namespace, meter: Meter) -> Soak:
    return await live(arguments.minutes * 60, arguments.kill_every, seed=arguments.seed, meter=meter)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser("python -m remotemedia.testing.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long one pool lives (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the frames (default 0)")
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
            soak = asyncio.run(_live(arguments, meter))
    try:
        lines = soak.trends(tolerances((monotonic() - started) / 3600))
    except ValueError:
        parser.error("too short: a trend needs several readings")
    say(report(soak, lines, "second" if arguments.cycles is None else "cycle"))
    return 0 if all(line.is_flat for line in lines) and not soak.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
