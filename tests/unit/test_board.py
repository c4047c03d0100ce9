"""The board of a worker."""

from __future__ import annotations

import os

from remotemedia.core import stats
from remotemedia.ipc.ledger import Ledger, LedgerLayout
from remotemedia.workers.board import BEAT, BOARD_WORDS, WAITS, Board


def make_boards() -> tuple[Board, Board, Board]:
    """One board seen from two processes, and its neighbour."""
    layout = LedgerLayout()
    first, second = layout.region(BOARD_WORDS), layout.region(BOARD_WORDS)
    here = Ledger.create(layout)
    there = Ledger(os.dup(here.fd))
    boards = Board(here, first), Board(there, first), Board(here, second)
    here.close()
    there.close()
    return boards


def test_the_other_side_sees_the_frame() -> None:
    worker, coordinator, neighbour = make_boards()
    seen = [coordinator.frame]
    for number in (0, 1 << 40):
        worker.begin(number)
        seen.append(coordinator.frame)
    worker.end()
    assert [*seen, coordinator.frame] == [None, 0, 1 << 40, None]
    assert neighbour.frame is None


def test_the_other_side_sees_the_request_to_stop() -> None:
    worker, coordinator, neighbour = make_boards()
    coordinator.request_stop()
    assert worker.stop_requested
    assert not neighbour.stop_requested


def test_the_other_side_sees_signs_of_life_and_waiting() -> None:
    worker, coordinator, neighbour = make_boards()
    worker.words[BEAT] = 2**64 - 2
    seen = []
    for _ in range(3):
        worker.beat()
        seen.append(coordinator.beats)
    assert seen == [2**64 - 1, 0, 1]
    worker.words[WAITS] = 1
    assert (coordinator.waits, neighbour.waits, neighbour.beats) == (True, False, 0)
    coordinator.forget_waiting()
    assert not worker.waits
    assert (worker.frame, worker.stop_requested) == (None, False)


def test_statistics_are_shared_and_stay_in_their_place() -> None:
    worker, coordinator, neighbour = make_boards()
    for duration in (0, 1000, 1 << 62):
        worker.stats.record(duration)
    worker.stats.values[stats.ERRORS] += 1
    facts = coordinator.stats.as_dict("node")
    assert (facts["calls"], facts["errors"]) == (3, 1)
    assert neighbour.stats.as_dict("x")["calls"] == 0
    assert (worker.frame, worker.stop_requested) == (None, False)
