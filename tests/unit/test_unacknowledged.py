"""When inputs may be acknowledged, and in which order."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from remotemedia.ipc.channel import LAST, Stamp
from remotemedia.ipc.lane import Position
from remotemedia.workers.acknowledging import Acknowledging
from remotemedia.workers.delivery import Unacknowledged


def position(count: int) -> Position:
    return Position(count, count, 0, LAST, 0, count, 0)


inputs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=20)
"""For each input: its lane, and how many outputs were made of it."""


@given(inputs=inputs, rounds=st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 8)), max_size=8))
def test_what_is_due_is_a_prefix_without_outputs_that_wait(
    inputs: list[tuple[int, int]], rounds: list[tuple[int, int | None]]
) -> None:
    waiting = Unacknowledged()
    sent = list(itertools.accumulate(outputs for _, outputs in inputs))
    for count, (lane, _) in enumerate(inputs):
        waiting.add(sent[count], lane, position(count))
    assert waiting.finished == len(waiting) == len(inputs)
    taken = acknowledged = covered = 0
    for more, snapshot in [*rounds, (1000, None)]:
        acknowledged += more
        covered = max(covered, min(snapshot or 0, len(inputs)))
        limit = len(inputs) if snapshot is None else covered
        due = waiting.due(acknowledged, None if snapshot is None else covered)
        end = taken
        while end < limit and sent[end] <= acknowledged:
            end += 1
        # One entry for each run of inputs from one lane, its last: so every step of writing them is a prefix.
        runs = [list(run) for _, run in itertools.groupby(range(taken, end), key=lambda count: inputs[count][0])]
        assert due == [(inputs[run[-1]][0], position(run[-1])) for run in runs]
        taken = end
    assert not len(waiting)


class _Snapshots:
    """Takes one whenever it is asked."""

    def __init__(self) -> None:
        self.taken: list[list[Position | None]] = []

    def is_due(self, _finished: int, *, in_demand: bool) -> bool:
        return True

    async def take(self, _finished: int, _sent: int, positions: list[Position | None]) -> None:
        self.taken.append(list(positions))


class _Part:
    """An inbox of two inputs, or a sender."""

    receivers = (None, None)
    sequence = 0


async def test_a_snapshot_knows_inputs_that_had_nothing_new_since_the_restart() -> None:
    snapshots: Any = _Snapshots()
    part: Any = _Part()
    acknowledging = Acknowledging(part, part, Stamp(5), snapshots, [position(5), position(4)])
    frame: Any = type("Frame", (), {"number": 5, "flags": LAST, "sent_as": None, "sequence": 9, "index": 0})()
    frame.lane, frame.session, frame.nbytes = 1, 0, 8
    acknowledging.finished(frame)
    await acknowledging.take_snapshot(in_demand=False)
    assert snapshots.taken == [[position(5), Position(9, 5, 0, LAST, 0, 5, 0)]]
