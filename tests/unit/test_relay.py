"""What is sent between islands arrives once, in order and complete, whatever dies: against a model, step by step."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.exceptions import PipelineError
from remotemedia.core.graph import Graph
from remotemedia.executors.ray.intake import Intake
from remotemedia.executors.ray.islands import FEED, Layout, partition
from remotemedia.executors.ray.relay import Relay
from remotemedia.ipc.channel import FAILED
from tests.unit.island_model import HOSTS, Behaviour, behaviours, demands, evaluate, graphs, island_results

INPUTS = 5


class Box:
    """A content that lies in the memory of one generation of an island, if `owner` is not None."""

    def __init__(self, value: Any, owner: Place | None) -> None:
        self.value, self.owner = value, owner
        self.generation = owner.generation if owner is not None else 0

    @property
    def is_there(self) -> bool:
        return self.owner is None or self.owner.generation == self.generation


class Place:
    """One island as it runs: makes its outputs one at a time, and can die between any two of them."""

    def __init__(self, world: World, index: int) -> None:
        self.world, self.index = world, index
        self.generation = -1
        self.begin()

    def begin(self) -> None:
        self.generation += 1
        base = self.world.relay.base(self.index)
        self.intake = Intake(base)
        self.waiting: list[tuple[int, list[Any], str]] = []
        self.position = base
        self.made = 0
        self.is_over = False
        self.mail: list[tuple[int, int, list[Any], bool]] = []

    def die(self) -> None:
        self.world.relay.died(self.index, lambda content: content.owner is self)
        self.begin()

    def step(self) -> None:
        relay, island = self.world.relay, self.world.layout.islands[self.index]
        if self.waiting:
            position, outputs, then = self.waiting[0]
            if outputs:
                stored = self.world.dice.random() < 0.7
                relay.output(self.index, position, Box(outputs.pop(0), self if stored else None))
                return
            self.waiting.pop(0)
            if then == "done":
                relay.done(self.index, position)
            else:
                relay.ended(self.index)
            return
        if self.is_over:
            return
        if not island.producers:
            self._step_of_source()
        elif (head := self.intake.head) is not None:
            position, box = head
            if box.is_there:
                self.intake.take()
                self.waiting.append((position, self.world.evaluate(self.index, [box.value]), "done"))
                self.position = position + 1
            else:
                self.world.suspect(relay.lost(self.index, *self.intake.lost()))
        elif self.intake.is_at_end:
            self.is_over = True
            self.waiting.append((self.position, self.world.evaluate(self.index, [], is_end=True), "ended"))

    def _step_of_source(self) -> None:
        if self.made == INPUTS:
            self.is_over = True
            self.waiting.append((INPUTS, self.world.evaluate(self.index, [], is_end=True), "ended"))
            return
        outputs = self.world.evaluate(self.index, [("in", self.made)])
        self.waiting.append((self.made, outputs, "done"))
        self.made += 1


class World:
    """A pipeline in pieces, in which one thing happens at a time."""

    def __init__(self, graph: Graph, layout: Layout, behaviour: list[Behaviour], dice: random.Random) -> None:
        self.graph, self.layout, self.behaviour, self.dice = graph, layout, behaviour, dice
        self.relay = Relay([island.producers for island in layout.islands], layout.results)
        self.places = [Place(self, index) for index in range(len(layout.islands))]
        self.to_feed = INPUTS if any(FEED in island.producers for island in layout.islands) else 0
        self.feed_ended = False
        self.out: list[tuple[int, Any]] = []

    def evaluate(self, index: int, values: list[Any], *, is_end: bool = False) -> list[Any]:
        return evaluate(self.graph, self.behaviour, self.layout.islands[index].nodes, values, is_end)

    def suspect(self, producer: int | None) -> None:
        if producer is not None:
            assert producer != FEED
            self.places[producer].die()

    def feed(self) -> None:
        if self.to_feed:
            self.relay.feed(Box(("in", INPUTS - self.to_feed), None))
            self.to_feed -= 1
        elif not self.feed_ended:
            self.feed_ended = True
            self.relay.feed_end()

    def deliver(self, place: Place) -> None:
        delivery = self.relay.next_delivery(place.index)
        if delivery is not None:
            place.mail.append(tuple(delivery))  # type: ignore[arg-type]
        while place.mail and self.dice.random() < 0.8:  # letters overtake each other
            place.intake.give(*place.mail.pop(self.dice.randrange(len(place.mail))))

    def collect(self) -> None:
        entry = self.relay.next_result()
        if entry is None:
            return
        box = entry.piece.content
        if box.is_there:
            self.relay.take_result()
            self.out.append((entry.number, box.value))
        else:
            self.suspect(self.relay.lost_result(entry, box))

    def run(self, kills: int) -> None:
        for _ in range(20_000):
            if self.relay.is_finished:
                return
            what = self.dice.randrange(10)
            place = self.dice.choice(self.places)
            if what == 0:
                self.feed()
            elif what <= 3:
                self.deliver(place)
            elif what <= 7:
                place.step()
            elif what == 8:
                self.collect()
            elif kills and self.dice.random() < 0.3:
                kills -= 1
                for each in [place] if self.dice.random() < 0.7 else self.places:
                    each.die()
        raise AssertionError("it does not come to an end")


@given(st.data(), st.integers(0, 2**32), st.integers(0, 8))
def test_every_result_comes_once_and_in_order_whatever_dies(data: st.DataObject, seed: int, kills: int) -> None:
    graph = data.draw(graphs(5))
    layout = partition(graph, data.draw(demands(len(graph.nodes))), HOSTS)
    behaviour = data.draw(behaviours(len(graph.nodes)))
    world = World(graph, layout, behaviour, random.Random(seed))
    world.run(kills)
    while (entry := world.relay.next_result()) is not None:
        raise AssertionError(f"a result after the end: {entry}")
    assert world.out == island_results(graph, layout, behaviour, INPUTS)


def through(relay: Relay, island: int, make: Any) -> None:
    """Have an island work off all that it is given."""
    while (delivery := relay.next_delivery(island)) is not None:
        for position, content in enumerate(delivery.contents, delivery.position):
            for output in make(content):
                relay.output(island, position, output)
            relay.done(island, position)
        if delivery.is_end:
            relay.ended(island)


def taken(relay: Relay) -> list[Any]:
    found = []
    while (entry := relay.next_result()) is not None and not entry.flags & FAILED:
        found.append(entry.piece.content)
        relay.take_result()
    return found


def test_what_is_out_of_the_pipeline_is_forgotten_by_all() -> None:
    relay = Relay([(FEED,), (0,)], (1,))
    for number in range(50):
        relay.feed(number)
        through(relay, 0, lambda value: [value, value])
        through(relay, 1, lambda value: [] if value % 2 else [value])
        assert len(taken(relay)) == (0 if number % 2 else 2)
        assert relay.completed == number + 1
    held = [len(log.pieces) for log in relay._logs.values()] + [len(i.entries) for i in relay._inputs.values()]
    assert max(held) <= 4


def test_nothing_is_forgotten_that_an_island_may_have_to_make_again() -> None:
    relay = Relay([(FEED,), (0,)], (1,))
    for value in range(3):
        relay.feed(value)
    through(relay, 0, lambda value: [value + 10])
    through(relay, 1, lambda value: [value + 100])
    relay.died(0, lambda content: content >= 10)
    assert taken(relay) == [110, 111, 112]  # those do not lie with the dead one
    assert (relay.completed, relay.base(0)) == (3, 0)
    relay.died(1, lambda content: content >= 100)
    assert relay.next_delivery(1) is None  # its inputs have to be made again first
    through(relay, 0, lambda value: [value + 10])
    assert relay.next_delivery(1).contents == [10, 11, 12]


def test_a_failure_takes_its_turn() -> None:
    relay = Relay([(FEED,), (0,)], (1,))
    for value in range(3):
        relay.feed(value)
    delivery = relay.next_delivery(0)
    assert delivery.contents == [0, 1, 2]
    relay.output(0, 0, "a")
    relay.done(0, 0)
    relay.output(0, 1, "b")
    relay.failed(0, "broken")
    assert relay.present(0) == 1
    through(relay, 1, lambda value: [value])
    assert taken(relay) == ["a", "b"]
    entry = relay.next_result()
    assert (entry.number, entry.flags, entry.piece.content) == (1, FAILED, "broken")


def test_a_node_that_makes_fewer_outputs_than_before_is_told_of() -> None:
    relay = Relay([(FEED,), (0,)], (1,))
    relay.feed("x")
    through(relay, 0, lambda value: [value, value])
    relay.died(0, lambda content: content == "x")
    with pytest.raises(PipelineError, match=r"frame 0.*fewer outputs"):
        through(relay, 0, lambda value: [value])
