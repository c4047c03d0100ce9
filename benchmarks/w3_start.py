"""W3: how long from the call that starts the stages until the first result is there?

Every measurement happens in a process that has imported what it needs but has not yet started anything.
"""

from __future__ import annotations

from functools import partial

from benchmarks import peers
from benchmarks.bench import Bench, Metrics, Racer
from benchmarks.commands import FirstResult
from benchmarks.questions import Question, Row
from benchmarks.report import Key, Target
from benchmarks.work import SIZES, Work

NAME = "W3"
CASES = {"1 stage": 1, "4 stages": 4}
QUICK_CASES = ("4 stages",)
CONTESTANTS = (peers.OURS, peers.MP_QUEUE, peers.TORCH, peers.ICEORYX2, peers.EZMSG, peers.DORA)
QUICK_CONTESTANTS = (peers.OURS, peers.MP_QUEUE)


def measure(bench: Bench, name: str, stages: int) -> Metrics:
    with bench.fresh_driver(name) as driver:
        metrics: Metrics = driver.ask(FirstResult(stages, Work.ADD_ONE, SIZES["4 KB"]), bench.options.deadline_s)
        return metrics


def run(bench: Bench) -> None:
    contestants = bench.contestants(QUICK_CONTESTANTS if bench.options.is_quick else CONTESTANTS)
    for case in bench.cases(NAME, QUICK_CASES if bench.options.is_quick else tuple(CASES)):
        bench.race(NAME, case, [Racer(name, partial(measure, bench, name, CASES[case])) for name in contestants])


QUESTION = Question(
    name=NAME,
    title="start of the stages until the first result: ms",
    metrics=("first_result_ms",),
    run=run,
    share=3.5,
    can_compare=True,
    targets=(
        Target(
            text="W3 4 stages: remotemedia / spawned multiprocessing",
            figure=Key(NAME, "4 stages", peers.OURS, "first_result_ms"),
            base=Key(NAME, "4 stages", peers.MP_QUEUE, "first_result_ms"),
            at_most=1.5,
        ),
    ),
    gate=(
        Row(
            Key(NAME, "4 stages", peers.OURS, "first_result_ms"),
            Key(NAME, "4 stages", peers.MP_QUEUE, "first_result_ms"),
        ),
    ),
)
