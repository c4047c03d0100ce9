"""W6: the main process is killed with kill -9 in mid-stream. Which of its processes live on, and what is left?"""

from __future__ import annotations

import time
from functools import partial

from benchmarks import peers
from benchmarks.bench import Bench, Metrics, Racer
from benchmarks.commands import FirstResult, Start, Stream
from benchmarks.questions import Question
from benchmarks.report import Key, Target
from benchmarks.work import SIZES, Work

NAME = "W6"
STAGES = 4
CASE = f"{STAGES} stages"
CONTESTANTS = (peers.OURS, peers.MP_QUEUE, peers.ICEORYX2, peers.RING, peers.EZMSG, peers.EXECUTOR)
QUICK_CONTESTANTS = (peers.OURS,)
ROUNDS = 3
"""At most: counts do not need more, and each takes seconds."""
WAIT_S = 2.0
STREAM_S = 3600.0
"""Longer than it will live."""
BEFORE_S = 0.3


def measure(bench: Bench, name: str) -> Metrics:
    with bench.fresh_driver(name) as driver:
        driver.ask(Start(STAGES, Work.ADD_ONE, SIZES["4 KB"]), bench.options.deadline_s)
        driver.send(Stream(STREAM_S))
        time.sleep(BEFORE_S)
        aftermath = driver.kill_main(WAIT_S)
        driver.relaunch()
        driver.ask(FirstResult(1, Work.ADD_ONE, SIZES["4 KB"]), bench.options.deadline_s)
        return {
            "alive": aftermath.processes,
            "shm_files": len(aftermath.files),
            "shm_files_next": len(driver.orphaned_files()),
            "gone_ms": 1e3 * aftermath.seconds,
        }


def run(bench: Bench) -> None:
    names = QUICK_CONTESTANTS if bench.options.is_quick else CONTESTANTS
    for case in bench.cases(NAME, [CASE]):
        bench.race(NAME, case, [Racer(name, partial(measure, bench, name)) for name in names], ROUNDS)


QUESTION = Question(
    name=NAME,
    title=f"kill -9 of the main process: processes alive after {WAIT_S:g} s / files in /dev/shm then / "
    f"after the next start / ms until all were gone ({1e3 * WAIT_S:.0f}: not all)",
    metrics=("alive", "shm_files", "shm_files_next", "gone_ms"),
    run=run,
    share=3.5,
    targets=(
        Target(
            text=f"W6: processes alive {WAIT_S:g} s after kill -9 of the main process",
            figure=Key(NAME, CASE, peers.OURS, "alive"), at_most=0,
        ),
        Target(
            text="W6: files left in /dev/shm after the next start",
            figure=Key(NAME, CASE, peers.OURS, "shm_files_next"), at_most=0,
        ),
    ),
)
