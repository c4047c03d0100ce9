"""W2: how many frames per second go through three stages, and what do they cost in CPU time and memory?"""

from __future__ import annotations

from functools import partial

from benchmarks import peers
from benchmarks.bench import Bench, Metrics
from benchmarks.commands import Start, Stream
from benchmarks.driver_process import DriverProcess
from benchmarks.floors import COPY
from benchmarks.floors import NAME as FLOORS
from benchmarks.questions import Question, Row
from benchmarks.report import Key, Target
from benchmarks.w1_roundtrip import FLOOR as WAKE_UP
from benchmarks.w1_roundtrip import NAME as W1
from benchmarks.work import SIZES, WINDOW, Work

NAME = "W2"
STAGES = 3
PASS, FRESH = "6.2 MB pass-through", "6.2 MB fresh array"
CASES = {
    "4 KB": (Work.ADD_ONE, "4 KB"),
    "1 MB": (Work.ADD_ONE, "1 MB"),
    "6.2 MB": (Work.ADD_ONE, "6.2 MB"),
    FRESH: (Work.FRESH, "6.2 MB"),
    PASS: (Work.PASS_THROUGH, "6.2 MB"),
}
SIZE_CASES = ("4 KB", "1 MB", "6.2 MB")


def measure(driver: DriverProcess, seconds: float, deadline_s: float) -> Metrics:
    """Throughput, CPU seconds of the whole tree (producer and sink too) per 1000 frames, and its memory afterwards."""
    before = driver.cpu_seconds()
    answer = driver.ask(Stream(seconds), seconds + deadline_s)
    used = driver.cpu_seconds() - before
    return {
        "frames_per_s": answer["frames_per_s"],
        "cpu_s_per_1000": 1000 * used / answer["frames"],
        "pss_mb": driver.pss_bytes() / 1e6,
    }


def run(bench: Bench) -> None:
    names = peers.contestants(bench.options.is_quick)
    how = partial(measure, seconds=bench.options.round_s, deadline_s=bench.options.deadline_s)
    for case in bench.cases(NAME, tuple(CASES)):
        work, size = CASES[case]
        bench.race_chains(NAME, case, names, Start(STAGES, work, SIZES[size]), how)


def _rate(case: str, contestant: str) -> Key:
    return Key(NAME, case, contestant, "frames_per_s")


def _cpu(case: str, contestant: str) -> Key:
    return Key(NAME, case, contestant, "cpu_s_per_1000")


def _target(case: str, peer: str, at_least: float, is_quick: bool = True) -> Target:
    return Target(
        text=f"W2 {case}: remotemedia / {peer}",
        figure=_rate(case, peers.OURS), base=_rate(case, peer), at_least=at_least, is_quick=is_quick,
    )


def _floor(case: str) -> Key:
    return Key(W1, case, WAKE_UP, "median_us") if case == "4 KB" else Key(FLOORS, case, COPY, "median_us")


QUESTION = Question(
    name=NAME,
    title=f"streaming through {STAGES} stages (+1), window {WINDOW}: frames/s / CPU s per 1000 frames / MB (PSS)",
    metrics=("frames_per_s", "cpu_s_per_1000", "pss_mb"),
    run=run,
    share=20.0,
    can_compare=True,
    targets=(
        _target("4 KB", peers.EZMSG, 4.0),
        _target("4 KB", peers.ICEORYX2, 0.8),
        _target("1 MB", peers.EZMSG, 2.5),
        _target("1 MB", peers.ICEORYX2, 1.0),
        _target("6.2 MB", peers.EZMSG, 1.8),
        _target("6.2 MB", peers.ICEORYX2, 1.0),
        _target(FRESH, peers.EZMSG, 1.2),
        _target(PASS, peers.ICEORYX2, 1.2),
        *(
            Target(
                text=f"W2 {case}: CPU per frame, remotemedia / ezmsg",
                figure=_cpu(case, peers.OURS), base=_cpu(case, peers.EZMSG), at_most=0.5,
            )
            for case in SIZE_CASES
        ),
        *(_target(case, peers.NEVER, 0.95, is_quick=False) for case in SIZE_CASES),
    ),
    gate=tuple(
        row
        for case in SIZE_CASES
        for row in (
            Row(_rate(case, peers.OURS), _floor(case), scale=1e6, is_rate=True),
            Row(_cpu(case, peers.OURS), _floor(case), scale=1e3),
        )
    ),
)
