"""Import: how long does `import remotemedia` take in a fresh interpreter, and beside what it cannot do without?"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks import peers
from benchmarks.bench import Bench, Metrics, Racer
from benchmarks.driver_process import HERE, ContestantError
from benchmarks.questions import Question

NAME = "import"
CASE = "fresh interpreter"
STATEMENTS = {
    peers.OURS: "import remotemedia",
    f"{peers.OURS}, with a pool": "from remotemedia import Node, WorkerPool",
    "asyncio and numpy": "import asyncio, numpy",
    "multiprocessing": "from multiprocessing import Process, Queue; import multiprocessing.queues",
    peers.EZMSG: "import ezmsg.core",
}
CODE = """
from time import perf_counter
started = perf_counter()
{statement}
print(perf_counter() - started)
"""
DEADLINE_S = 60.0


def measure(statement: str) -> Metrics:
    arguments = [sys.executable, "-c", CODE.format(statement=statement)]
    done = subprocess.run(
        arguments, check=False, cwd=HERE.directory, capture_output=True, text=True, timeout=DEADLINE_S
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        raise ContestantError("unavailable" if last.startswith("ModuleNotFoundError") else "error", last)
    return {"import_ms": 1e3 * float(done.stdout)}


def run(bench: Bench) -> None:
    for case in bench.cases(NAME, [CASE]):
        bench.race(NAME, case, [Racer(name, partial(measure, line)) for name, line in STATEMENTS.items()])


QUESTION = Question(name=NAME, title="import: ms", metrics=("import_ms",), run=run, share=1.0)
