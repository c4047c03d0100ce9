"""Inline: what does the in-process executor add to a bare function call, per node and frame?"""

from __future__ import annotations

import operator
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.bench import Bench
from benchmarks.commands import Call
from benchmarks.peers import OURS
from benchmarks.questions import Question, Row
from benchmarks.report import Key, Target
from benchmarks.summary import rotated
from benchmarks.work import WrongOutputError

NAME = "inline"
BARE, INSTANCES, MANIFEST = "bare calls", f"{OURS}, instances", f"{OURS}, manifest"
CASES = {"1 node": 1, "8 nodes": 8}


async def measure(nodes: int, frames: int, rounds: int) -> dict[str, list[float]]:
    """µs per node and frame of each way, round by round."""
    from remotemedia import execute_pipeline
    from remotemedia.nodes import PassThroughNode

    items = list(range(frames))

    async def bare() -> Sequence[Any]:
        calls = [PassThroughNode(name=f"node_{index}").process for index in range(nodes)]
        outputs = []
        for item in items:
            value: Any = item
            for call in calls:
                value = call(value)
            outputs.append(value)
        return outputs

    async def instances() -> Sequence[Any]:
        pipeline = [PassThroughNode(name=f"node_{index}") for index in range(nodes)]
        return list(await execute_pipeline(pipeline, items, executor="inline"))

    async def manifest() -> Sequence[Any]:
        entries = [{"id": f"node_{index}", "node_type": "PassThroughNode", "params": {}} for index in range(nodes)]
        return list(await execute_pipeline(entries, items, executor="inline"))

    ways = [(BARE, bare), (INSTANCES, instances), (MANIFEST, manifest)]
    figures: dict[str, list[float]] = {name: [] for name, _ in ways}
    for turn in range(rounds + 1):  # the first one warms up
        for name, way in rotated(ways, turn):
            elapsed = await _timed_us(way, items)
            if turn:
                figures[name].append(elapsed / (nodes * frames))
    return figures


async def _timed_us(way: Callable[[], Awaitable[Sequence[Any]]], expected: Sequence[Any]) -> float:
    started = time.perf_counter()
    outputs = await way()
    elapsed = time.perf_counter() - started
    if outputs != expected:
        raise WrongOutputError(f"{len(outputs)} outputs, not the {len(expected)} inputs as they were")
    return elapsed * 1e6


def run(bench: Bench) -> None:
    frames = 20_000 if bench.options.is_quick else 50_000
    for case in bench.cases(NAME, tuple(CASES)):
        call = Call("benchmarks.inline_overhead:measure", (CASES[case], frames, bench.options.rounds))
        bench.measure_apart(NAME, case, "us_per_node", call)


def _figure(case: str, way: str) -> Key:
    return Key(NAME, case, way, "us_per_node")


QUESTION = Question(
    name=NAME,
    title="in-process execution, pass-through nodes: µs per node and frame",
    metrics=("us_per_node",),
    run=run,
    share=0.8,
    gate=(Row(_figure("8 nodes", INSTANCES), _figure("8 nodes", BARE)),),
    targets=(
        Target(
            text="inline, 8 nodes: instances over bare calls, µs",
            figure=_figure("8 nodes", INSTANCES), base=_figure("8 nodes", BARE), compare=operator.sub, at_most=2.0,
        ),
        Target(
            text="inline, 1 node: instances over bare calls, µs",
            figure=_figure("1 node", INSTANCES), base=_figure("1 node", BARE), compare=operator.sub, at_most=2.0,
        ),
        Target(
            text="inline, 8 nodes: instances / manifest",
            figure=_figure("8 nodes", INSTANCES), base=_figure("8 nodes", MANIFEST), at_most=1.05,
        ),
    ),
)
