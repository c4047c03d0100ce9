"""A received view that is sent on is not copied: the next one reads it where it lies, for as long as it likes."""

from __future__ import annotations

import gc
import itertools
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from remotemedia.core.frames import VideoFrame
from remotemedia.ipc.channel import Stamp
from remotemedia.ipc.doorbell import CREDIT
from remotemedia.ipc.leases import Borrowed, lease_under
from remotemedia.workers.inbox import Inbox
from tests.conformance.link import Connector, Link, wants

SHAPE = (100, 200)


def picture(number: int) -> Any:
    return np.full(SHAPE, number, np.int32)


def pass_on(links: list[Link], value: Any, number: int = 0, view: Callable[[Any], Any] = lambda a: a) -> Any:
    """`value` as it comes out at the end, when everybody in between sends on `view` of it."""
    links[0].send(value, number)
    for before, after in itertools.pairwise(links):
        frame = before.receive()
        parcel = after.sender.pack(view(frame.value))
        assert after.sender.has_credit(parcel.nbytes)
        after.sender.send(parcel, Stamp(frame.number))
        del frame, parcel
    return links[-1].receive().value


def copies(links: list[Link]) -> int:
    """Of all but the first sender, whose frames come from elsewhere."""
    return sum(link.receiver.copies for link in links) + sum(link.sender.copies for link in links[1:])


def settle(links: list[Link]) -> int:
    """Everybody lets go of what is finished with: how many frames are not, in all channels."""
    for link in reversed(links):
        link.sender.recall()
    return sum(link.sender.unreleased() for link in links)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_what_is_sent_on_is_not_copied(share: Connector, channels: int) -> None:
    links = share.chain(channels)
    for number in range(300):
        got = pass_on(links, picture(number), number)
        assert (got.shape, got.dtype) == (SHAPE, np.int32)
        assert (got == number).all()
    assert copies(links) == 0
    del got
    assert settle(links) == 0


VIEWS: list[Callable[[Any], Any]] = [
    lambda a: a[10:90],
    lambda a: a.reshape(-1)[7:],
    lambda a: a.reshape(-1, 100)[1:],
    lambda a: a.view(np.uint8),
]


@pytest.mark.parametrize("view", VIEWS)
def test_nor_is_a_part_of_it(share: Connector, view: Callable[[Any], Any]) -> None:
    links = share.chain(3)
    value = np.arange(20_000, dtype=np.int32).reshape(SHAPE)
    got = pass_on(links, value, view=view)
    once = view(value)
    assert got.dtype == once.dtype
    assert np.array_equal(got, view(once))
    assert copies(links) == 0


@pytest.mark.parametrize("view", [lambda a: a[:, ::2], lambda a: a.T, lambda a: a + 0, lambda a: a[:3], bytes])
def test_anything_else_is_copied(share: Connector, view: Callable[[Any], Any]) -> None:
    links = share.chain(2)
    got = pass_on(links, picture(5), view=view)
    assert np.array_equal(got, view(picture(5)))
    assert copies(links) >= 1


def test_it_cannot_be_written(share: Connector) -> None:
    got = pass_on(share.chain(3), picture(1))
    with pytest.raises(ValueError, match="read-only"):
        got[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        got.setflags(write=True)


@pytest.mark.parametrize("queue_frames", [2, 3, 4, 8, 64])
@pytest.mark.parametrize("channels", [2, 4])
def test_what_is_held_for_ever_stalls_nobody_and_never_changes(
    share: Connector, channels: int, queue_frames: int
) -> None:
    """Each process on the way keeps what it gets, as long as others do not."""
    links = share.chain(channels, queue_frames=queue_frames, window_bytes=500_000)
    kept: list[tuple[int, Any]] = []
    for number in range(12 * queue_frames):
        keeper = number // queue_frames % (channels + 1)
        links[0].send(picture(number), number)
        for at, link in enumerate(links):
            frame = link.receive()
            if at == keeper:
                kept.append((number, frame.value))
            if at + 1 < channels:
                after = links[at + 1]
                parcel = after.sender.pack(frame.value)
                assert after.sender.has_credit(parcel.nbytes)
                after.sender.send(parcel, Stamp(number))
                del parcel
            del frame
        for link in reversed(links):
            link.sender.recall()
    assert all((array == number).all() for number, array in kept)
    kept.clear()
    assert settle(links) == 0


def test_large_frames_that_are_held_stall_nobody(share: Connector) -> None:
    links = share.chain(3, window_bytes=100_000, queue_frames=16)
    kept = [(number, pass_on(links, picture(number), number)) for number in range(20)]
    assert all((array == number).all() for number, array in kept)
    assert links[-1].receiver.copies == 19


def test_views_die_in_any_order_and_thread(share: Connector) -> None:
    links = share.chain(3, queue_frames=64)
    kept = [(number, pass_on(links, picture(number), number)[3:]) for number in range(5)]
    kept += [(number, array[1:]) for number, array in kept]
    random.Random(1).shuffle(kept)
    threads = []
    while kept:
        mine = [kept.pop() for _ in range(2)]
        threads.append(threading.Thread(target=mine.clear))
        threads[-1].start()
        del mine
    for thread in threads:
        thread.join()
    assert settle(links) == 0


def test_the_same_frame_sent_on_twice_is_held_by_either(share: Connector) -> None:
    first, second = share.chain(2)
    first.send(picture(3))
    frame = first.receive()
    second.send(frame.value)
    second.send(frame.value[50:])
    del frame
    got = deque([second.receive().value, second.receive().value])
    for _ in range(2):
        assert first.sender.unreleased() + len(got) == 1 + len(got)
        for number in range(200):
            first.carry(picture(number))
        assert (got[0] == 3).all()
        second.sender.recall()
        got.popleft()
    assert settle([first, second]) == 0


def test_the_first_sender_is_told_when_the_last_view_is_gone(share: Connector) -> None:
    links = share.chain(3)
    got = pass_on(links, picture(1))
    for link in reversed(links):
        link.sender.recall()
    assert links[0].sender.unreleased() == 1
    links[0].sender_bell.park(CREDIT)
    del got
    assert not wants(links[0].sender_bell, CREDIT)
    assert links[0].sender.unreleased() == 0


def test_who_sleeps_for_credit_is_heard_by_who_has_passed_frames_on(share: Connector) -> None:
    first, second = share.chain(2)
    first.send(picture(1))
    second.send(first.receive().value)
    first.sender_bell.park(CREDIT)
    assert second.sender.lends
    assert second.sender.recall()  # it has not been taken yet
    second.receive()
    assert not second.sender.recall()
    assert not second.sender.lends
    assert not wants(first.sender_bell, CREDIT)


def test_views_outlive_all_ends(share: Connector) -> None:
    links = share.chain(3)
    got = pass_on(links, picture(7))
    part = got[40:]
    del links
    share.close()
    assert (got == 7).all()
    del got
    gc.collect()
    assert (part == 7).all()


def test_segments_that_have_grown_are_found(share: Connector) -> None:
    links = share.chain(3, slot_bytes=1024)
    kept = []
    for size in (5_000, 20_000, 90_000, 7_000, 400_000, 400_001):
        got = pass_on(links, np.full(size, size, np.int32))
        kept.append((size, got))
        assert (got == size).all()
    assert all((array == size).all() for size, array in kept)
    assert sum(link.sender.copies for link in links[1:]) == 0


def test_what_another_pool_gave_is_copied(share: Connector) -> None:
    links, others = share.chain(2), share.chain(2)
    others[0].send(picture(4))
    links[1].send(others[0].receive().value)
    assert (links[1].receive().value == 4).all()
    assert links[1].sender.copies == 1


BESIDE: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (lambda a: VideoFrame(array=a, pts=3), lambda got: got.array),
    (lambda a: {"picture": a, "boxes": [1, 2]}, lambda got: got["picture"]),
    (lambda a: ("text", a, np.arange(10)), lambda got: got[1]),
    (lambda a: [np.arange(5_000), a[10:]], lambda got: got[1]),
]


@pytest.mark.parametrize(("around", "inside"), BESIDE)
def test_nor_is_an_array_that_is_sent_on_inside_of_something(
    share: Connector, around: Callable[[Any], Any], inside: Callable[[Any], Any]
) -> None:
    first, second, third = share.chain(3)
    before = second.sender.bytes_copied
    for number in range(100):
        first.send(picture(number), number)
        value = around(first.receive().value)
        second.send(value)
        del value
        got = second.receive().value
        third.send(got)
        del got
        got = third.receive().value
        expected = around(picture(number))
        assert type(got) is type(expected)
        assert np.array_equal(inside(got), inside(expected))
        with pytest.raises(ValueError, match="read-only"):
            inside(got)[0] = 1
        del got
    assert (second.receiver.copies, third.receiver.copies) == (0, 0)
    assert second.sender.bytes_copied - before <= 100 * 5_000 * 8  # the others, at most
    assert third.sender.bytes_copied <= 100 * 5_000 * 8
    assert settle([first, second, third]) == 0


def test_what_is_inside_may_be_held_for_ever(share: Connector) -> None:
    first, second = share.chain(2, queue_frames=8)
    kept = []
    for number in range(50):
        first.send(picture(number), number)
        second.send({"picture": first.receive().value, "small": np.full(10, number)})
        kept.append((number, second.receive().value))
        second.sender.recall()
    for number, value in kept:
        assert (value["picture"] == number).all()
        assert (value["small"] == number).all()
    kept.clear()
    del value
    assert settle([first, second]) == 0


def test_a_frame_costs_no_memory_that_stays(share: Connector) -> None:
    links = share.chain(3)
    pass_on(links, picture(1))
    settle(links)
    before = len(gc.get_objects())
    for number in range(200):
        pass_on(links, picture(number), number)
    settle(links)
    assert len(gc.get_objects()) - before < 50


def test_a_forked_copy_lets_go_of_nothing(share: Connector) -> None:
    links = share.chain(3)
    got = pass_on(links, picture(6))
    settle(links)
    pid = os.fork()
    if not pid:
        del got
        os._exit(0)
    os.waitpid(pid, 0)
    assert links[0].sender.unreleased() == 1
    for number in range(200):
        links[0].carry(picture(number))
    assert (got == 6).all()


def test_a_reference_to_what_is_out_of_the_pipeline_is_asked_for_again(share: Connector) -> None:
    """Its origin need not keep it for that."""
    first, second = share.chain(2, retain=True)
    first.send(picture(5), 5)
    second.send(first.receive().value, 5)
    second.receiver._completed = memoryview((6).to_bytes(8, "little")).cast("Q")
    assert second.receiver.receive() is None
    assert second.sender.attend()
    got = second.receive().value
    assert (got == 5).all()
    assert not isinstance(lease_under(got), Borrowed)
    assert second.receiver.receive() is None


def test_a_frame_that_is_not_being_worked_on_is_copied(share: Connector) -> None:
    """By a stage that may be replaced: see remotemedia.ipc.references."""
    first, second = share.chain(2, retain=True)
    inbox = Inbox(first.receivers, safe=False)
    second.sender._lender._is_current = inbox.is_current
    first.send(picture(1), 1)
    first.send(picture(2), 2)
    old = inbox.take()
    second.send(old.value, 1)
    assert second.sender.copies == 0
    new = inbox.take()
    second.send(old.value, 2)
    assert second.sender.copies == 1
    second.send(new.value, 2)
    assert second.sender.copies == 1
    assert [int(second.receive().value[0, 0]) for _ in range(3)] == [1, 1, 2]


def test_a_frame_that_was_sent_again_is_copied(share: Connector) -> None:
    first, second = share.chain(2, retain=True)
    first.send(picture(3), 3)
    (entry,) = first.sender._credit.in_flight
    first.sender.send_again(entry)
    first.receiver._receive()  # the first one is lost
    second.send(first.receive().value, 3)
    assert second.sender.copies == 1
    assert (second.receive().value == 3).all()
