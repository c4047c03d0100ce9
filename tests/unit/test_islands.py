"""Which nodes run together: for any graph, any wishes and any cluster."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.graph import Graph
from remotemedia.executors.ray.islands import FEED, Demand, Host, partition
from tests.unit.island_model import HOSTS, Taker, behaviours, demands, graphs, island_results, results


@given(st.data())
def test_islands_come_to_the_same_results_in_the_same_order(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    layout = partition(graph, data.draw(demands(len(graph.nodes))), HOSTS)
    behaviour = data.draw(behaviours(len(graph.nodes)))
    assert island_results(graph, layout, behaviour, 3) == results(graph, behaviour, 3)


@given(st.data())
def test_each_node_is_in_one_island_where_it_may_be(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    wishes = data.draw(demands(len(graph.nodes)))
    layout = partition(graph, wishes, HOSTS)
    assert sorted(node for island in layout.islands for node in island.nodes) == list(range(len(graph.nodes)))
    for index, island in enumerate(layout.islands):
        assert all(producer < index for producer in island.producers)  # in topological order
        assert {wishes[node].is_local for node in island.nodes} == {island.demand.is_local}
        if len(island.nodes) > 1 and not island.demand.is_local:
            assert any(host.has(island.demand) for host in HOSTS)
        for node in island.nodes:
            assert wishes[node].host in (None, island.demand.host)
        for name in ("CPU", "GPU"):
            asked = sum(wishes[node].resources.get(name, 0) for node in island.nodes)
            assert island.demand.resources.get(name, 0) == asked


@given(graphs())
def test_without_wishes_there_is_one_island(graph: Graph) -> None:
    (island,) = partition(graph, [Demand()] * len(graph.nodes), HOSTS).islands
    assert island.subgraph(graph) == graph


def chain(*wishes: Demand, hosts: tuple[Host, ...] = HOSTS) -> list[tuple[tuple[int, ...], str | None]]:
    layout = partition(Graph.chain([Taker() for _ in wishes]), wishes, hosts)
    assert [island.producers for island in layout.islands] == [(i - 1,) for i in range(len(layout.islands))]
    assert layout.islands[0].producers == (FEED,)
    return [(island.nodes, island.demand.host) for island in layout.islands]


def test_neighbours_on_one_host_run_together_and_who_wishes_nothing_joins_them() -> None:
    anywhere, on_a, on_b = Demand(), Demand(host="a"), Demand(host="b")
    assert chain(anywhere, on_a, anywhere, on_b, on_b) == [((0, 1, 2), "a"), ((3, 4), "b")]


def test_what_no_host_has_together_is_apart() -> None:
    gpu = Demand(resources={"GPU": 2})
    assert chain(gpu, gpu) == [((0,), None), ((1,), None)]
    assert chain(gpu, Demand(host="a")) == [((0,), None), ((1,), "a")]
    nowhere = Demand(resources={"TPU": 1})
    assert chain(Demand(), nowhere, Demand()) == [((0,), None), ((1,), None), ((2,), None)]


def test_a_node_in_the_callers_process_is_an_island_of_its_own() -> None:
    here = Demand(is_local=True)
    assert chain(Demand(), here, here, Demand()) == [((0,), None), ((1, 2), None), ((3,), None)]


def test_branches_are_one_island_with_the_node_before_them_and_single_ones_behind_a_cut() -> None:
    nodes = tuple(Taker(f"n{i}") for i in range(4))
    diamond = Graph(nodes, tuple(node.name for node in nodes), ((0, 1), (0, 2), (1, 3), (2, 3)))
    on_a, on_b = Demand(host="a"), Demand(host="b")
    cut_behind = partition(diamond, [on_a, on_a, on_a, on_b], HOSTS).islands
    assert [island.nodes for island in cut_behind] == [(0, 1, 2), (3,)]
    cut_before = partition(diamond, [on_a, on_b, on_b, on_b], HOSTS).islands
    assert [(island.nodes, island.producers) for island in cut_before] == [
        ((0,), (FEED,)),
        ((1,), (0,)),
        ((2,), (0,)),
        ((3,), (1, 2)),
    ]
