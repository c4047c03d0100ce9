"""Manifests: what is accepted, and where exactly the errors point."""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import pytest

from remotemedia.core.exceptions import ConfigurationError, ManifestError
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.core.pipeline import Pipeline
from remotemedia.core.placement import Placement
from remotemedia.manifest import manifest_of, manifest_schema, manifest_text, parse_manifest, to_graph
from remotemedia.nodes import BatchNode, CalculatorNode, FunctionNode, PassThroughNode
from tests.nodes import Add


def manifest(*nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"version": "v1", "nodes": list(nodes), **fields}


def entry(node_id: str, node_type: Any = "PassThroughNode", **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "node_type": node_type, **fields}


# -- what is accepted --------------------------------------------------------------------------------------------------


def test_nodes_form_a_chain_where_connections_are_left_out() -> None:
    graph = to_graph(manifest(entry("a"), entry("b"), entry("c")))
    assert graph.ids == ("a", "b", "c")
    assert graph.edges == ((0, 1), (1, 2))


def test_connections_form_a_graph_in_their_order() -> None:
    connections = [{"from": "a", "to": "c"}, {"from": "a", "to": "b"}, {"from": "b", "to": "c"}]
    graph = to_graph(manifest(entry("a"), entry("b"), entry("c"), connections=connections))
    assert graph.edges == ((0, 2), (0, 1), (1, 2))
    assert to_graph(manifest(entry("a"), entry("b"), connections=[])).edges == ()


def test_json_text_is_the_same_as_a_dict() -> None:
    data = manifest(entry("a", "CalculatorNode", params={"operation": "multiply", "operand": 3}))
    (node,) = to_graph(json.dumps(data)).nodes
    assert isinstance(node, CalculatorNode)
    assert (node.name, node.operation, node.operand) == ("a", "multiply", 3)


def test_marks_of_an_entry_reach_its_node() -> None:
    marks = {"executor": "multiprocess", "is_streaming": True, "capabilities": {"gpu": 1}, "replicas": 1}
    (node,) = to_graph(manifest(entry("a", **marks))).nodes
    assert (node.executor, node.is_streaming, node.get_capabilities()) == ("multiprocess", True, {"gpu": 1})
    (plain,) = to_graph(manifest(entry("a", executor=None))).nodes
    assert (plain.executor, plain.is_streaming, plain.get_capabilities()) == (None, False, None)


def test_an_entry_says_where_its_node_wants_to_run() -> None:
    wishes = {"resources": {"num_gpus": 1}, "host": "gpu-box"}
    (node,) = to_graph(manifest(entry("a", **wishes))).nodes
    assert node.placement == Placement(resources={"num_gpus": 1}, host="gpu-box")
    assert {key: node.to_manifest()[key] for key in wishes} == wishes
    with pytest.raises(ManifestError, match=r"/nodes/0/resources: .*-1.*>= 0"):
        to_graph(manifest(entry("a", resources={"num_gpus": -1})))


def test_an_explicit_name_among_the_params_wins() -> None:
    (node,) = to_graph(manifest(entry("a", params={"name": "own"}))).nodes
    assert node.name == "own"


def test_a_node_type_may_be_a_class_in_a_module() -> None:
    (node,) = to_graph(manifest(entry("a", "tests.nodes:Add", params={"amount": 4}))).nodes
    assert isinstance(node, Add)
    assert node.amount == 4


def test_lists_mix_nodes_and_dicts_and_keep_the_instances() -> None:
    first, last = Add(name="x"), Add(name="x")
    graph = to_graph([first, {"node_type": "BatchNode", "params": {"size": 2}}, {**entry("own")}, last])
    assert graph.nodes[0] is first
    assert graph.nodes[3] is last
    assert isinstance(graph.nodes[1], BatchNode)
    assert graph.ids == ("x_0", "BatchNode", "own", "x_3")
    assert graph.edges == ((0, 1), (1, 2), (2, 3))


def test_params_for_the_config_of_a_node_are_no_misspelt_ones() -> None:
    params = {"operation": "add", "operations": 1, "names": 2, "rate": 3}
    (node,) = to_graph([{"node_type": "CalculatorNode", "params": params}]).nodes
    assert node.config == {**params, "operand": None}


def test_params_of_node_dicts_are_passed_as_they_are() -> None:
    value = object()
    (node,) = to_graph([{"node_type": "tests.nodes:Add", "params": {"amount": value}}]).nodes
    assert isinstance(node, Add)
    assert node.amount is value


def test_a_pipeline_is_taken_as_it_is() -> None:
    node = Add()
    assert to_graph(Pipeline([node])).nodes == (node,)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", [None, 5, b"{}", {1, 2}, Add(), Add])
def test_what_is_no_pipeline_is_named_by_its_type(pipeline: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(pipeline).__name__}$"):
        to_graph(pipeline)


def test_each_wrong_item_of_a_list_is_named() -> None:
    with pytest.raises(TypeError, match="index 1 is int, index 3 is str, index 4 is the class Add"):
        to_graph([Add(), 7, Add(), "x", Add])


BAD: list[tuple[Any, str, str]] = [
    # pipeline, pointer, text
    ([], "", "it is empty"),
    ({}, "", "it is empty"),
    (manifest(), "/nodes", "no nodes"),
    (Pipeline(), "", "no nodes"),
    ({"nodes": [entry("a")]}, "", "'version' is missing"),
    ({"version": "v1"}, "", "'nodes' is missing"),
    ({"version": "v9", "nodes": [entry("a")]}, "/version", "unknown version 'v9'"),
    ({"version": 1, "nodes": [entry("a")]}, "/version", "it is int"),
    ("{", "", "line 1 column 2"),
    ("[1]", "", "it is an array"),
    ("true", "", "it is a boolean"),
    ("pipeline.json", "", "read_text"),
    (manifest("a"), "/nodes/0", "it is str"),  # type: ignore[arg-type]
    (manifest(entry("a"), {"id": "b"}), "/nodes/1", "'node_type' is missing"),
    (manifest(entry("a"), entry("")), "/nodes/1/id", "it is ''"),
    (manifest(entry("a", params=[1])), "/nodes/0/params", "it is array"),
    (manifest(entry("a", params={1: 2})), "/nodes/0/params", "it is int"),
    (manifest(entry("a", parms={})), "/nodes/0/parms", "unknown field 'parms'.*Did you mean 'params'"),
    (manifest(entry("a"), conections=[]), "/conections", "Did you mean 'connections'"),
    (manifest(entry("a", **{"a/b~c": 1})), "/nodes/0/a~1b~0c", "unknown field"),
    (manifest(entry("a", replicas=2)), "/nodes/0/replicas", "it is 2.*1 .several workers"),
    (manifest(entry("a"), entry("b"), entry("a")), "/nodes/2/id", "'a' is taken by node 0"),
    (manifest(entry("a", "PassThruNode")), "/nodes/0/node_type", "unknown node_type.*Did you mean 'PassThroughNode'"),
    (manifest(entry("a", "passthroughnode")), "/nodes/0/node_type", "Did you mean 'PassThroughNode'"),
    (manifest(entry("a", "zzzz")), "/nodes/0/node_type", "unknown node_type 'zzzz'"),
    (manifest(entry("a", "no.such.module:X")), "/nodes/0/node_type", "cannot be imported: No module"),
    (manifest(entry("a", ":X")), "/nodes/0/node_type", "cannot be imported"),
    (manifest(entry("a", "tests.nodes:Ad")), "/nodes/0/node_type", "no Node class 'Ad'.*'Add'"),
    (manifest(entry("a", "os:system")), "/nodes/0/node_type", "no Node class 'system'"),
    (manifest(entry("a", "BatchNode")), "/nodes/0/params", r"'size'.*BatchNode\(size, "),
    (manifest(entry("a", "CalculatorNode", params={"operatoin": "add"})), "/nodes/0/params/operatoin",
     "CalculatorNode has no parameter 'operatoin'.*Did you mean 'operation'"),
    (manifest(entry("a", "BatchNode", params={"size": 0})), "/nodes/0/params", "size=0"),
    (manifest(entry("a"), connections=[{"from": "a", "to": "b"}]), "/connections/0/to", "no node has the id 'b'"),
    (manifest(entry("one"), connections=[{"from": "on", "to": "one"}]), "/connections/0/from", "Did you mean 'one'"),
    (manifest(entry("a"), connections=[["a", "b"]]), "/connections/0", "it is array"),
    (manifest(entry("a"), connections=[{"from": "a", "too": "a"}]), "/connections/0/too", "Did you mean 'to'"),
    (
        manifest(entry("a"), entry("b"), connections=[{"from": "a", "to": "b"}, {"from": "a", "to": "b"}]),
        "/connections/1",
        "connection 0 already leads from 'a' to 'b'",
    ),
    (
        manifest(entry("a"), entry("b"), connections=[{"from": "a", "to": "b"}, {"from": "b", "to": "a"}]),
        "/connections",
        "cycle among 'a', 'b'",
    ),
    (manifest(entry("a"), connections=[{"from": "a", "to": "a"}]), "/connections", "cycle among 'a'"),
    ([Add(), {"node_type": "Nope"}], "/1/node_type", "pipeline list at /1/node_type: unknown node_type"),
    ([{"params": {}}], "/0", "'node_type' is missing"),
    ([{"node_type": "BatchNode", "parms": {}}], "/0/parms", "Did you mean 'params'"),
]


@pytest.mark.parametrize(("pipeline", "pointer", "text"), BAD, ids=[text for _, _, text in BAD])
def test_an_error_points_to_its_place(pipeline: Any, pointer: str, text: str) -> None:
    with pytest.raises(ManifestError, match=text) as caught:
        to_graph(pipeline)
    assert caught.value.pointer == pointer
    assert isinstance(caught.value, ValueError)


def test_errors_name_the_file() -> None:
    with pytest.raises(ManifestError, match=r"^faces\.json at /nodes: there are no nodes") as caught:
        to_graph(manifest(), source="faces.json")
    assert caught.value.source == "faces.json"


@pytest.mark.parametrize("method", ["process", "initialize", "flush", "cleanup"])
def test_a_method_that_cannot_be_called_is_named(method: str) -> None:
    node = Add(name="broken")
    setattr(node, method, None)
    with pytest.raises(ValueError, match=rf"{method} of node 'broken' \(Add\) cannot be called"):
        to_graph([Add(), node])


def test_a_class_whose_process_is_none_is_refused() -> None:
    broken = type("Broken", (Node,), {"process": None})
    with pytest.raises(ManifestError, match=r"process of node 'Broken'.*a method process\(\)") as caught:
        to_graph([Add(), broken()])
    assert caught.value.pointer == "/1"


def test_a_node_without_process_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"'n' \(Node\) does not implement process"):
        to_graph([Node("n")])


def test_another_error_of_a_constructor_passes_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Node):
        def __init__(self) -> None:
            raise OSError("no disk")

    module = types.ModuleType("failing_nodes")
    module.Fails = Fails  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing_nodes", module)
    with pytest.raises(OSError, match="no disk") as caught:
        to_graph(manifest(entry("a", "failing_nodes:Fails")))
    assert "manifest at /nodes/0" in caught.value.__notes__[0]


# -- allowed modules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [("tests",), ("tests.nodes",), ("other", "tests")])
def test_classes_of_allowed_modules_and_their_submodules_are_taken(allowed: tuple[str, ...]) -> None:
    assert to_graph(manifest(entry("a", "tests.nodes:Add")), allow_modules=allowed).ids == ("a",)


@pytest.mark.parametrize("allowed", [(), ("test",), ("tests.nodes.inner",), ("os",)])
def test_other_modules_are_not_even_imported(allowed: tuple[str, ...]) -> None:
    with pytest.raises(ManifestError, match=r"'tests\.never_imported' are not allowed") as caught:
        to_graph(manifest(entry("a", "tests.never_imported:X")), allow_modules=allowed)
    assert caught.value.pointer == "/nodes/0/node_type"
    assert to_graph(manifest(entry("a")), allow_modules=allowed).ids == ("a",), "built-in nodes need no permission"


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_graph_survives_the_way_through_a_manifest() -> None:
    nodes = [CalculatorNode("add", 2, name="calc"), Add(5, executor="multiprocess"), BatchNode(3)]
    text = manifest_text(manifest_of(Graph.chain(nodes), name="round trip"))
    again = to_graph(text)
    assert [type(node) for node in again.nodes] == [CalculatorNode, Add, BatchNode]
    assert again.ids == ("calc", "Add", "BatchNode")
    assert [node.config for node in again.nodes] == [node.config for node in nodes]
    assert again.nodes[1].executor == "multiprocess"
    assert manifest_text(manifest_of(again, name="round trip")) == text
    assert parse_manifest(text).metadata == {"name": "round trip"}


def test_params_that_are_no_json_values_are_named() -> None:
    graph = Graph.chain([Add(), Add(object(), name="odd")])
    with pytest.raises(ManifestError, match="'amount' of node 'odd' is object") as caught:
        manifest_text(manifest_of(graph))
    assert caught.value.pointer == "/nodes/1/params/amount"


def test_a_function_cannot_be_written_to_a_manifest() -> None:
    with pytest.raises(ConfigurationError, match="node 'shout' wraps a function"):
        manifest_of(Graph.chain([FunctionNode(str.upper, name="shout")]))


def test_the_schema_describes_every_field() -> None:
    schema = manifest_schema()
    assert json.loads(json.dumps(schema)) == schema
    node = schema["$defs"]["NodeEntry"]
    assert set(node["properties"]) == {
        "id",
        "node_type",
        "params",
        "executor",
        "is_streaming",
        "capabilities",
        "resources",
        "host",
        "replicas",
    }
    assert set(node["required"]) == {"id", "node_type"}
    top = schema["$defs"]["Manifest"]
    assert set(top["properties"]) == {"$schema", "version", "metadata", "nodes", "connections"}
    assert top["properties"]["version"] == {"enum": ["v1"]}
    assert set(schema["$defs"]["Connection"]["required"]) == {"from", "to"}
    assert all("description" in field for field in node["properties"].values())


def test_passthrough_is_found_without_importing_the_media_nodes() -> None:
    assert isinstance(to_graph([{"node_type": "PassThroughNode"}]).nodes[0], PassThroughNode)
