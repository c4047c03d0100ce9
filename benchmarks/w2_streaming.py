"""W2: how many frames per second go through three stages, and what CPU time do they cost?"""

from __future__ import annotations

from functools import partial

from benchmarks import peers
from benchmarks.bench import Bench, Metrics, Racer
from benchmarks.commands import Start, Stream
from benchmarks.driver_process import DriverProcess
from benchmarks.questions import Question
from benchmarks.report import Key, Target
from benchmarks.work import SIZES, WINDOW, Work

NAME = "W2"
STAGES = 3
CASES = {
    "4 KB": (Work.ADD_ONE, "4 KB"),
    "1 MB": (Work.ADD_ONE, "1 MB"),
    "6.2 MB": (Work.ADD_ONE, "6.2 MB"),
    "6.2 MB pass-through": (Work.PASS_THROUGH, "6.2 MB"),
}
QUICK_CASES = ("4 KB", "1 MB", "6.2 MB")


def measure(driver: DriverProcess, seconds: float, deadline_s: float) -> Metrics:
    """Throughput, and CPU seconds of the whole tree (producer and sink too) per 1000 frames."""
    before = driver.cpu_seconds()
    answer = driver.ask(Stream(seconds), seconds + deadline_s)
    used = driver.cpu_seconds() - before
    return {"frames_per_s": answer["frames_per_s"], "cpu_s_per_1000": 1000 * used / answer["frames"]}


def run(bench: Bench) -> None:
    seconds, deadline_s = bench.options.round_s, bench.options.deadline_s
    for case in QUICK_CASES if bench.options.is_quick else CASES:
        if not bench.has_time(NAME, case):
            continue
        work, size = CASES[case]
        names = peers.contestants(bench.options.is_quick)
        with bench.chains(NAME, case, names, Start(STAGES, work, SIZES[size])) as chains:
            racers = [
                Racer(name, partial(measure, driver, seconds, deadline_s))
                for name, driver in chains.items()
            ]
            bench.race(NAME, case, racers)


def _rate(case: str, contestant: str) -> Key:
    return Key(NAME, case, contestant, "frames_per_s")


def _target(case: str, peer: str, at_least: float) -> Target:
    return Target(
        text=f"W2 {case}: remotemedia / {peer}",
        figure=_rate(case, peers.OURS), base=_rate(case, peer), at_least=at_least,
    )


QUESTION = Question(
    name=NAME,
    title=f"streaming through {STAGES} stages (+1), window {WINDOW}: frames/s / CPU s per 1000 frames",
    metrics=("frames_per_s", "cpu_s_per_1000"),
    run=run,
    targets=(
        _target("4 KB", peers.EZMSG, 2.5),
        _target("1 MB", peers.ICEORYX2, 1.0),
        _target("6.2 MB", peers.ICEORYX2, 1.0),
        *(_target(case, peers.NEVER, 0.95) for case in QUICK_CASES),
    ),
)
