"""Hosts: what does Ray between the stages cost, on one host and from host to host? (The hosts are Ray nodes on this
machine: their object stores are apart, but no network lies between them.)
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.commands import Start
from benchmarks.questions import Question
from benchmarks.w2_streaming import measure
from benchmarks.work import SIZES, WINDOW, Work

NAME = "hosts"
STAGES = 2
CASES = ("4 KB", "1 MB", "6.2 MB")
CONTESTANTS = (peers.OURS, peers.ONE_ISLAND, peers.TWO_ISLANDS, peers.RAY_HOSTS)


def run(bench: Bench) -> None:
    """Not in a quick run: each contestant starts a cluster."""
    if bench.options.is_quick:
        return
    if find_spec("ray") is None:
        print("  hosts left out: Ray is not installed (pip install '.[ray]')", file=sys.stderr)
        return
    how = partial(measure, seconds=bench.options.round_s, deadline_s=bench.options.deadline_s)
    for case in bench.cases(NAME, CASES):
        bench.race_chains(NAME, case, CONTESTANTS, Start(STAGES, Work.ADD_ONE, SIZES[case]), how)


QUESTION = Question(
    name=NAME,
    title=f"streaming through {STAGES} stages (+1) with Ray, window {WINDOW}: frames/s / CPU s per 1000 frames",
    metrics=("frames_per_s", "cpu_s_per_1000"),
    run=run,
)
