"""Wake-ups."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from remotemedia.ipc.doorbell import CREDIT, DATA, Doorbell, OwnDoorbell, new_doorbell_fd
from remotemedia.workers.child.drive import BlockingWaiter, drive
from remotemedia.workers.stage import Stopped


@pytest.fixture
def bell() -> Iterator[OwnDoorbell]:
    fd = new_doorbell_fd()
    yield OwnDoorbell(fd, memoryview(bytearray(8)).cast("Q"))
    os.close(fd)


def has_rung(bell: Doorbell) -> bool:
    try:
        return os.eventfd_read(bell.fd) > 0
    except BlockingIOError:
        return False


def test_nobody_is_woken_who_does_not_sleep(bell: OwnDoorbell) -> None:
    bell.ring_for(DATA)
    bell.park(CREDIT)
    bell.ring_for(DATA)
    assert not has_rung(bell)


@pytest.mark.parametrize("what", [DATA, CREDIT])
def test_a_sleeper_is_woken_once_for_what_it_waits_for(bell: OwnDoorbell, what: int) -> None:
    bell.park(DATA)
    bell.park(CREDIT)
    bell.ring_for(what)
    assert has_rung(bell)
    bell.ring_for(what)
    assert not has_rung(bell)


def test_ring_wakes_in_any_case(bell: OwnDoorbell) -> None:
    bell.ring()
    assert has_rung(bell)


def test_clear_takes_rings_back(bell: OwnDoorbell) -> None:
    bell.ring()
    bell.clear()
    assert not has_rung(bell)
    bell.clear()


def test_a_muted_bell_writes_to_nobodys_descriptor(bell: OwnDoorbell) -> None:
    other = Doorbell(bell.fd, bell.word)
    bell.park(CREDIT)
    other.mute()
    other.ring_for(CREDIT)
    assert not has_rung(bell)


def test_until_looks_once_more_after_parking(bell: OwnDoorbell) -> None:
    """What comes between the first look and the parking is not rung for."""
    answers = iter([None, "came in between"])
    assert drive(bell.until(lambda: next(answers), DATA)) == "came in between"


def test_until_ends_with_the_waiter(bell: OwnDoorbell) -> None:
    bell.waiter = BlockingWaiter(bell, lambda: True)
    bell.ring()
    with pytest.raises(Stopped):
        drive(bell.until(lambda: None, DATA))


def test_two_threads_that_hand_a_ball_to_each_other(bell: OwnDoorbell) -> None:
    rounds, ball = 20_000, [0]
    fd = new_doorbell_fd()
    other = OwnDoorbell(fd, memoryview(bytearray(8)).cast("Q"))

    def play(mine: OwnDoorbell, theirs: Doorbell, parity: int) -> None:
        mine.waiter = BlockingWaiter(mine, lambda: False)
        for turn in range(parity, rounds, 2):
            drive(mine.until(lambda turn=turn: True if ball[0] == turn else None, DATA))  # type: ignore[misc]
            ball[0] += 1
            theirs.ring_for(DATA)

    thread = threading.Thread(target=play, args=(other, bell, 1))
    thread.start()
    play(bell, other, 0)
    thread.join()
    os.close(fd)
    assert ball == [rounds]
