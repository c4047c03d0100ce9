"""Graph: neighbours, ends, order, where nodes run."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.exceptions import ManifestError
from remotemedia.core.graph import Graph, unique_ids
from remotemedia.core.node import Node


def graph(count, edges):
    nodes = tuple(Node(f"n{i}") for i in range(count))
    return Graph(nodes, tuple(node.name for node in nodes), tuple(edges))


def test_a_chain():
    nodes = [Node("a"), Node("b"), Node("c")]
    chain = Graph.chain(nodes)
    assert chain.nodes == tuple(nodes)
    assert chain.ids == ("a", "b", "c")
    assert chain.edges == ((0, 1), (1, 2))
    assert (chain.sources, chain.sinks, chain.order) == ((0,), (2,), (0, 1, 2))


def test_colliding_names_become_unique():
    assert Graph.chain([Node("a"), Node("b"), Node("a")]).ids == ("a_0", "b", "a_2")
    assert unique_ids(["a", "a", "a_0"]) == ("a_0", "a_1", "a_0_2")


@given(st.lists(st.sampled_from(["a", "a_0", "a_1", "a_2", "b", "a_1_1"]), max_size=8))
def test_ids_of_a_chain_are_unique_whatever_the_names(names):
    ids = Graph.chain([Node(name) for name in names]).ids
    assert len(set(ids)) == len(names)


def test_neighbours_keep_the_order_of_the_connections():
    diamond = graph(4, [(0, 2), (0, 1), (2, 3), (1, 3)])
    assert diamond.successors(0) == (2, 1)
    assert diamond.predecessors(3) == (2, 1)
    assert (diamond.sources, diamond.sinks) == ((0,), (3,))


def test_several_ends_and_a_node_alone():
    parts = graph(5, [(0, 2), (1, 2), (2, 3)])
    assert (parts.sources, parts.sinks) == ((0, 1, 4), (3, 4))


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_order_respects_every_connection(count, rng):
    rank = list(range(count))
    rng.shuffle(rank)
    edges = [(a, b) for a in range(count) for b in range(count) if rank[a] < rank[b] and rng.random() < 0.3]
    order = graph(count, edges).order
    place = {index: position for position, index in enumerate(order)}
    assert sorted(order) == list(range(count))
    assert all(place[a] < place[b] for a, b in edges)


def test_the_order_is_that_of_the_nodes_where_the_connections_leave_it_open():
    assert graph(4, []).order == (0, 1, 2, 3)
    assert graph(4, [(3, 0)]).order == (1, 2, 3, 0)


@pytest.mark.parametrize("edges", [[(0, 0)], [(0, 1), (1, 0)], [(2, 0), (0, 1), (1, 2)]])
def test_a_cycle_is_named(edges):
    members = {i for edge in edges for i in edge}
    with pytest.raises(ManifestError, match="form a cycle among") as caught:
        graph(4, edges).order  # noqa: B018 - the property raises
    assert caught.value.pointer == "/connections"
    assert all(f"'n{i}'" in str(caught.value) for i in members)
    assert "'n3'" not in str(caught.value)


def test_where_nodes_run():
    nodes = [Node("a"), Node("b", executor="inline"), Node("c", executor="multiprocess")]
    chain = Graph.chain(nodes)
    assert chain.with_executor(None) == ("inline", "inline", "multiprocess")
    assert chain.with_executor("multiprocess") == ("multiprocess", "inline", "multiprocess")
    assert chain.with_executor("inline") == ("inline", "inline", "inline")


def test_a_large_graph_is_ordered():
    edges = [(i, i + 1) for i in range(1999)]
    random.Random(1).shuffle(edges)
    assert graph(2000, edges).order == tuple(range(2000))
