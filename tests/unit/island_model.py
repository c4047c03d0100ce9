"""Graphs with what their nodes do, worked out by looking at everything at once: what islands must come to as well."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.executors.ray.islands import COLLECT, FEED, Demand, Host, Layout


class Taker(Node):
    def process(self, data: Any) -> Any:
        return data


class Maker(Node):
    def process(self) -> Iterator[Any]:  # type: ignore[override]
        yield None


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """How many outputs a node makes: `counts[k]` for its k-th kind of input, and `last` at the end."""

    counts: tuple[int, ...]
    last: int

    def outputs(self, node: int, value: Any) -> list[Any]:
        kind = sum(map(ord, repr(value))) % len(self.counts)
        return [(node, index, value) for index in range(self.counts[kind])]

    def flush(self, node: int) -> list[Any]:
        return [(node, "last", index) for index in range(self.last)]


@st.composite
def graphs(draw: st.DrawFn, most: int = 6) -> Graph:
    count = draw(st.integers(1, most))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=2 * count)) if pairs else []
    rank = draw(st.permutations(range(count)))  # the order of the nodes need not be a topological one
    kind = Taker if draw(st.integers(0, 3)) else Maker
    fed = {rank[b] for _, b in edges}
    nodes = tuple((Taker if node in fed else kind)(f"n{node}") for node in range(count))
    return Graph(nodes, tuple(node.name for node in nodes), tuple((rank[a], rank[b]) for a, b in edges))


HOSTS = (
    Host("1", frozenset({"a"}), {"CPU": 2, "GPU": 1}),
    Host("2", frozenset({"b", "both"}), {"CPU": 4}),
    Host("3", frozenset({"c", "both"}), {"CPU": 1, "GPU": 2}),
)


def demands(count: int) -> st.SearchStrategy[list[Demand]]:
    hosts = st.sampled_from([None, None, "a", "b", "both"])
    resources = st.sampled_from([{}, {}, {"CPU": 1}, {"GPU": 1}, {"CPU": 3}])
    one = st.builds(Demand, host=hosts, resources=resources) | st.just(Demand(is_local=True))
    return st.lists(one, min_size=count, max_size=count)


def behaviours(count: int) -> st.SearchStrategy[list[Behaviour]]:
    one = st.builds(
        Behaviour, st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple), st.integers(0, 2)
    )
    return st.lists(one, min_size=count, max_size=count)


def results(graph: Graph, behaviour: list[Behaviour], inputs: int) -> list[tuple[int, Any]]:
    """(number, result) of every result, in order, for inputs 0, 1, ..."""
    found = []
    for number in range(inputs + 1):
        is_end = number == inputs
        given = [] if is_end else [("in", number)]
        found += [(number, value) for value in evaluate(graph, behaviour, range(len(graph.nodes)), given, is_end)]
    return found


def evaluate(graph: Graph, behaviour: list[Behaviour], nodes: Any, given: list[Any], is_end: bool) -> list[Any]:
    """What the last of these nodes make of what is `given` to the first of them, as one number."""
    made: dict[int, list[Any]] = {}
    inside = set(nodes)
    for node in (node for node in graph.order if node in inside):
        before = [other for other in graph.predecessors(node) if other in inside]
        taken = [value for other in before for value in made[other]] if before else given
        made[node] = [output for value in taken for output in behaviour[node].outputs(node, value)]
        made[node] += behaviour[node].flush(node) if is_end else []
    last = [node for node in sorted(inside) if not set(graph.successors(node)) & inside]
    return [value for node in last for value in made[node]]


def island_results(graph: Graph, layout: Layout, behaviour: list[Behaviour], inputs: int) -> list[tuple[int, Any]]:
    """The same, island by island: each takes what comes from another one by one."""
    found = []
    for number in range(inputs + 1):
        is_end = number == inputs
        made: dict[int, list[Any]] = {FEED: [] if is_end else [("in", number)]}
        for index, island in enumerate(layout.islands):
            taken = [value for producer in island.producers for value in made[producer]] or []
            if not island.producers:
                taken = made[FEED]
            made[index] = [
                output for value in taken for output in evaluate(graph, behaviour, island.nodes, [value], is_end=False)
            ]
            if is_end:
                made[index] += evaluate(graph, behaviour, island.nodes, [], is_end=True)
        found += [(number, value) for producer in layout.results for value in made[producer]]
    return found


__all__ = ["COLLECT", "HOSTS", "Behaviour", "behaviours", "demands", "graphs", "island_results", "results"]
