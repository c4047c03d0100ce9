"""W5: what does Ray between the stages cost, on one host and from host to host? (The hosts are Ray nodes on this
machine: their object stores are apart, but no network lies between them.)
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec

from benchmarks import peers
from benchmarks.bench import Bench, Racer
from benchmarks.commands import Start
from benchmarks.questions import Question
from benchmarks.w2_streaming import measure
from benchmarks.work import SIZES, WINDOW, Work

NAME = "W5"
STAGES = 2
CASES = ("4 KB", "1 MB", "6.2 MB")
CONTESTANTS = (peers.OURS, peers.ONE_ISLAND, peers.TWO_ISLANDS, peers.RAY_ACTORS)


def run(bench: Bench) -> None:
    """Not in a quick run: each contestant starts a cluster."""
    if bench.options.is_quick:
        return
    if find_spec("ray") is None:
        print("  W5 left out: Ray is not installed (pip install '.[ray]')", file=sys.stderr)
        return
    seconds, deadline_s = bench.options.round_s, bench.options.deadline_s
    for case in CASES:
        if not bench.has_time(NAME, case):
            continue
        with bench.chains(NAME, case, CONTESTANTS, Start(STAGES, Work.ADD_ONE, SIZES[case])) as chains:
            racers = [Racer(name, partial(measure, driver, seconds, deadline_s)) for name, driver in chains.items()]
            bench.race(NAME, case, racers)


QUESTION = Question(
    name=NAME,
    title=f"streaming through {STAGES} stages (+1) with Ray, window {WINDOW}: frames/s / CPU s per 1000 frames",
    metrics=("frames_per_s", "cpu_s_per_1000"),
    run=run,
)
