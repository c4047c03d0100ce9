"""W4: what do four stages cost that have nothing to do?"""

from __future__ import annotations

import time

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.commands import Start
from benchmarks.questions import Question
from benchmarks.report import Key, Target
from benchmarks.work import SIZES, Work

NAME = "W4"
STAGES = 4
CASE = f"{STAGES} stages"
CONTESTANTS = (peers.OURS, peers.MP_QUEUE, peers.ICEORYX2, peers.EZMSG)
QUICK_CONTESTANTS = (peers.OURS,)
SETTLE_S = 0.7


def run(bench: Bench) -> None:
    """All are watched at the same time: being idle they do not disturb each other."""
    names = QUICK_CONTESTANTS if bench.options.is_quick else CONTESTANTS
    for case in bench.cases(NAME, [CASE]):
        with bench.chains(NAME, case, names, Start(STAGES, Work.ADD_ONE, SIZES["4 KB"])) as chains:
            time.sleep(SETTLE_S)
            started = time.monotonic()
            before = {name: (driver.cpu_seconds(), driver.sleeps()) for name, driver in chains.items()}
            time.sleep(bench.options.idle_s)
            for name, driver in chains.items():
                cpu, slept = before[name]
                watched = time.monotonic() - started
                figures = {
                    "idle_percent": 100 * (driver.cpu_seconds() - cpu) / watched,
                    "wakeups_per_s": (driver.sleeps() - slept) / watched,
                    "pss_mb": driver.pss_bytes() / 1e6,
                }
                bench.report.add(NAME, case, name, figures)


QUESTION = Question(
    name=NAME,
    title="the whole tree while nothing is sent: % of a core / wake-ups per second / MB in all (PSS)",
    metrics=("idle_percent", "wakeups_per_s", "pss_mb"),
    run=run,
    share=4.0,
    targets=(
        Target(
            text="W4: remotemedia idle, % of a core",
            figure=Key(NAME, CASE, peers.OURS, "idle_percent"), at_most=0.5,
        ),
    ),
)
