"""execute_pipeline with worker processes: every kind of node, any placement, from anywhere."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remotemedia.core.node import Node
from remotemedia.core.pipeline import Pipeline
from remotemedia.runtime import execute_pipeline, execute_pipeline_with_input, run_pipeline
from tests.integration.stages import Facts
from tests.nodes import Add, AsyncAdd, AsyncRepeat, Hold, Journal, Keep, Repeat, RunningPairs, Tag


def every_kind() -> list[Node]:
    return [Add(1), Keep(2), Repeat(2), AsyncRepeat(1), RunningPairs(), Hold(), Tag()]


async def test_every_kind_of_node_gives_what_it_gives_inline(loop_kind: str) -> None:
    expected = await execute_pipeline(every_kind(), list(range(9)), executor="inline")
    assert await execute_pipeline(every_kind(), list(range(9)), executor="multiprocess") == expected


async def test_nodes_run_where_they_are_marked() -> None:
    places = [Facts("a"), Facts("b", executor="inline"), Facts("c")]

    class Gather(Node):
        executor = "inline"

        def process(self, data: Any) -> Any:
            return data["pid"]

    for executor, mine in (("multiprocess", [False, True, False]), (None, [True, True, True]), ("inline", [True] * 3)):
        for node, is_mine in zip(places, mine, strict=True):
            (pid,) = await execute_pipeline([node, Gather()], [0], executor=executor)
            assert (pid == os.getpid()) == is_mine, (executor, node)
    (pid,) = await execute_pipeline([Facts("d", executor="multiprocess"), Gather()], [0])
    assert pid != os.getpid()


async def test_a_worker_of_a_plain_node_runs_in_its_main_thread_without_an_event_loop() -> None:
    (facts,) = await execute_pipeline([Facts()], [0], executor="multiprocess")
    assert facts["thread"] == "MainThread"


@pytest.mark.parametrize("inline", [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2)])
async def test_any_mixture_of_places(inline: tuple[int, ...]) -> None:
    nodes = [Add(1, name="a"), AsyncAdd(2, name="b"), Repeat(2, name="c")]
    for index in inline:
        nodes[index].executor = "inline"
    assert await execute_pipeline(nodes, [0, 1], executor="multiprocess") == [(3, 0), (3, 1), (4, 0), (4, 1)]


async def test_one_result_for_each_input() -> None:
    nodes = [Keep(2), Repeat(2)]
    result = await execute_pipeline_with_input(nodes, [1, 2, 3], executor="multiprocess")
    assert result == [None, [(2, 0), (2, 1)], None]


async def test_a_fan_out_that_meets_again_keeps_the_order_of_the_connections() -> None:
    manifest = {
        "version": "v1",
        "nodes": [
            {"id": each, "node_type": "tests.nodes:Tag", "params": {"name": each}, "executor": "multiprocess"}
            for each in ("in", "left", "right", "out")
        ],
        "connections": [
            {"from": "in", "to": "right"},
            {"from": "in", "to": "left"},
            {"from": "right", "to": "out"},
            {"from": "left", "to": "out"},
        ],
    }
    outputs = await execute_pipeline(manifest, [1, 2])
    assert outputs == [("out", (way, ("in", value))) for value in (1, 2) for way in ("right", "left")]


async def test_metrics() -> None:
    result = await execute_pipeline([Add(1), Keep(2)], list(range(10)), executor="multiprocess", enable_metrics=True)
    assert result["outputs"] == [2, 4, 6, 8, 10]
    assert [(each["calls"], each["errors"]) for each in result["metrics"]["node_metrics"]] == [(10, 0), (10, 0)]
    assert result["metrics"]["total_duration_us"] > 0


async def test_outputs_are_the_callers_own() -> None:
    """Nothing of shared memory is left when the pool is gone."""
    outputs = await execute_pipeline([Add(1)], [np.zeros(1000), {"a": np.ones(3)}["a"]], executor="multiprocess")
    assert all(output.flags.owndata and output.flags.writeable for output in outputs)


async def test_classes_and_functions_of_the_caller_travel() -> None:
    offset = 5

    class Mine(Node):
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def process(self, data: int) -> int:
            return int(self.function(data) + offset)

    assert await execute_pipeline([Mine(lambda x: x * 2)], [1, 2], executor="multiprocess") == [7, 9]


async def test_the_callers_node_is_cleaned_up_and_not_initialized_here() -> None:
    journal: list[str] = []
    await execute_pipeline([Journal("j", journal)], [1], executor="multiprocess")
    assert set(journal) <= {"cleanup j"}


def test_synchronously() -> None:
    assert run_pipeline([Add(1), Add(1)], [1, 2], executor="multiprocess") == [3, 4]


async def test_a_pipeline_object() -> None:
    pipeline = Pipeline([Add(1), AsyncAdd(1)])
    assert await pipeline.run([1, 2], executor="multiprocess") == [3, 4]


async def test_inputs_of_every_kind() -> None:
    def generator() -> Iterator[int]:
        yield from (1, 2)

    async def waiting() -> AsyncIterator[int]:
        for value in (1, 2):
            await asyncio.sleep(0)
            yield value

    for source in ([1, 2], (1, 2), range(1, 3), generator(), waiting(), {1: "a", 2: "b"}.keys()):
        assert await execute_pipeline([Add(1)], source, executor="multiprocess") == [2, 3]
    assert await execute_pipeline([Add(1)], [], executor="multiprocess") == []


SCRIPT = """
import asyncio
from remotemedia.core.node import Node
from remotemedia.runtime import execute_pipeline

class Double(Node):
    def process(self, data):
        return Pair(data * 2)

class Pair:
    def __init__(self, value):
        self.value = value

outputs = asyncio.run(execute_pipeline([Double(), Double.__new__(Double)][:1], [1, 2], executor="multiprocess"))
print([type(output).__name__ + str(output.value) for output in outputs])
"""


@pytest.mark.parametrize("way", ["script", "stdin", "-c"])
def test_a_program_without_a_guard(way: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(SCRIPT)
    arguments = {"script": [str(path)], "stdin": ["-"], "-c": ["-c", SCRIPT]}[way]
    done = subprocess.run(
        [sys.executable, *arguments],
        input=SCRIPT if way == "stdin" else None,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['Pair2', 'Pair4']"), done.stderr
