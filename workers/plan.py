"""From a graph to channels: who runs where, who sends to whom over what. Pure: nothing is created here.

Beside the nodes there are two more ends, both in the coordinator: FEED, which gives the inputs to the graph's sources,
and COLLECT, which takes the outputs of its sinks. A producer has one shared-memory channel to all consumers in other
processes, and one local channel to those in its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from remotemedia.config import ChannelConfig
from remotemedia.core.calling import CallStyle, call_style, has_snapshots, takes_input
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.ipc.ledger import LedgerLayout
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.workers.board import BOARD_WORDS
from remotemedia.workers.snapshots import STORE_WORDS
from remotemedia.workers.traces import TraceSpec, row_words

FEED = -1


@dataclass(frozen=True)
class Route:
    """What one producer sends into: `shared` for consumers in other processes, and the consumers in its own."""

    producer: int
    shared: ChannelSpec | None
    shared_consumers: tuple[int, ...]
    local_consumers: tuple[int, ...]
    borrowers: tuple[int, ...]
    """Whose processes may get the producer's frames by reference, in the order of `shared.borrowers`; FEED: the
    coordinator's.
    """


@dataclass(frozen=True)
class Plan:
    """Places, routes and ledger offsets of one pool. Stages are indices into `graph.nodes`."""

    graph: Graph
    remote: tuple[bool, ...]
    routes: dict[int, Route]
    boards: tuple[int, ...]
    bell_words: tuple[int, ...]
    """Per stage; inline stages share the coordinator's."""
    coordinator_bell: int
    completed: int | None
    """The word that says how far everything is out of the pipeline; None: nothing is kept, or the pipeline's own
    sources number their frames: the mark that starts one must be kept until its last frame is out.
    """
    snapshots: tuple[int | None, ...]
    """Per stage, where its words of the snapshots lie; None: its node has no `snapshot_state`, or is not replaced."""
    retain: bool
    """Whether frames are kept for workers that are replaced."""
    layout: LedgerLayout
    traces: TraceSpec | None = None
    """Where the trace contexts of frames lie; None: nothing is traced."""

    @property
    def collect(self) -> int:
        """The consumer index of the outputs' end."""
        return len(self.graph.nodes)

    @property
    def has_own_sources(self) -> bool:
        """Whether the graph's sources make their frames themselves."""
        return not takes_input(self.graph.nodes[self.graph.sources[0]])

    def producers_of(self, stage: int) -> tuple[int, ...]:
        """Whose frames a consumer takes, in order."""
        if stage == self.collect:
            return self.graph.sinks
        return self.graph.predecessors(stage) or (FEED,)

    def origins_of(self, stage: int) -> list[Route]:
        """The routes whose frames a stage may get and pass on by reference."""
        before = _behind(self.graph, [stage])
        return [r for r in self.routes.values() if r.borrowers and not before.isdisjoint(r.shared_consumers)]

    def is_remote(self, stage: int) -> bool:
        return 0 <= stage < len(self.remote) and self.remote[stage]


    def is_replaceable(self, stage: int) -> bool:
        """Whether a next generation of a worker can go on where it died: not where the node itself iterates over its
        inputs, so that nobody knows which of them an output was made of.
        """
        return self.retain and call_style(self.graph.nodes[stage]) is not CallStyle.STREAMING


def make_plan(
    graph: Graph, places: tuple[str, ...], config: ChannelConfig, *, retain: bool = False, traced_frames: int = 0
) -> Plan:
    """Lay out the pool for `graph`. `retain`: workers that die are to be replaced, and nothing lost. `traced_frames`:
    how many frames may be traced at once.

    Raises ConfigurationError for a mixture of sources with and without input.
    """
    takers = {takes_input(graph.nodes[i]) for i in graph.sources}
    if len(takers) > 1:
        raise ConfigurationError("some first nodes make their frames themselves and others take input: use one kind")
    layout = LedgerLayout()
    remote = tuple(place != "inline" for place in places)
    coordinator_bell = layout.region(1)
    boards = tuple(layout.region(BOARD_WORDS) for _ in graph.nodes)
    bell_words = tuple(layout.region(1) if is_remote else coordinator_bell for is_remote in remote)
    snapshots = tuple(
        layout.region(STORE_WORDS) if retain and is_remote and has_snapshots(node) else None
        for node, is_remote in zip(graph.nodes, remote, strict=True)
    )
    completed = layout.region(1) if retain and takers == {True} else None
    keeps_state = _behind(graph, [i for i, words in enumerate(snapshots) if words is not None])
    collect = len(graph.nodes)
    routes: dict[int, Route] = {}
    for producer in (FEED, *range(len(graph.nodes))):
        if producer == FEED:
            name, consumers, here = "feed", graph.sources, False
        else:
            name, here = graph.ids[producer], remote[producer]
            consumers = graph.successors(producer) or (collect,)
        local = tuple(c for c in consumers if not here and (c == collect or not remote[c]))
        shared = tuple(c for c in consumers if c not in local)
        spec = None
        borrowers: tuple[int, ...] = ()
        if shared:
            until = completed if not any(consumer in keeps_state for consumer in consumers) else None
            borrowers = _borrowers(graph, shared, remote)
            spec = ChannelSpec.plan(
                f"{producer}:{name}"[:200],
                len(shared),
                config,
                layout,
                retain=retain,
                completed=until,
                borrowers=len(borrowers),
            )
            borrowers = borrowers if spec.borrowers else ()
        routes[producer] = Route(producer, spec, shared, local, borrowers)
    traces = None
    if traced_frames:
        nodes = len(graph.nodes)
        offset = layout.region(traced_frames * row_words(nodes))
        traces = TraceSpec(offset=offset, rows=traced_frames, nodes=nodes)
    return Plan(
        graph, remote, routes, boards, bell_words, coordinator_bell, completed, snapshots, retain, layout, traces
    )


def _borrowers(graph: Graph, consumers: Iterable[int], remote: tuple[bool, ...]) -> tuple[int, ...]:
    """Whose processes come after these consumers, and may get by reference what they pass on: stages, or FEED."""
    found: dict[int, None] = {}
    seen: set[int] = set()
    waiting = [consumer for consumer in consumers if consumer < len(remote)]
    while waiting:
        for stage in graph.successors(waiting.pop()):
            found[stage if remote[stage] else FEED] = None
            if stage not in seen:
                seen.add(stage)
                waiting.append(stage)
    if any(consumer < len(remote) for consumer in consumers):
        found[FEED] = None  # the outputs' end is behind every stage
    return tuple(found)


def _behind(graph: Graph, stages: Iterable[int]) -> set[int]:
    """These stages, and all that they get frames from."""
    found: set[int] = set()
    waiting = list(stages)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting.extend(graph.predecessors(stage))
    return found
