"""From a graph to channels."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from remotemedia.config import ChannelConfig
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.ipc.lane import lane_words
from remotemedia.workers.board import BOARD_WORDS
from remotemedia.workers.plan import FEED, Plan, make_plan
from tests.nodes import Add, Count

DIAMOND = ((0, 1), (0, 2), (1, 3), (2, 3))
W, C = "multiprocess", "inline"
CONFIG = ChannelConfig(queue_frames=5)


def plan(count: int, edges: Any, places: Any) -> Plan:
    names = tuple(f"n{index}" for index in range(count))
    return make_plan(Graph(tuple(Add(1, name=name) for name in names), names, edges), tuple(places), CONFIG)


def test_a_chain_in_workers_has_a_channel_between_each_two() -> None:
    made = plan(2, ((0, 1),), [W, W])
    assert made.collect == 2
    assert [(p, route.shared_consumers, route.local_consumers) for p, route in made.routes.items()] == [
        (FEED, (0,), ()),
        (0, (1,), ()),
        (1, (2,), ()),
    ]
    assert [made.producers_of(stage) for stage in (0, 1, 2)] == [(FEED,), (0,), (1,)]
    assert [made.is_remote(stage) for stage in (FEED, 0, 1, 2)] == [False, True, True, False]


@pytest.mark.parametrize("places", list(itertools.product([W, C], repeat=4)))
def test_a_frame_leaves_its_process_only_where_it_must(places: tuple[str, ...]) -> None:
    made = plan(4, DIAMOND, places)
    for producer, route in made.routes.items():
        consumers = (0,) if producer == FEED else made.graph.successors(producer) or (made.collect,)
        assert sorted((*route.shared_consumers, *route.local_consumers)) == list(consumers)
        for consumer in route.local_consumers:
            assert not made.is_remote(producer)
            assert not made.is_remote(consumer)
        assert (route.shared is None) == (not route.shared_consumers)
        if route.shared is not None:
            assert route.shared.receivers == len(route.shared_consumers) == len(route.shared.lanes)
            assert route.shared.config == CONFIG
    names = [route.shared.name for route in made.routes.values() if route.shared is not None]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("places", [[W] * 4, [W, C, W, C], [C] * 4])
def test_nothing_in_the_ledger_overlaps(places: list[str]) -> None:
    made = plan(4, DIAMOND, places)
    regions = [(made.coordinator_bell, 1), *((board, BOARD_WORDS) for board in made.boards)]
    regions += [(word, 1) for word, remote in zip(made.bell_words, made.remote, strict=True) if remote]
    shared = [route.shared for route in made.routes.values() if route.shared]
    regions += [(lane, lane_words(5)) for spec in shared for lane in spec.lanes]
    regions += [(pins, 2 * 5) for spec in shared for pins in spec.borrowers]
    regions.sort()
    for (offset, words), (following, _) in zip(regions, [*regions[1:], (made.layout.words, 0)], strict=True):
        assert offset + words <= following


def test_whose_frames_may_come_by_reference_to_whom() -> None:
    names = tuple("abcd")
    graph = Graph(tuple(Add(1, name=name) for name in names), names, DIAMOND)
    made = make_plan(graph, (W, W, C, W), ChannelConfig(queue_frames=64))
    borrowers = {producer: set(route.borrowers) for producer, route in made.routes.items() if route.shared}
    # The stages behind the direct receivers; where one of them is inline, the coordinator, which has the outputs' end.
    assert borrowers == {FEED: {1, 3, FEED}, 0: {3, FEED}, 1: {FEED}, 2: {FEED}, 3: set()}
    for route in made.routes.values():
        assert route.shared is None or len(route.shared.borrowers) == len(route.borrowers)
    assert [route.producer for route in made.origins_of(3)] == [FEED, 0, 1, 2]
    assert [route.producer for route in made.origins_of(1)] == [FEED, 0]


def test_channels_with_few_tickets_lend_to_nobody() -> None:
    made = plan(4, DIAMOND, [W] * 4)
    assert [route.borrowers for route in made.routes.values()] == [(), (), (FEED,), (FEED,), ()]


def test_inline_stages_share_the_coordinators_doorbell() -> None:
    made = plan(3, ((0, 1), (1, 2)), [C, W, C])
    assert made.bell_words[0] == made.bell_words[2] == made.coordinator_bell != made.bell_words[1]


def test_several_sinks_are_collected_in_the_order_of_the_nodes() -> None:
    made = plan(3, ((0, 2), (0, 1)), [W, W, C])
    assert made.producers_of(made.collect) == (1, 2)
    assert made.routes[0].shared_consumers == (2, 1) or made.routes[0].shared_consumers == (1, 2)


def test_sources_of_both_kinds_are_refused() -> None:
    for nodes, own in (([Count(1)], True), ([Add(1)], False), ([Count(1), Count(2)], True)):
        graph = Graph(tuple(nodes), tuple(str(i) for i in range(len(nodes))), ())
        assert make_plan(graph, (W,) * len(nodes), CONFIG).has_own_sources is own
    with pytest.raises(ConfigurationError, match="use one kind"):
        make_plan(Graph((Count(1), Add(1)), ("a", "b"), ()), (W, W), CONFIG)
