"""Sending again, to lanes that are plain lists of words, by a sender that only writes down what it is asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from remotemedia.ipc.lane import ACKNOWLEDGED, BASE, DUPLICATES, GENERATION, REPEATED
from remotemedia.ipc.replay import Replay

TICKETS = 4


class Sender:
    """Has `in_flight` frames, and lanes with queues of what was sent again; keeps its books itself."""

    def __init__(self, in_flight: int, acknowledged: list[int]) -> None:
        self.words = [[0] * (BASE + 1) for _ in acknowledged]
        for words, upto in zip(self.words, acknowledged, strict=True):
            words[GENERATION], words[ACKNOWLEDGED] = 1, upto
        self.in_flight = [(sequence, 0, 0, None) for sequence in range(1, in_flight + 1)]
        self.queues: list[deque[int]] = [deque() for _ in acknowledged]
        self.welcomed: list[int] = []
        self.replay = Replay(self, self, TICKETS)  # type: ignore[arg-type]

    def welcome(self, lane: int, _generation: int) -> None:
        self.welcomed.append(lane)

    def unacknowledged(self, lanes: Iterable[int]) -> list[Any]:
        safe = min(self.words[lane][ACKNOWLEDGED] for lane in lanes)
        return [entry for entry in self.in_flight if entry[0] > safe]

    def send_again(self, entry: Any) -> None:
        for queue in self.queues:
            queue.append(entry[0])

    def replace(self, lane: int) -> None:
        """A next generation, with an empty queue."""
        self.queues[lane].clear()
        self.words[lane][DUPLICATES] = 0
        self.words[lane][GENERATION] += 1


def test_nothing_is_due_as_long_as_nobody_is_replaced() -> None:
    sender = Sender(3, [0, 2])
    assert not sender.replay.is_due()
    assert sender.replay.go_on()
    assert not any(sender.queues)


@given(in_flight=st.integers(0, TICKETS), acknowledged=st.integers(0, TICKETS))
def test_the_only_receiver_gets_all_that_it_has_not_acknowledged(in_flight: int, acknowledged: int) -> None:
    sender = Sender(in_flight, [acknowledged])
    sender.replace(0)
    assert sender.replay.is_due()
    assert sender.replay.go_on()
    assert not sender.replay.is_due()
    assert list(sender.queues[0]) == list(range(acknowledged + 1, in_flight + 1))
    assert sender.welcomed == [0]


@given(data=st.data(), in_flight=st.integers(0, TICKETS), lanes=st.integers(2, 3))
def test_everybody_replaced_gets_all_in_order_and_no_queue_overflows(
    data: st.DataObject, in_flight: int, lanes: int
) -> None:
    acknowledged = data.draw(st.lists(st.integers(0, in_flight), min_size=lanes, max_size=lanes))
    sender = Sender(in_flight, acknowledged)
    got: list[list[int]] = [[] for _ in range(lanes)]
    replaced: set[int] = set()

    def take(lane: int) -> None:
        sequence = sender.queues[lane].popleft()
        if lane in replaced and sequence == (got[lane][-1] if got[lane] else acknowledged[lane]) + 1:
            got[lane].append(sequence)
        else:
            sender.words[lane][DUPLICATES] += 1

    for _ in range(data.draw(st.integers(1, 12))):
        lane = data.draw(st.integers(0, lanes - 1))
        action = data.draw(st.sampled_from(["replace", "take", "go on"]))
        if action == "replace":
            sender.replace(lane)
            replaced.add(lane)
            got[lane].clear()
        elif action == "take" and sender.queues[lane]:
            take(lane)
        elif action == "go on":
            sender.replay.go_on()
        assert all(len(queue) <= 3 * TICKETS for queue in sender.queues)
    while sender.replay.is_due() and not sender.replay.go_on():
        full = [i for i in range(lanes) if sender.words[i][REPEATED] >= sender.words[i][DUPLICATES] + TICKETS]
        assert full, "it waits for room, and there is room"
        for lane in full:
            assert sender.queues[lane]
            take(lane)
    for lane in range(lanes):
        while sender.queues[lane]:
            take(lane)
    for lane in replaced:
        assert got[lane] == list(range(acknowledged[lane] + 1, in_flight + 1))
