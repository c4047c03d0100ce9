"""Chaos: a pool whose workers are killed all the time must give what an undisturbed run gives, bit for bit.

    python -m remotemedia.testing.chaos --seed 7 --seconds 20

Numbered frames of all kinds and sizes go through the graph of remotemedia.testing.chaos_nodes, every node a worker.
Meanwhile workers are killed, crashed and stopped, sometimes several at once. At the end all outputs are compared with
those of the same pipeline run in one process: each must be there once, in order, with the same bits. Exit code 0 if all
held, else 1. The seed decides on frames, settings and blows; what a blow hits depends on the machine's timing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from remotemedia.config import ChannelConfig, PoolConfig, RestartPolicy
from remotemedia.core.exceptions import RemoteMediaError
from remotemedia.executors.base import RunOptions
from remotemedia.executors.inline import InlineExecution
from remotemedia.testing import chaos_nodes, gauges
from remotemedia.testing.beside import beside
from remotemedia.testing.comparison import Trace, differences, digest
from remotemedia.testing.killer import Killer
from remotemedia.testing.meter import Meter, megabytes, say, table
from remotemedia.workers.pool import WorkerPool

_WATCH_S = 0.05
_PATIENCE = 10
_CHUNK = 50
"""After so many blows without so many new outputs the killer waits for them."""
_WITHOUT_END = 10**9


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """One run: what goes through, and how often a worker is hit. `frames` or `seconds` ends it; then the rest drains.
    """

    seed: int = 0
    frames: int | None = None
    seconds: float | None = None
    every_s: float = 0.3
    """Time between two blows."""
    blows: int | None = None
    """How many there are; then all is quiet. None: without end."""
    stall_s: float = 60.0
    """A run that gives no output for this long has failed."""
    largest_bytes: int = chaos_nodes.LARGEST_BYTES
    queue_frames: int | None = None
    """Of each channel; None: tight or wide, by the seed."""

    def config(self) -> PoolConfig:
        """Tight or wide channels and frequent or rare snapshots, by the seed; restarts without end."""
        dice = random.Random(self.seed)  # noqa: S311 - test settings
        restart = RestartPolicy(
            max_restarts=_WITHOUT_END, period_s=60.0, backoff_s=(0.01, 0.02), max_attempts=_WITHOUT_END
        )
        # Four at least: where branches meet, all frames for one number must fit into a channel that retains.
        queue_frames = dice.choice([4, 16, 64])
        return PoolConfig(
            channel=ChannelConfig(queue_frames=self.queue_frames or queue_frames),
            restart=restart,
            snapshot_frames=dice.choice([1, 8, 32]),
        )


@dataclass(kw_only=True)
class Result:
    """What was done and what held."""

    chaos: Chaos
    frames: int = 0
    outputs: list[Trace] = field(default_factory=list)
    error: str = ""
    """Why the pool failed, or stood still."""
    wrong: list[str] = field(default_factory=list)
    """How the outputs differ from those of an undisturbed run."""
    dealt: Counter[tuple[str, str]] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    held_back: int = 0
    workers: tuple[Any, ...] = ()
    """The pool's last snapshot of them."""
    peak_bytes: int = 0
    budget_bytes: int = 0
    seconds: float = 0.0

    @property
    def over_budget(self) -> bool:
        return self.peak_bytes > self.budget_bytes

    @property
    def held(self) -> bool:
        return not (self.error or self.wrong or self.over_budget)


# -- the runs ----------------------------------------------------------------------------------------------------------


async def run(chaos: Chaos, meter: Meter | None = None) -> Result:
    """The disturbed run, then the undisturbed one of the same frames, and the comparison."""
    result = Result(chaos=chaos)
    started = monotonic()
    try:
        await _disturbed(chaos, result, meter)
    except RemoteMediaError as error:
        result.error = f"{type(error).__name__}: {error}"
    result.seconds = monotonic() - started
    expected = await _undisturbed(chaos, result.frames)
    result.wrong = differences(expected, result.outputs)
    if result.error and not differences(expected[: len(result.outputs)], result.outputs):
        result.wrong = [f"only the first {len(result.outputs)} of {len(expected)} outputs came; those were right"]
    return result


async def _disturbed(chaos: Chaos, result: Result, meter: Meter | None) -> None:
    async with WorkerPool(chaos_nodes.graph(), config=chaos.config()) as pool:
        result.budget_bytes = gauges.pool_budget(pool, chaos_nodes.MOST_FRAME_BYTES)
        killer = Killer(pool, chaos.seed, chaos.every_s)
        result.dealt, result.deaths = killer.dealt, killer.deaths
        try:
            kill = killer.run(chaos.blows, lambda: len(result.outputs) // _CHUNK, _PATIENCE)
            async with beside(kill, _watch(pool, result, meter)):
                await _take_all(pool, chaos, result)
        finally:
            result.workers, result.missed, result.held_back = pool.snapshot().workers, killer.missed, killer.held_back


async def _take_all(pool: WorkerPool, chaos: Chaos, result: Result) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with (
            asyncio.timeout(chaos.stall_s) as stall,
            contextlib.aclosing(pool.numbered_stream(_source(chaos, result))) as outputs,
        ):
            async for output in outputs:
                _keep(result.outputs, output.number, output.value)
                stall.reschedule(loop.time() + chaos.stall_s)
    except TimeoutError:
        result.error = f"no output for {chaos.stall_s:g} s"


def _keep(outputs: list[Trace], number: int, value: Any) -> None:
    outputs.append(Trace(chaos_nodes.identity(number, value), digest(value)))


def _source(chaos: Chaos, result: Result) -> Iterator[Any]:
    ends_at = monotonic() + (float("inf") if chaos.seconds is None else chaos.seconds)
    while (chaos.frames is None or result.frames < chaos.frames) and monotonic() < ends_at:
        result.frames += 1
        yield chaos_nodes.frame(chaos.seed, result.frames - 1, chaos.largest_bytes)


async def _undisturbed(chaos: Chaos, frames: int) -> list[Trace]:
    graph = chaos_nodes.graph()
    outputs: list[Trace] = []
    source = (chaos_nodes.frame(chaos.seed, number, chaos.largest_bytes) for number in range(frames))
    async with InlineExecution(graph, graph.with_executor("inline"), RunOptions()) as execution:
        async for number, value in execution.stream(source):
            _keep(outputs, number, value)
    return outputs


async def _watch(pool: WorkerPool, result: Result, meter: Meter | None) -> None:
    """Keep the peak of shared memory, and show how far it is."""
    started, prefix, chaos = monotonic(), gauges.pool_prefix(pool), result.chaos
    while True:
        result.peak_bytes = max(result.peak_bytes, gauges.shared_bytes(prefix) + gauges.memfd_bytes())
        if meter is not None:
            done = result.frames if chaos.frames is not None else monotonic() - started
            blows, deaths = sum(result.dealt.values()), sum(result.deaths.values())
            meter.show(done, f"{result.frames} frames  {len(result.outputs)} outputs  {blows} blows  {deaths} deaths")
        await asyncio.sleep(_WATCH_S)


# -- the program -------------------------------------------------------------------------------------------------------


def report(result: Result) -> str:
    """Everything about a run as text."""
    kinds = ("kill", "segv", "pause", "freeze")
    rows: list[Sequence[object]] = [("node", "deaths", *kinds, "generation", "state", "frames")]
    for worker in result.workers:
        blows = [result.dealt[worker.node, kind] for kind in kinds]
        rows.append((worker.node, result.deaths[worker.node], *blows, worker.generation, worker.state, worker.frames))
    chaos = result.chaos
    config = chaos.config()
    lines = [
        table(rows),
        f"seed {chaos.seed}, queue_frames {config.channel.queue_frames}, snapshot_frames {config.snapshot_frames}",
        f"{result.frames} frames, {len(result.outputs)} outputs in {result.seconds:.1f} s",
        f"{sum(result.dealt.values())} blows, {sum(result.deaths.values())} deaths",
        f"{result.missed} more blows met nobody who was ready, {result.held_back} were held back for want of progress",
        f"shared memory: at most {megabytes(result.peak_bytes)} of {megabytes(result.budget_bytes)}",
        *(["OVER BUDGET"] if result.over_budget else []),
        *([f"FAILED: {result.error}"] if result.error else []),
        *(f"WRONG: {line}" for line in result.wrong),
        "held: every output once, in order, bit for bit" if result.held else "did not hold",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser("python -m remotemedia.testing.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="what happens (default 0)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="so many runs, with seeds from --seed on")
    parser.add_argument("--frames", type=int, metavar="N", help="so many frames (default 10000)")
    parser.add_argument("--seconds", type=float, metavar="S", help="frames for so long instead")
    parser.add_argument("--every", type=float, default=0.3, metavar="S", help="between two blows (default 0.3 s)")
    parser.add_argument("--blows", type=int, metavar="N", help="so many, then all is quiet (default: without end)")
    parser.add_argument("--stall", type=float, default=60.0, metavar="S", help="without output: failed (default 60 s)")
    parser.add_argument("--queue-frames", type=int, metavar="N", help="of each channel (default: by the seed)")
    parser.add_argument("--verbose", action="store_true", help="show every death, and the stacks of crashed workers")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING if arguments.verbose else logging.CRITICAL)
    if arguments.frames is None and arguments.seconds is None:
        arguments.frames = 10_000
    held = True
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        chaos = Chaos(
            seed=seed,
            frames=arguments.frames,
            seconds=arguments.seconds,
            every_s=arguments.every,
            blows=arguments.blows,
            stall_s=arguments.stall,
            queue_frames=arguments.queue_frames,
        )
        with Meter(f"seed {seed}", arguments.frames or arguments.seconds) as meter:
            result = asyncio.run(run(chaos, meter))
        say(report(result))
        held = held and result.held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
