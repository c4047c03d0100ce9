"""Who waits when nobody is at work, as the boards show it."""

from __future__ import annotations

from remotemedia.ipc.ledger import Ledger, LedgerLayout
from remotemedia.workers.board import BOARD_WORDS, WAITS, Board
from remotemedia.workers.standstill import Standstill


def _boards(count: int) -> list[Board]:
    layout = LedgerLayout()
    offsets = [layout.region(BOARD_WORDS) for _ in range(count)]
    ledger = Ledger.create(layout)
    boards = [Board(ledger, offset) for offset in offsets]
    ledger.close()
    return boards


def _looks(standstill: Standstill, count: int, *, is_starving: bool = True) -> list[int]:
    for _ in range(count - 1):
        assert standstill.look(is_starving=is_starving) == []
    return standstill.look(is_starving=is_starving)


def _block(board: Board) -> None:
    board.begin(7)
    board.words[WAITS] = 1


def test_one_that_waits_for_room_while_all_others_are_idle() -> None:
    boards = _boards(3)
    _block(boards[1])
    assert _looks(Standstill(boards, []), 4) == [1]


def test_idle_stages_alone_are_no_standstill() -> None:
    assert _looks(Standstill(_boards(3), []), 10) == []


def test_a_stage_at_work_may_set_others_free() -> None:
    boards = _boards(3)
    _block(boards[0])
    boards[2].begin(3)
    standstill = Standstill(boards, [])
    assert _looks(standstill, 10) == []
    boards[2].end()
    assert _looks(standstill, 3) == [0]


def test_a_frame_that_was_finished_in_between_starts_the_count_again() -> None:
    boards = _boards(2)
    _block(boards[0])
    standstill = Standstill(boards, [])
    assert _looks(standstill, 3) == []
    boards[1].stats.record(5)
    assert _looks(standstill, 3) == []
    assert standstill.look(is_starving=True) == [0]


def test_nobody_who_wants_outputs_is_no_standstill() -> None:
    boards = _boards(1)
    _block(boards[0])
    standstill = Standstill(boards, [])
    assert _looks(standstill, 10, is_starving=False) == []
    assert _looks(standstill, 3) == [0]


def test_a_worker_without_heartbeat_may_be_what_all_wait_for() -> None:
    boards = _boards(3)
    _block(boards[0])
    standstill = Standstill(boards, boards[:2])
    for _ in range(10):
        boards[0].beat()
        assert standstill.look(is_starving=True) == []
    boards[1].beat()
    assert _looks(standstill, 3) == [0]
