"""One call to run a pipeline: shapes of results, options, errors."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

import remotemedia
from remotemedia import ChannelConfig, PoolConfig, Timeouts
from remotemedia.core.exceptions import ConfigurationError, ManifestError, NodeProcessError, PipelineError
from remotemedia.core.pipeline import Pipeline
from remotemedia.executors import open_execution
from remotemedia.nodes import PassThroughNode
from remotemedia.options import pool_config
from remotemedia.runtime import execute_pipeline, execute_pipeline_with_input, run_pipeline
from tests.nodes import Add, Count, FailAt, Hold, Keep, Repeat, Tag

# -- shapes ------------------------------------------------------------------------------------------------------------


async def test_outputs_for_an_input_are_a_flat_list() -> None:
    assert await execute_pipeline([Repeat(2)], [5, 6]) == [(5, 0), (5, 1), (6, 0), (6, 1)]
    assert await execute_pipeline([Add()], [1]) == [2]
    assert await execute_pipeline([Add()], []) == []
    assert await execute_pipeline([Add()], (x for x in (1, 2))) == [2, 3]


async def test_an_async_iterable_is_an_input() -> None:
    async def frames() -> AsyncIterator[int]:
        for i in range(2):
            yield i

    assert await execute_pipeline([Add()], frames()) == [1, 2]


async def test_without_input_one_output_is_the_result_itself() -> None:
    assert await execute_pipeline([Tag("t")]) == ("t", None)
    assert await execute_pipeline([Count(1)]) == 0
    assert await execute_pipeline([Count(2)]) == [0, 1]
    assert await execute_pipeline([Count(3), Hold()]) == [0, 1, 2]  # one output, which is a list
    assert await execute_pipeline([Count(0)]) is None


@pytest.mark.parametrize("form", ["pipeline", "nodes", "dicts", "mixed", "manifest", "text"])
async def test_every_form_of_a_pipeline_gives_the_same(form: str) -> None:
    dicts = [{"node_type": "CalculatorNode", "params": {"operation": "add", "operand": 1}}] * 2
    forms: dict[str, Any] = {
        "pipeline": Pipeline([Add(), Add()]),
        "nodes": [Add(), Add()],
        "dicts": dicts,
        "mixed": [dicts[0], Add()],
        "manifest": {"version": "v1", "nodes": [{"id": f"n{i}", **entry} for i, entry in enumerate(dicts)]},
        "text": Pipeline([Add(), Add()]).serialize(),
    }
    assert await execute_pipeline(forms[form], [1, 2]) == [3, 4]
    assert await execute_pipeline_with_input(forms[form], [1, 2]) == [3, 4]


async def test_with_input_there_is_one_result_per_input() -> None:
    assert await execute_pipeline_with_input([Keep(2)], [1, 2, 3, 4]) == [None, 2, None, 4]
    results = await execute_pipeline_with_input([Keep(2), Repeat(2)], [1, 2])
    assert results == [None, [(2, 0), (2, 1)]]


async def test_what_flush_gives_belongs_to_the_last_input() -> None:
    assert await execute_pipeline_with_input([Hold()], [1, 2]) == [None, [1, 2]]

    class Trailer(Add):
        def flush(self) -> str:
            return "end"

    assert await execute_pipeline_with_input([Trailer()], [1, 2]) == [2, [3, "end"]]


async def test_with_input_takes_a_list_of_at_least_one() -> None:
    with pytest.raises(ConfigurationError, match="input_data is empty"):
        await execute_pipeline_with_input([Add()], [])
    for wrong in ((1, 2), "ab", None, iter([1])):
        with pytest.raises(TypeError, match=f"must be a list .*not {type(wrong).__name__}"):
            await execute_pipeline_with_input([Add()], wrong)  # type: ignore[arg-type]


async def test_metrics_come_beside_the_outputs() -> None:
    fields = {"node_id", "calls", "avg_duration_us", "p50_us", "p99_us", "errors", "restarts", "bytes_in", "bytes_out"}
    for result in (
        await execute_pipeline([Add(name="a"), Add()], [1, 2], enable_metrics=True),
        await execute_pipeline_with_input([Add(name="a"), Add()], [1, 2], True),
    ):
        assert set(result) == {"outputs", "metrics"}
        assert result["outputs"] == [3, 4]
        assert result["metrics"]["total_duration_us"] > 0
        nodes = result["metrics"]["node_metrics"]
        assert [(m["node_id"], m["calls"]) for m in nodes] == [("a", 2), ("Add", 2)]
        assert fields | {"copies"} <= set(nodes[0])


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", [[], {}, "{", [{"node_type": "Nope"}]])
async def test_what_is_no_valid_pipeline_is_a_value_error(pipeline: Any) -> None:
    with pytest.raises(ValueError) as caught:
        await execute_pipeline(pipeline, [1])
    assert isinstance(caught.value, ManifestError)


@pytest.mark.parametrize("pipeline", [5, None, [1], [Add(), "x"]])
async def test_what_is_no_pipeline_at_all_is_a_type_error(pipeline: Any) -> None:
    with pytest.raises(TypeError, match="pipeline"):
        await execute_pipeline(pipeline, [1])


async def test_a_bad_input_is_refused_before_any_node_starts() -> None:
    node = Add()
    with pytest.raises(TypeError, match="not str; put a single item into a list"):
        await execute_pipeline([node], "frame")
    assert not node.is_initialized


async def test_the_users_exception_is_the_cause() -> None:
    error = KeyError("lost")
    with pytest.raises(NodeProcessError) as caught:
        await execute_pipeline([FailAt(2, error, name="fragile")], [0, 1, 2])
    assert (caught.value.node, caught.value.frame, caught.value.__cause__) == ("fragile", 2, error)


async def test_a_warm_pipeline_runs_itself() -> None:
    async with Pipeline([Add()]) as pipeline:
        with pytest.raises(PipelineError, match=r"await pipeline\.run\(input_data\)"):
            await execute_pipeline(pipeline, [1])
    assert await execute_pipeline(pipeline, [1]) == [2]


# -- without asyncio ---------------------------------------------------------------------------------------------------


def test_run_pipeline_needs_no_event_loop() -> None:
    assert run_pipeline([Add()], [1, 2]) == [2, 3]
    assert run_pipeline([Count(2)], enable_metrics=True)["outputs"] == [0, 1]
    with pytest.raises(NodeProcessError):
        run_pipeline([FailAt(1, ValueError())], [1])


async def test_run_pipeline_in_a_running_loop_shows_the_async_form() -> None:
    with pytest.raises(PipelineError, match=r"await execute_pipeline\(pipeline, input_data\)"):
        run_pipeline([Add()], [1])


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_are_settings_by_their_names() -> None:
    assert pool_config({}, caller="f") == PoolConfig()
    config = pool_config({"queue_frames": 8, "initialize_s": 3.0, "runtime_dir": "/x"}, caller="f")
    assert config == PoolConfig(
        channel=ChannelConfig(queue_frames=8), timeouts=Timeouts(initialize_s=3.0), runtime_dir="/x"
    )


def test_options_change_the_given_config_and_not_each_other() -> None:
    base = PoolConfig(channel=ChannelConfig(queue_frames=4), timeouts=Timeouts(stop_s=1.0))
    assert pool_config({"config": base}, caller="f") is base
    changed = pool_config({"config": base, "window_bytes": 99}, caller="f")
    assert changed.channel == ChannelConfig(queue_frames=4, window_bytes=99)
    assert changed.timeouts is base.timeouts
    both = pool_config({"channel": ChannelConfig(queue_frames=6), "window_bytes": 99}, caller="f")
    assert both.channel == ChannelConfig(queue_frames=6, window_bytes=99)


async def test_an_unknown_option_is_refused_with_the_closest_ones() -> None:
    with pytest.raises(TypeError, match=r"execute_pipeline\(\) has no option 'queue_frame'. Did you mean 'queue_fra"):
        await execute_pipeline([Add()], [1], queue_frame=8)
    with pytest.raises(TypeError, match=r"execute_pipeline_with_input\(\) has no option 'zzz'. Options: config, "):
        await execute_pipeline_with_input([Add()], [1], zzz=8)
    with pytest.raises(TypeError, match="takes a PoolConfig, not dict"):
        await execute_pipeline([Add()], [1], config={"a": 1})
    with pytest.raises(ConfigurationError, match="queue_frames=0"):
        await execute_pipeline([Add()], [1], queue_frames=0)


async def test_settings_reach_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(graph: Any, executor: Any, options: Any) -> Any:
        seen.append((executor, options))
        return open_execution(graph, executor, options)

    monkeypatch.setattr("remotemedia.runtime.open_execution", spy)
    await execute_pipeline([Add()], [1], executor="inline", queue_frames=5)
    ((executor, options),) = seen
    assert executor == "inline"
    assert options.config.channel.queue_frames == 5
    assert not options.enable_metrics


async def test_a_progress_callable_sees_the_last_metrics() -> None:
    seen: list[list[dict[str, Any]]] = []
    assert await execute_pipeline([Add()], [1, 2], progress=seen.append) == [2, 3]
    assert seen[-1][0]["calls"] == 2


# -- the package -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", remotemedia.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(remotemedia, name) is not None
    assert name in dir(remotemedia)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        _ = remotemedia.Pipelin


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, remotemedia; heavy = {'numpy', 'asyncio', 'msgspec', 'structlog', 'zmq', 'iceoryx2', 'psutil'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_shortest_program_prints_nothing() -> None:
    code = (
        "from remotemedia.runtime import execute_pipeline; from remotemedia.nodes import PassThroughNode;"
        "import asyncio; "
        "asyncio.run(execute_pipeline([PassThroughNode(name='test')]))"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_running_instances_needs_no_manifest() -> None:
    node = PassThroughNode(lock=threading.Lock())  # can neither be pickled nor written as JSON
    assert run_pipeline([node], [1]) == [1]
