"""Pipeline: editing, running, keeping warm, manifests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from remotemedia.core.exceptions import ManifestError, NodeInitializeError, NodeProcessError, PipelineError
from remotemedia.core.node import Node
from remotemedia.core.pipeline import Pipeline
from remotemedia.nodes import BatchNode, CalculatorNode, PassThroughNode
from tests.nodes import Add, Count, FailAt, Hold, Journal, Repeat, Tag


def diamond() -> Pipeline:
    entries = [{"id": name, "node_type": "tests.nodes:Tag"} for name in "abcd"]
    connections = [{"from": a, "to": b} for a, b in ("ac", "ab", "cd", "bd")]
    return Pipeline.from_manifest({"version": "v1", "nodes": entries, "connections": connections})


# -- editing -----------------------------------------------------------------------------------------------------------


def test_nodes_are_added_one_after_the_other() -> None:
    first, second = Add(name="first"), Add(name="second")
    pipeline = Pipeline(name="sum").add_node(first).add_node(second)
    assert list(pipeline) == pipeline.nodes == [first, second]
    assert len(pipeline) == 2
    assert pipeline.graph.edges == ((0, 1),)
    assert repr(pipeline) == "Pipeline(name='sum', nodes=[first, second])"
    html = pipeline._repr_html_()
    assert "Pipeline sum" in html
    assert f"<tr><td>first</td><td>{type(pipeline.nodes[0]).__name__}</td><td></td><td>second</td></tr>" in html
    assert Pipeline([first, second]).graph == pipeline.graph


def test_ids_are_unique() -> None:
    pipeline = Pipeline([Add(name="a"), Add(name="a"), Add(name="a_2"), Add(name="a")])
    assert pipeline.graph.ids == ("a", "a_1", "a_2", "a_3")
    assert pipeline.get_node("a_1") is pipeline.nodes[1]
    assert pipeline.get_node("b") is None


@pytest.mark.parametrize("wrong", [5, None, Add, {"node_type": "PassThroughNode"}])
def test_only_nodes_can_be_added(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"add_node takes a Node, not {type(wrong).__name__}"):
        Pipeline().add_node(wrong)


def test_a_removed_node_leaves_no_gap() -> None:
    pipeline = Pipeline([Add(name="a"), Add(name="b"), Add(name="c")])
    assert pipeline.remove_node("b") is True
    assert (pipeline.graph.ids, pipeline.graph.edges) == (("a", "c"), ((0, 1),))
    assert pipeline.remove_node("b") is False
    assert pipeline.remove_node("c") is True
    assert pipeline.add_node(Add(name="d")).graph.edges == ((0, 1),)


def test_a_node_removed_from_a_graph_hands_its_place_on() -> None:
    pipeline = diamond()
    pipeline.remove_node("c")
    graph = pipeline.graph
    named = [(graph.ids[a], graph.ids[b]) for a, b in graph.edges]
    assert named == [("a", "b"), ("a", "d"), ("b", "d")]
    assert [graph.ids[i] for i in graph.predecessors(2)] == ["a", "b"]
    pipeline.remove_node("b")
    assert pipeline.graph.edges == ((0, 1),), "one connection, though two ways led from a to d"


# -- running -----------------------------------------------------------------------------------------------------------


async def test_results_have_the_shape_of_execute_pipeline() -> None:
    assert await Pipeline([Add()]).run([1, 2]) == [2, 3]
    assert await Pipeline([Add()]).run([1]) == [2]
    assert await Pipeline([Count(3), Add()]).run() == [1, 2, 3]
    assert await Pipeline([Count(1)]).run() == 0
    assert await Pipeline([Count(0)]).run() is None
    assert await Pipeline([Tag("t")]).run() == ("t", None)


async def test_a_graph_runs() -> None:
    assert await diamond().run([0]) == [("d", ("c", ("a", 0))), ("d", ("b", ("a", 0)))]


async def test_processing_gives_each_output_as_it_comes() -> None:
    given: list[int] = []

    async def camera() -> AsyncIterator[int]:
        for i in range(3):
            await asyncio.sleep(0)
            given.append(i)
            yield i

    seen = [(value, len(given)) async for value in Pipeline([Add(), Repeat(1)]).process(camera())]
    assert seen == [((1, 0), 1), ((2, 0), 2), ((3, 0), 3)]


async def test_each_run_starts_and_stops_the_nodes() -> None:
    journal: list[str] = []
    pipeline = Pipeline([Journal("a", journal)])
    assert not pipeline.is_initialized
    await pipeline.run([1])
    await pipeline.run([2])
    assert journal == ["initialize a", "process a", "flush a", "cleanup a"] * 2


async def test_nodes_stay_warm_between_runs_in_a_block() -> None:
    journal: list[str] = []
    pipeline = Pipeline([Journal("a", journal)], name="p")
    async with pipeline:
        assert repr(pipeline) == "Pipeline(name='p', nodes=[a], initialized)"
        await pipeline.run([1])
        assert [x async for x in pipeline.process([2])] == [2]
    assert not pipeline.is_initialized
    assert journal == ["initialize a", *["process a", "flush a"] * 2, "cleanup a"]


async def test_initialize_and_cleanup_may_be_called_twice() -> None:
    journal: list[str] = []
    pipeline = Pipeline([Journal("a", journal)])
    await pipeline.cleanup()
    await pipeline.initialize()
    await pipeline.initialize()
    await pipeline.cleanup()
    await pipeline.cleanup()
    assert journal == ["initialize a", "cleanup a"]


async def test_a_failed_initialize_leaves_the_pipeline_as_it_was() -> None:
    journal: list[str] = []
    node = Journal("a", journal, fails_in="initialize")
    pipeline = Pipeline([node])
    with pytest.raises(NodeInitializeError):
        await pipeline.initialize()
    assert not pipeline.is_initialized
    node.fails_in = ""
    assert await pipeline.run([1]) == [1]


async def test_an_error_in_a_block_is_not_hidden_by_a_failing_cleanup() -> None:
    journal: list[str] = []
    pipeline = Pipeline([FailAt(1, KeyError("k")), Journal("b", journal, fails_in="cleanup")])
    with pytest.raises(NodeProcessError):
        async with pipeline:
            await pipeline.run([1])
    assert journal == ["initialize b", "cleanup b"]


async def test_a_warm_pipeline_cannot_be_changed_or_moved() -> None:
    async with Pipeline([Add()]) as pipeline:
        with pytest.raises(PipelineError, match=r"add_node: .*call cleanup"):
            pipeline.add_node(Add())
        with pytest.raises(PipelineError, match="remove_node"):
            pipeline.remove_node("Add")
        with pytest.raises(PipelineError, match="initialized with executor=None, not 'multiprocess'"):
            await pipeline.run([1], executor="multiprocess")
    await pipeline.initialize(executor="inline")
    assert await pipeline.run([1], executor="inline") == [2]
    await pipeline.cleanup()


async def test_an_empty_pipeline_cannot_run() -> None:
    assert Pipeline()
    with pytest.raises(ManifestError, match="pipeline at the top level: there are no nodes"):
        await Pipeline().run([1])


async def test_metrics_are_those_of_the_present_or_last_run() -> None:
    pipeline = Pipeline([Add(), Hold()], name="p", enable_metrics=True)
    assert pipeline.get_metrics() == {"pipeline": "p", "node_metrics": []}
    await pipeline.run([1, 2, 3])
    metrics = pipeline.get_metrics()
    assert [(m["node_id"], m["calls"]) for m in metrics["node_metrics"]] == [("Add", 3), ("Hold", 3)]
    async with pipeline:
        await pipeline.run([1])
        assert pipeline.get_metrics()["node_metrics"][0]["calls"] == 1
        await pipeline.run([1])
    assert pipeline.get_metrics()["node_metrics"][0]["calls"] == 2


# -- manifests ---------------------------------------------------------------------------------------------------------


async def test_a_pipeline_survives_the_way_through_its_manifest() -> None:
    nodes: list[Node] = [CalculatorNode("multiply", 3), PassThroughNode(), PassThroughNode(), BatchNode(2)]
    text = Pipeline(nodes, name="calc").serialize()
    again = Pipeline.from_manifest(text)
    assert again.name == "calc"
    assert again.graph.ids == ("CalculatorNode", "PassThroughNode", "PassThroughNode_2", "BatchNode")
    assert again.serialize() == text
    assert await again.run([1, 2, 3]) == [[3, 6], [9]]


def test_a_serialized_graph_keeps_its_connections() -> None:
    data = json.loads(diamond().serialize())
    assert data["connections"] == [{"from": a, "to": b} for a, b in ("ac", "ab", "cd", "bd")]
    assert data["version"] == "v1"


def test_a_manifest_without_a_name_gives_the_default_one() -> None:
    entry = {"id": "a", "node_type": "PassThroughNode"}
    assert Pipeline.from_manifest({"version": "v1", "nodes": [entry], "metadata": {"name": 7}}).name == "pipeline"
    with pytest.raises(ManifestError, match="line 1"):
        Pipeline.from_manifest("{")
