"""Which nodes of a graph run together on one host, as one worker pool: an island. Pure: nothing is started here.

A pool has one stream of inputs, which each of its first nodes gets, and one of outputs, which its last nodes make. So
an island must look like a single node from outside. A single node does, whatever the graph; from there on islands that
are adjacent and may be on one host are joined as long as the result still does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from remotemedia.core.calling import takes_input
from remotemedia.core.graph import Graph

FEED = -1
"""As producer: the inputs of the pipeline."""
COLLECT = -2
"""As consumer: its results."""


@dataclass(frozen=True)
class Host:
    """A machine of the cluster. `names`: all that it may be called; `resources`: all that it has, by Ray's names."""

    host_id: str
    names: frozenset[str]
    resources: Mapping[str, float]

    def has(self, demand: Demand) -> bool:
        """Whether it could ever satisfy `demand`."""
        if demand.host is not None and demand.host not in self.names:
            return False
        return all(self.resources.get(name, 0) >= amount for name, amount in demand.resources.items())


@dataclass(frozen=True)
class Demand:
    """What some nodes need together. `is_local`: to be in the caller's process; else `host`: on that host, None: on
    any; `resources` by Ray's names.
    """

    is_local: bool = False
    host: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def with_(self, other: Demand) -> Demand | None:
        """What both need together; None if they cannot be together."""
        hosts = {host for host in (self.host, other.host) if host is not None}
        if self.is_local != other.is_local or len(hosts) > 1:
            return None
        names = [*self.resources, *(name for name in other.resources if name not in self.resources)]
        total = {name: self.resources.get(name, 0) + other.resources.get(name, 0) for name in names}
        return Demand(self.is_local, next(iter(hosts), None), total)


@dataclass(frozen=True)
class Island:
    """Nodes that run together, as ascending indices into the graph's. `producers`: the islands whose outputs it takes,
    in order, or FEED; none: its first nodes make their frames themselves.
    """

    nodes: tuple[int, ...]
    producers: tuple[int, ...]
    demand: Demand

    def subgraph(self, graph: Graph) -> Graph:
        """Its own part of `graph`."""
        place = {node: index for index, node in enumerate(self.nodes)}
        edges = tuple((place[a], place[b]) for a, b in graph.edges if a in place and b in place)
        return Graph(
            tuple(graph.nodes[node] for node in self.nodes), tuple(graph.ids[node] for node in self.nodes), edges
        )


@dataclass(frozen=True)
class Layout:
    """A graph cut into islands, in topological order. `results`: those that make the results, in order."""

    islands: tuple[Island, ...]
    results: tuple[int, ...]


def partition(graph: Graph, demands: Sequence[Demand], hosts: Sequence[Host]) -> Layout:
    """Cut `graph` into as few islands as joining neighbours gives.

    `demands`: of each node. `hosts`: those there are. Neighbours are only joined where one of them has what both need
    together; a node that no host has enough for is left alone, because one may still come.
    """
    cut = _Cut(graph, demands, hosts)
    if cut.join(range(len(graph.nodes))):
        return cut.layout()
    place = {node: at for at, node in enumerate(graph.order)}
    edges = sorted(graph.edges, key=lambda edge: (place[edge[0]], place[edge[1]]))
    while sum(cut.join(edge) for edge in edges):  # each pass tries all of them
        pass
    return cut.layout()


class _Cut:
    """A cut of a graph on its way to fewer islands."""

    def __init__(self, graph: Graph, demands: Sequence[Demand], hosts: Sequence[Host]) -> None:
        self._graph, self._hosts = graph, hosts
        self._groups = [frozenset({node}) for node in range(len(graph.nodes))]
        """By node: the group that it is in."""
        self._demands = {frozenset({node}): demand for node, demand in enumerate(demands)}
        self._before: dict[int, tuple[int, ...]] = {
            node: graph.predecessors(node) or ((FEED,) if takes_input(graph.nodes[node]) else ())
            for node in range(len(graph.nodes))
        }
        self._before[COLLECT] = graph.sinks
        self._after = {
            node: {consumer for consumer, before in self._before.items() if node in before}
            for node in range(len(graph.nodes))
        }

    def join(self, nodes: Iterable[int]) -> bool:
        """Make the groups of these nodes one, with what has to come along; whether that was possible."""
        parts = {self._groups[node] for node in nodes}
        if len(parts) == 1:
            return False
        group = self._grown(frozenset().union(*parts))
        if group is None or not self._is_like_a_node(group):
            return False
        demand = self._joint_demand(group)
        if demand is None or self._makes_a_cycle(group):
            return False
        self._demands[group] = demand
        for node in group:
            self._groups[node] = group
        return True

    def _grown(self, group: frozenset[int]) -> frozenset[int] | None:
        """`group` with all that feeds, or is fed by, a node in its middle; None if that leads out of the graph."""
        while True:
            missing: set[int] = set()
            for node in group:
                for others in (set(self._before[node]), self._after[node]):
                    if others & group:
                        missing |= others - group
            if not missing:
                return group
            if missing & {FEED, COLLECT}:
                return None
            group = group.union(*(self._groups[node] for node in missing))

    def _joint_demand(self, group: frozenset[int]) -> Demand | None:
        parts = [self._demands[part] for part in {self._groups[node] for node in group}]
        total: Demand | None = parts[0]
        for part in parts[1:]:
            total = total.with_(part) if total is not None else None
        if total is None or total.is_local or any(host.has(total) for host in self._hosts):
            return total
        return None

    def _is_like_a_node(self, group: frozenset[int]) -> bool:
        """One stream in, one out, and the order of the outputs as if it were no island."""
        first = [node for node in sorted(group) if not set(self._before[node]) & group]
        last = [node for node in sorted(group) if not self._after[node] & group]
        before = {self._before[node] for node in first}
        if len(before) > 1:
            return False
        for node, taken in self._before.items():
            if node not in group and set(taken) & group and not _is_run_of(last, taken):
                return False
        # An input of the pipeline is one frame to the pool. What another island makes of it may be several, each an
        # input of its own to the pool: then branches would meet after each of them, and not after all of them.
        from_outside = next(iter(before))
        return from_outside in ((), (FEED,)) or (len(first) == len(last) == 1 and self._is_chain(group))

    def _is_chain(self, group: frozenset[int]) -> bool:
        return all(len(set(self._before[node]) & group) <= 1 and len(self._after[node] & group) <= 1 for node in group)

    def _makes_a_cycle(self, group: frozenset[int]) -> bool:
        groups = [group if node in group else self._groups[node] for node in range(len(self._groups))]
        try:
            _in_order(self._graph, groups)
        except CycleError:
            return True
        return False

    def layout(self) -> Layout:
        order = _in_order(self._graph, self._groups)
        number = {group: index for index, group in enumerate(order)}

        def producers(nodes: Iterable[int]) -> tuple[int, ...]:
            return tuple(dict.fromkeys(FEED if node == FEED else number[self._groups[node]] for node in nodes))

        islands = []
        for group in order:
            first = next(node for node in sorted(group) if not set(self._before[node]) & group)
            islands.append(Island(tuple(sorted(group)), producers(self._before[first]), self._demands[group]))
        return Layout(tuple(islands), producers(self._before[COLLECT]))


def _is_run_of(run: list[int], taken: tuple[int, ...]) -> bool:
    """Whether `run` stands in `taken` as it is, one after the other."""
    at = taken.index(run[0]) if run[0] in taken else len(taken)
    return list(taken[at : at + len(run)]) == run


def _in_order(graph: Graph, groups: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """The groups in topological order, by their first nodes where that leaves a choice. Raises CycleError."""
    before: dict[frozenset[int], set[frozenset[int]]] = {groups[node]: set() for node in graph.order}
    for a, b in graph.edges:
        if groups[a] is not groups[b]:
            before[groups[b]].add(groups[a])
    sorter = TopologicalSorter(before)
    sorter.prepare()
    order: list[frozenset[int]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=min)
        order += ready
        sorter.done(*ready)
    return order
