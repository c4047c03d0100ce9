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
SETTLE_S = 1.0


def run(bench: Bench) -> None:
    """All are watched at the same time: being idle they do not disturb each other."""
    if not bench.has_time(NAME, CASE):
        return
    with bench.chains(NAME, CASE, CONTESTANTS, Start(STAGES, Work.ADD_ONE, SIZES["4 KB"])) as chains:
        time.sleep(SETTLE_S)
        started = time.monotonic()
        before = {name: driver.cpu_seconds() for name, driver in chains.items()}
        time.sleep(bench.options.idle_s)
        for name, driver in chains.items():
            used = driver.cpu_seconds() - before[name]
            bench.report.add(NAME, CASE, name, {"idle_percent": 100 * used / (time.monotonic() - started)})


QUESTION = Question(
    name=NAME,
    title="CPU of the whole tree while nothing is sent: % of a core",
    metrics=("idle_percent",),
    run=run,
    targets=(
        Target(
            text="W4: remotemedia idle, % of a core",
            figure=Key(NAME, CASE, peers.OURS, "idle_percent"), at_most=0.5,
        ),
    ),
)
