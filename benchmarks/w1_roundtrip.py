"""W1: how long does one frame take through one stage and back, with nothing else in flight?"""

from __future__ import annotations

from benchmarks import peers
from benchmarks.bench import Bench, Metrics, Racer
from benchmarks.commands import RoundTrips, Start
from benchmarks.driver_process import DriverProcess
from benchmarks.floors import COPY, WAKE_UP, ping_pong, two_cores
from benchmarks.floors import NAME as FLOORS
from benchmarks.questions import Question, Row
from benchmarks.report import Key, Target
from benchmarks.work import SIZES, Work

NAME = "W1"
FLOOR = f"{WAKE_UP}, two cores"
QUICK_CASES = ("4 KB", "6.2 MB")


def run(bench: Bench) -> None:
    round_trips = 1_000 if bench.options.is_quick else 5_000
    seconds = bench.options.round_s
    is_quick = bench.options.is_quick
    names = (*peers.contestants(is_quick), *((peers.SPINNING,) if is_quick else peers.ONE_IN_FLIGHT))

    def measure(driver: DriverProcess) -> Metrics:
        metrics: Metrics = driver.ask(RoundTrips(seconds), seconds + bench.options.deadline_s)
        return metrics

    with ping_pong() as (_, measure_floor):
        floor = Racer(FLOOR, lambda: measure_floor(*two_cores(), round_trips))
        for case in bench.cases(NAME, QUICK_CASES if is_quick else tuple(SIZES)):
            start = Start(1, Work.ADD_ONE, SIZES[case])
            bench.race_chains(NAME, case, names, start, measure, beside=[floor])


def _median(case: str, contestant: str) -> Key:
    return Key(NAME, case, contestant, "median_us")


QUESTION = Question(
    name=NAME,
    title="round trip of one frame through one stage (+1): median / p99 µs",
    metrics=("median_us", "p99_us"),
    run=run,
    share=6.0,
    can_compare=True,
    targets=(
        Target(
            text="W1 4 KB: remotemedia / bare wake-up round trip",
            figure=_median("4 KB", peers.OURS), base=_median("4 KB", FLOOR), at_most=2.0,
        ),
        Target(
            text="W1 4 KB: remotemedia / ezmsg",
            figure=_median("4 KB", peers.OURS), base=_median("4 KB", peers.EZMSG), at_most=0.5,
        ),
        Target(
            text="W1 6.2 MB: remotemedia / iceoryx2 + event",
            figure=_median("6.2 MB", peers.OURS), base=_median("6.2 MB", peers.ICEORYX2), at_most=1.3,
        ),
        Target(
            text="W1 4 KB: with spin_us / blocking",
            figure=_median("4 KB", peers.SPINNING), base=_median("4 KB", peers.OURS), at_most=0.5,
        ),
        Target(
            text="W1 4 KB: frames kept for restarts / nothing kept",
            figure=_median("4 KB", peers.OURS), base=_median("4 KB", peers.NEVER), at_most=1.05, is_quick=False,
        ),
    ),
    gate=(
        Row(_median("4 KB", peers.OURS), _median("4 KB", FLOOR)),
        Row(_median("6.2 MB", peers.OURS), Key(FLOORS, "6.2 MB", COPY, "median_us")),
    ),
)
