"""Serialization: what do the checks and the size cap of `serialize_node_for_ipc` cost beside bare cloudpickle?"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.bench import Bench, Racer
from benchmarks.commands import Call
from benchmarks.questions import Question
from benchmarks.report import Key, Target
from benchmarks.summary import median, rotated
from benchmarks.work import KIB, MIB, WrongOutputError

NAME = "serialization"
BARE, CHECKED = "cloudpickle.dumps", "serialize_node_for_ipc"
CASES = {"1 KB": KIB, "64 KB": 64 * KIB, "1 MB": MIB, "16 MB": 16 * MIB, "99 MB": 99 * MIB}
REFUSED, REFUSED_BYTES = "101 MB, refused", 101 * MIB
CAP_MB = 100 * MIB / 1e6
REPEAT_BYTES = 32 * MIB
"""Small nodes are serialized often in a round: until about this much was written, but at most MOST_REPEATS times."""
MOST_REPEATS = 100


async def measure(size: int, rounds: int) -> dict[str, list[float]]:
    """µs per call of both, round by round, for a node that holds `size` bytes of weights."""
    import cloudpickle

    from benchmarks.peers.our_nodes import PassThrough
    from remotemedia.core.node_serialization import deserialize_node_from_ipc, serialize_node_for_ipc

    node = PassThrough(name="model", weights=np.arange(size, dtype=np.uint32).astype(np.uint8))
    restored = deserialize_node_from_ipc(serialize_node_for_ipc(node))
    if not np.array_equal(restored.config["weights"], node.config["weights"]):
        raise WrongOutputError("the node that came back has other weights")

    def bare() -> bytes:
        data: bytes = cloudpickle.dumps(node)
        return data

    ways: list[tuple[str, Callable[[], bytes]]] = [(BARE, bare), (CHECKED, lambda: serialize_node_for_ipc(node))]
    repeats = max(1, min(MOST_REPEATS, REPEAT_BYTES // size))
    figures: dict[str, list[float]] = {name: [] for name, _ in ways}
    for turn in range(rounds + 1):  # the first one warms up
        for name, way in rotated(ways, turn):
            elapsed = median([_timed_us(way) for _ in range(repeats)])
            if turn:
                figures[name].append(elapsed)
    return figures


def _timed_us(way: Callable[[], bytes]) -> float:
    started = time.perf_counter()
    data = way()
    elapsed = time.perf_counter() - started
    del data
    return elapsed * 1e6


async def measure_refusal(size: int) -> dict[str, float]:
    """How long it takes to refuse a node whose weights are over the cap, and the most memory that it takes, in MB."""
    import tracemalloc

    from benchmarks.peers.our_nodes import PassThrough
    from remotemedia import SerializationError
    from remotemedia.core.node_serialization import MAX_SERIALIZED_SIZE_BYTES, serialize_node_for_ipc

    node = PassThrough(name="model", weights=np.ones(size, np.uint8))
    times, peak = [], 0
    for is_traced in (False, True):  # tracing takes time
        if is_traced:
            tracemalloc.start()
        started = time.perf_counter()
        try:
            data = serialize_node_for_ipc(node)
        except SerializationError:
            times.append(time.perf_counter() - started)
        else:
            raise WrongOutputError(f"{len(data)} bytes were accepted, over the cap of {MAX_SERIALIZED_SIZE_BYTES}")
        if is_traced:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    return {"us": 1e6 * times[0], "built_mb": peak / 1e6}


def run(bench: Bench) -> None:
    for case in bench.cases(NAME, (*CASES, REFUSED)):
        if case == REFUSED:
            call = Call("benchmarks.serialization:measure_refusal", (REFUSED_BYTES,))
            bench.race(NAME, case, [Racer(CHECKED, partial(bench.call_apart, call))])
        else:
            call = Call("benchmarks.serialization:measure", (CASES[case], bench.options.rounds))
            bench.measure_apart(NAME, case, "us", call)


QUESTION = Question(
    name=NAME,
    title=f"turning a node with weights of this size into bytes: µs ({REFUSED}: µs / MB built until then)",
    metrics=("us", "built_mb"),
    run=run,
    share=3.0,
    targets=(
        *(
            Target(
                text=f"serialization, {case}: serialize_node_for_ipc / cloudpickle.dumps",
                figure=Key(NAME, case, CHECKED, "us"), base=Key(NAME, case, BARE, "us"), at_most=1.1,
            )
            for case in CASES
        ),
        Target(
            text=f"serialization, {REFUSED}: MB built until then (the cap: {CAP_MB:.0f})",
            figure=Key(NAME, REFUSED, CHECKED, "built_mb"), at_most=CAP_MB,
        ),
    ),
)
