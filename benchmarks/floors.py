"""Floors of the machine: waking another process, and copying memory. Nothing that passes frames can be faster."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.bench import Bench, Racer
from benchmarks.questions import Question
from benchmarks.summary import percentile
from benchmarks.work import SIZES

NAME = "floors"
WAKE_UP = "bare wake-up round trip"
SOURCE = Path(__file__).with_name("floors.c")
ANYWHERE = -1
C_DEADLINE_S = 60.0
WARM_UP = 100
ECHO = """
import os, sys
cpu = int(sys.argv[1])
if cpu >= 0:
    os.sched_setaffinity(0, {cpu})
while os.read(0, 1):
    os.write(1, b"!")
"""
COPY_SIZES = ("4 KB", "1 MB", "6.2 MB")
ROTATING_BUFFERS = 16
COPY = f"memcpy, {ROTATING_BUFFERS} buffers in turn"
COPY_WAYS = {
    "memcpy, same buffers": 1,
    COPY: ROTATING_BUFFERS,
    "memcpy, fresh memory": 0,
}


class PingPong(Protocol):
    """Measures round trips between two processes pinned to the two processors (-1: not pinned)."""

    def __call__(self, one: int, other: int, round_trips: int) -> dict[str, float]: ...


@contextmanager
def ping_pong() -> Iterator[tuple[str, PingPong]]:
    """("C" or "Python", how to measure): C if there is a compiler, compiled into a directory that vanishes again."""
    with tempfile.TemporaryDirectory(prefix="rmb-") as directory:
        program = Path(directory) / "floors"
        if _compile(program):
            yield "C", partial(_ping_pong_in_c, program)
        else:
            yield "Python", _ping_pong_in_python


def _compile(program: Path) -> bool:
    """Whether there is a compiler that could make the program."""
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    arguments = [compiler, "-O2", "-o", str(program), str(SOURCE)]
    return subprocess.run(arguments, check=False, capture_output=True).returncode == 0


def _ping_pong_in_c(program: Path, one: int, other: int, round_trips: int) -> dict[str, float]:
    arguments = [str(program), str(one), str(other), str(round_trips)]
    printed = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=C_DEADLINE_S).stdout
    middle, late = (int(word) / 1e3 for word in printed.split())
    return {"median_us": middle, "p99_us": late}


def _ping_pong_in_python(one: int, other: int, round_trips: int) -> dict[str, float]:
    home = os.sched_getaffinity(0)
    times = []
    arguments = [sys.executable, "-S", "-c", ECHO, str(other)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
        assert echo.stdin is not None
        assert echo.stdout is not None
        there, back = echo.stdin.fileno(), echo.stdout.fileno()
        if one != ANYWHERE:
            os.sched_setaffinity(0, {one})
        for turn in range(-WARM_UP, round_trips):
            sent = time.perf_counter_ns()
            os.write(there, b"!")
            os.read(back, 1)
            if turn >= 0:
                times.append((time.perf_counter_ns() - sent) / 1e3)
    os.sched_setaffinity(0, home)
    return {"median_us": percentile(times, 50), "p99_us": percentile(times, 99)}


def two_cores() -> tuple[int, int]:
    """Two processors this process may use; the same one twice if there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


def copy_us(size: int, buffers: int, seconds: float) -> dict[str, float]:
    """Copying `size` bytes between `buffers` pairs of warm buffers in turn; 0 buffers: into fresh memory each time."""
    sources = [np.ones(size, np.uint8) for _ in range(buffers or 1)]
    targets = [np.ones(size, np.uint8) for _ in range(buffers)]  # written to, so that the memory is there
    times: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 2 * ROTATING_BUFFERS:
        turn = len(times) % len(sources)
        started = time.perf_counter_ns()
        if targets:
            np.copyto(targets[turn], sources[turn])
        else:
            with mmap.mmap(-1, size) as fresh:
                fresh[:] = sources[0].data
        times.append(time.perf_counter_ns() - started)
    return {"median_us": percentile(times, 50) / 1e3, "p99_us": percentile(times, 99) / 1e3}


def run(bench: Bench) -> None:
    first, second = two_cores()
    round_trips = 2_000 if bench.options.is_quick else 20_000
    places = {"two cores": (first, second), "one core": (first, first), "unpinned": (ANYWHERE, ANYWHERE)}
    seconds = bench.options.round_s / 8
    with ping_pong() as (language, measure):
        for case in bench.cases(NAME, (*places, *COPY_SIZES)):
            if case in places:
                one, other = places[case]
                bench.race(NAME, case, [Racer(f"{WAKE_UP} ({language})", partial(measure, one, other, round_trips))])
            else:
                size = SIZES[case]
                bench.race(NAME, case, [Racer(way, partial(copy_us, size, n, seconds)) for way, n in COPY_WAYS.items()])


QUESTION = Question(
    name=NAME, title="floors of this machine: median / p99 µs", metrics=("median_us", "p99_us"), run=run, share=1.2
)
