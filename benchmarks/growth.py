"""Growth: does a frame cost the same with many stages, with many sessions, and after a million frames?

All with the pool's own settings. With eight frames in flight, as in W2, sixteen stages would nearly all be asleep, and
each frame would wake each of them: that would tell of wake-ups, which W1 and W2 do.
"""

from __future__ import annotations

import asyncio
import operator
import os
import time
from collections.abc import Sequence
from functools import partial

from benchmarks import peers
from benchmarks.bench import Bench, Racer
from benchmarks.commands import Call
from benchmarks.driver_process import ContestantError
from benchmarks.process_tree import cpu_seconds, pss_bytes, tree_of
from benchmarks.questions import Question
from benchmarks.report import Key, Target
from benchmarks.work import SIZES, FrameSource, Work

NAME = "growth"
SIZE = SIZES["4 KB"]
STAGES = {"1 stage": 1, "2 stages": 2, "4 stages": 4, "8 stages": 8, "16 stages": 16}
SESSIONS = {"1 session": 1, "4 sessions": 4, "16 sessions": 16, "64 sessions": 64}
FRAMES = {"10³ frames": 10**3, "10⁴ frames": 10**4, "10⁵ frames": 10**5, "10⁶ frames": 10**6}
QUICK_CASES = ("1 stage", "16 stages", "1 session", "64 sessions", "10³ frames", "10⁴ frames")
ROUNDS = 3
"""At most, each with processes of its own."""
WARM_UP_FRAMES = 500
FLAT = 1.3
"""Figures that differ by less than this from the least to the greatest load count as flat."""
FLAT_MB = 8.0
FRAMES_DEADLINE_S = 1200.0


class Gauge:
    """CPU time and memory of this process and all its descendants."""

    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), cpu_seconds(tree_of(os.getpid()))

    def figures(self, frames: int, hops: int) -> dict[str, float]:
        """Since it was made, or since the last call."""
        now, tree = time.perf_counter(), tree_of(os.getpid())
        cpu = cpu_seconds(tree)
        figures = {
            "cpu_us_per_hop": 1e6 * (cpu - self._cpu) / (frames * hops),
            "frames_per_s": frames / (now - self._started),
            "pss_mb": pss_bytes(tree) / 1e6,
        }
        self._started, self._cpu = time.perf_counter(), cpu_seconds(tree)
        return figures


async def many_sessions(count: int, frames: int) -> dict[str, float]:
    """`count` sessions of one pool of one stage at once, about so many frames in all, each session checked."""
    from benchmarks.peers.our_nodes import AddOne
    from remotemedia import WorkerPool

    async with WorkerPool([AddOne()]) as pool:

        async def one(name: str, each: int) -> None:
            source = FrameSource(SIZE, Work.ADD_ONE, stages=1)
            async with pool.session(name) as session:
                sending = asyncio.create_task(_send_all(session, source.frames_for(0.0, each)))
                for _ in range(each):
                    source.check(await session.receive())
                await sending
                source.check_count()

        await asyncio.gather(*(one(f"warm {index}", WARM_UP_FRAMES // count + 1) for index in range(count)))
        gauge, each = Gauge(), frames // count
        await asyncio.gather(*(one(f"call {index}", each) for index in range(count)))
        return gauge.figures(each * count, hops=2)


async def _send_all(session: object, frames: object) -> None:
    for frame in frames:  # type: ignore[attr-defined]
        await session.send(frame)  # type: ignore[attr-defined]


async def many_frames(stages: int, marks: Sequence[int]) -> list[dict[str, float]]:
    """Figures of one stream through so many stages, which have a hop more, at each of the marks, each since the one
    before.
    """
    from benchmarks.peers.our_nodes import AddOne
    from remotemedia import WorkerPool

    source = FrameSource(SIZE, Work.ADD_ONE, stages)
    found: list[dict[str, float]] = []
    async with WorkerPool([AddOne(name=f"stage_{index}") for index in range(stages)]) as pool:
        async for out in pool.stream(source.frames_for(0.0, WARM_UP_FRAMES)):
            source.check(out)
        gauge, done = Gauge(), 0
        for mark in marks:
            async for out in pool.stream(source.frames_for(0.0, mark - done)):
                source.check(out)
            found.append(gauge.figures(mark - done, hops=stages + 1))
            done = mark
    source.check_count()
    return found


async def many_stages(count: int, frames: int) -> dict[str, float]:
    """The same for the only mark, after so many frames."""
    (figures,) = await many_frames(count, [frames])
    return figures


def run(bench: Bench) -> None:
    is_quick = bench.options.is_quick
    marks = [case for case in FRAMES if case in QUICK_CASES or not is_quick]
    for case in bench.cases(NAME, [case for case in (*STAGES, *SESSIONS) if case in QUICK_CASES or not is_quick]):
        if case in STAGES:
            frames = (6_000 if is_quick else 60_000) // (STAGES[case] + 1)
            call = Call("benchmarks.growth:many_stages", (STAGES[case], frames))
        else:
            call = Call("benchmarks.growth:many_sessions", (SESSIONS[case], 3_000 if is_quick else 20_000))
        bench.race(NAME, case, [Racer(peers.OURS, partial(bench.call_apart, call))], ROUNDS)
    for case in bench.cases(NAME, [", ".join(marks)]):
        try:
            with bench.fresh_driver() as driver:
                call = Call("benchmarks.growth:many_frames", (1, [FRAMES[mark] for mark in marks]))
                found = driver.ask(call, FRAMES_DEADLINE_S)
        except ContestantError as failed:
            bench.report.fail(NAME, case, peers.OURS, failed.kind, failed.detail)
            return
        for mark, figures in zip(marks, found, strict=True):
            bench.report.add(NAME, mark, peers.OURS, figures)


def _figure(case: str, metric: str) -> Key:
    return Key(NAME, case, peers.OURS, metric)


def _flat(most: str, least: str, is_quick: bool = True) -> tuple[Target, Target]:
    return (
        Target(
            text=f"growth: CPU per frame and hop, {most} / {least}", is_quick=is_quick,
            figure=_figure(most, "cpu_us_per_hop"), base=_figure(least, "cpu_us_per_hop"), at_most=FLAT,
        ),
        Target(
            text=f"growth: memory, {most} over {least}, MB", is_quick=is_quick, compare=operator.sub,
            figure=_figure(most, "pss_mb"), base=_figure(least, "pss_mb"), at_most=FLAT_MB,
        ),
    )


QUESTION = Question(
    name=NAME,
    title="4 KB frames (+1): CPU µs per frame and hop / frames/s / MB in all (PSS)",
    metrics=("cpu_us_per_hop", "frames_per_s", "pss_mb"),
    run=run,
    share=9.0,
    targets=(
        _flat("16 stages", "1 stage")[0],  # more stages are more processes, which have memory
        *_flat("64 sessions", "1 session"),
        *_flat("10⁴ frames", "10³ frames"),
        *_flat("10⁶ frames", "10³ frames", is_quick=False),
    ),
)
