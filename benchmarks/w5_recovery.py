"""W5: a stage is killed with kill -9 in mid-stream. When do results come again, and when at the full rate?

Every round has a chain of its own. The outputs carry the numbers of their inputs: a recovery counts only if none is
missing, comes twice or out of order.
"""

from __future__ import annotations

from functools import partial

from benchmarks import peers
from benchmarks.bench import Bench, Metrics, Racer
from benchmarks.commands import Recovery, Start, Stop
from benchmarks.driver_process import ContestantError
from benchmarks.questions import Question
from benchmarks.report import NOT_RECOVERED, Key, Target
from benchmarks.work import SIZES, Work

NAME = "W5"
STAGES = 3
CASES = ("4 KB", "1 MB")
QUICK_CASES = ("4 KB",)
CONTESTANTS = (peers.OURS, peers.SPARE)
WITHOUT_PROMISE = (peers.MP_QUEUE, peers.ICEORYX2, peers.EZMSG, peers.EXECUTOR)
"""They do not claim to recover; the whole set shows what they do."""
BEFORE_S, AFTER_S = 0.5, 1.0
PATIENCE_S = 5.0
"""This long after the expected end without an answer, a contestant that promises nothing has not recovered."""


def measure(bench: Bench, name: str, case: str, deadline_s: float) -> Metrics:
    with bench.fresh_driver(name) as driver:
        driver.ask(Start(STAGES, Work.ADD_ONE, SIZES[case]), bench.options.deadline_s)
        metrics: Metrics = driver.ask(Recovery(BEFORE_S, AFTER_S), BEFORE_S + AFTER_S + deadline_s)
        driver.ask(Stop(), bench.options.deadline_s)
        return metrics


def try_once(bench: Bench, name: str, case: str) -> None:
    """What a contestant without a promise does."""
    try:
        bench.report.add(NAME, case, name, measure(bench, name, case, PATIENCE_S))
    except ContestantError as failed:
        seen = {"hung": f"no result within {PATIENCE_S:g} s"}.get(failed.kind, failed.detail.strip().splitlines()[-1])
        kind = failed.kind if failed.kind == "unavailable" else NOT_RECOVERED
        bench.report.fail(NAME, case, name, kind, seen)


def run(bench: Bench) -> None:
    names = bench.contestants(CONTESTANTS)
    for case in bench.cases(NAME, QUICK_CASES if bench.options.is_quick else CASES):
        racers = [Racer(name, partial(measure, bench, name, case, bench.options.deadline_s)) for name in names]
        bench.race(NAME, case, racers)
        if not (bench.options.is_quick or bench.versions or case != CASES[0]):
            for name in WITHOUT_PROMISE:
                try_once(bench, name, case)


def _full_rate(contestant: str, at_most: float) -> Target:
    return Target(
        text=f"W5: {contestant}, full rate after a kill, nothing lost, doubled, reordered: ms",
        figure=Key(NAME, "4 KB", contestant, "full_rate_ms"), at_most=at_most,
    )


QUESTION = Question(
    name=NAME,
    title=f"kill -9 of the middle one of {STAGES} stages while streaming: ms to the next result / to the full rate",
    metrics=("next_result_ms", "full_rate_ms"),
    run=run,
    share=4.5,
    can_compare=True,
    targets=(_full_rate(peers.OURS, 400.0), _full_rate(peers.SPARE, 400.0)),
)
