"""From every form of a pipeline to its graph, and from a graph to a manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from remotemedia.core.exceptions import ManifestError
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.core.pipeline import Pipeline
from remotemedia.manifest_nodes import NodeBuilder
from remotemedia.manifest_types import VERSION, Manifest, NodeEntry, decode, manifest_schema, parse_manifest
from remotemedia.nodes.registry import close_matches, find_node_class

__all__ = [
    "build_graph",
    "check_items",
    "manifest_of",
    "manifest_schema",
    "manifest_text",
    "parse_manifest",
    "to_graph",
]

_LIST = "pipeline list"


def to_graph(pipeline: Any, *, allow_modules: Sequence[str] | None = None, source: str | None = None) -> Graph:
    """The graph of a Pipeline, a list of Nodes and node dicts, or a manifest (dict or JSON text).

    `allow_modules`: modules, with their submodules, whose classes a manifest may name (None: any); `source`: the name
    of the manifest's file. Raises TypeError for another type and for a list that holds one; ManifestError, with the
    place, for all that is wrong inside.
    """
    if isinstance(pipeline, Pipeline):
        return _checked(pipeline.graph, NodeBuilder(None, "pipeline"), "")
    if isinstance(pipeline, (dict, str)):
        return build_graph(parse_manifest(pipeline, source=source), allow_modules=allow_modules, source=source)
    if isinstance(pipeline, (list, tuple)):
        return _graph_of_items(pipeline, NodeBuilder(allow_modules, _LIST))
    raise TypeError(
        "a pipeline is a Pipeline, a list of Nodes and node dicts, or a manifest as dict or JSON text, "
        f"not {type(pipeline).__name__}"
    )


def _checked(graph: Graph, builder: NodeBuilder, nodes_pointer: str) -> Graph:
    if not graph.nodes:
        raise builder.error("there are no nodes", nodes_pointer, "at least one node")
    for i, (node, node_id) in enumerate(zip(graph.nodes, graph.ids, strict=True)):
        builder.check(node, node_id, f"{nodes_pointer}/{i}")
    _ = graph.order  # raises on a cycle
    return graph


# -- lists -------------------------------------------------------------------------------------------------------------


def check_items(items: Sequence[Any]) -> None:
    """Raise ManifestError for an empty list, TypeError naming each item that is neither Node nor dict."""
    if not items:
        raise ManifestError("it is empty", expected="at least one Node or node dict", source=_LIST)
    wrong = [f"index {i} is {_type_name(item)}" for i, item in enumerate(items) if not isinstance(item, (Node, dict))]
    if wrong:
        raise TypeError(f"a pipeline list holds Nodes and node dicts, but {', '.join(wrong)}")


def _type_name(item: Any) -> str:
    return f"the class {item.__name__} (pass an instance)" if isinstance(item, type) else type(item).__name__


def _graph_of_items(items: Sequence[Any], builder: NodeBuilder) -> Graph:
    check_items(items)
    nodes = [_node_of_item(item, f"/{i}", builder) for i, item in enumerate(items)]
    return _checked(Graph.chain(nodes), builder, "")


def _node_of_item(item: Any, pointer: str, builder: NodeBuilder) -> Node:
    if isinstance(item, Node):
        return item
    with_id = {"id": str(item.get("node_type") or "node"), **item}  # in a list the id may be left out
    return builder.build(decode(with_id, NodeEntry, pointer=pointer, source=_LIST), pointer)


# -- manifests ---------------------------------------------------------------------------------------------------------


def build_graph(
    manifest: Manifest, *, allow_modules: Sequence[str] | None = None, source: str | None = None
) -> Graph:
    """The graph of a manifest, its nodes made. Raises ManifestError."""
    builder = NodeBuilder(allow_modules, source)
    ids = [entry.id for entry in manifest.nodes]
    for i, node_id in enumerate(ids):
        if node_id in ids[:i]:
            reason = f"the id {node_id!r} is taken by node {ids.index(node_id)}"
            raise builder.error(reason, f"/nodes/{i}/id", "a unique id")
    edges = _edges(manifest, ids, builder)
    nodes = tuple(builder.build(entry, f"/nodes/{i}") for i, entry in enumerate(manifest.nodes))
    return _checked(Graph(nodes, tuple(ids), edges), builder, "/nodes")


def _edges(manifest: Manifest, ids: list[str], builder: NodeBuilder) -> tuple[tuple[int, int], ...]:
    if not isinstance(manifest.connections, list):
        return tuple((i, i + 1) for i in range(len(ids) - 1))
    edges: list[tuple[int, int]] = []
    for i, connection in enumerate(manifest.connections):
        for field, node_id in (("from", connection.from_), ("to", connection.to)):
            if node_id not in ids:
                near, expected = close_matches(node_id, ids), f"one of {', '.join(ids)}"
                raise builder.error(f"no node has the id {node_id!r}", f"/connections/{i}/{field}", expected, near)
        edge = (ids.index(connection.from_), ids.index(connection.to))
        if edge in edges:
            reason = f"connection {edges.index(edge)} already leads from {connection.from_!r} to {connection.to!r}"
            raise builder.error(reason, f"/connections/{i}", None)
        edges.append(edge)
    return tuple(edges)


def manifest_of(graph: Graph, *, name: str | None = None) -> dict[str, Any]:
    """The manifest of `graph`. Classes that are not registered are named as package.module:Class.

    Raises ConfigurationError for a node that no manifest can name (FunctionNode).
    """
    entries = [_entry_of(node, node_id) for node, node_id in zip(graph.nodes, graph.ids, strict=True)]
    connections = [{"from": graph.ids[a], "to": graph.ids[b]} for a, b in graph.edges]
    return {
        "version": VERSION,
        "metadata": {} if name is None else {"name": name},
        "nodes": entries,
        "connections": connections,
    }


def _entry_of(node: Node, node_id: str) -> dict[str, Any]:
    entry, kind = node.to_manifest(), type(node)
    node_type = entry["node_type"]
    if node_type == kind.__name__ and find_node_class(node_type) is not kind:
        node_type = f"{kind.__module__}:{kind.__qualname__}"
    return {**entry, "id": node_id, "node_type": node_type}


def manifest_text(manifest: dict[str, Any]) -> str:
    """JSON text of a manifest. Raises ManifestError naming the node whose params are no JSON values."""
    for i, entry in enumerate(manifest["nodes"]):
        for key, value in (entry.get("params") or {}).items():
            if not _is_json(value):
                raise ManifestError(
                    f"{key!r} of node {entry.get('id')!r} is {type(value).__name__}, which is no JSON value",
                    pointer=f"/nodes/{i}/params/{key}",
                    expected="numbers, strings, booleans, null, lists and objects of them",
                )
    return json.dumps(manifest, indent=2)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
