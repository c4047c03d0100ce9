"""The graph of a pipeline: which node feeds which. Pure structure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from remotemedia.core.exceptions import ManifestError
from remotemedia.core.node import Node


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph of nodes.

    `ids[i]` names `nodes[i]`, ids are unique. `edges` are (from index, to index), in the order in which the connections
    were written: a node with several inputs takes them in that order, a node with several outputs serves them in it.
    """

    nodes: tuple[Node, ...]
    ids: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def chain(cls, nodes: Sequence[Node]) -> Graph:
        """The nodes one after the other; ids are the names, made unique as `<name>_<index>` where they collide."""
        names = [node.name for node in nodes]
        ids = tuple(
            name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)
        )
        if len(set(ids)) < len(ids):  # a node that is really named "a_1" beside two named "a"
            ids = unique_ids(names)
        return cls(tuple(nodes), ids, tuple((i, i + 1) for i in range(len(nodes) - 1)))

    def predecessors(self, index: int) -> tuple[int, ...]:
        return self._predecessors[index]

    def successors(self, index: int) -> tuple[int, ...]:
        return self._successors[index]

    @cached_property
    def _predecessors(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(a for a, b in self.edges if b == i) for i in range(len(self.nodes)))

    @cached_property
    def _successors(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(b for a, b in self.edges if a == i) for i in range(len(self.nodes)))

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """Nodes without an input, in the order of `nodes`."""
        return tuple(i for i in range(len(self.nodes)) if not self._predecessors[i])

    @cached_property
    def sinks(self) -> tuple[int, ...]:
        """Nodes without an output, in the order of `nodes`; their outputs are the pipeline's results."""
        return tuple(i for i in range(len(self.nodes)) if not self._successors[i])

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A topological order, stable with respect to `nodes`. Raises ManifestError on a cycle (Kahn's algorithm)."""
        missing = [len(p) for p in self._predecessors]
        ready = [i for i, count in enumerate(missing) if count == 0]
        order: list[int] = []
        while ready:
            index = ready.pop(0)
            order.append(index)
            for successor in self._successors[index]:
                missing[successor] -= 1
                if missing[successor] == 0:
                    ready.append(successor)
                    ready.sort()
        if len(order) < len(self.nodes):
            cycle = ", ".join(repr(self.ids[i]) for i, count in enumerate(missing) if count > 0)
            raise ManifestError(
                f"the connections form a cycle among {cycle}", pointer="/connections", expected="a graph without cycles"
            )
        return tuple(order)

    def with_executor(self, executor: str | None) -> tuple[str, ...]:
        """Where each node runs: "inline" or "multiprocess" (or a third party's name), by its mark and the call's."""
        if executor == "inline":
            return ("inline",) * len(self.nodes)
        return tuple(node.executor or executor or "inline" for node in self.nodes)


def unique_ids(names: Iterable[str]) -> tuple[str, ...]:
    """Each name followed by its index, `<name>_<index>`: unique whatever the names are."""
    return tuple(f"{name}_{index}" for index, name in enumerate(names))
