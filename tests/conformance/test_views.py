"""What arrives are read-only views that stay valid as long as they are held, and that never stall the sender."""

from __future__ import annotations

import ctypes
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from remotemedia.core.frames import VideoFrame
from tests.conformance.link import Connector, Link


def pattern(number: int, size: int = 500) -> Any:
    return np.arange(number, number + size, dtype=np.int32)


def holds(array: Any, number: int) -> bool:
    """Whether `array` still has the content of frame `number`."""
    return bool((array == pattern(number, array.size)).all())


@pytest.mark.parametrize(
    "value_of",
    [
        lambda a: (a, lambda got: got),
        lambda a: ({"x": [a]}, lambda got: got["x"][0]),
        lambda a: (VideoFrame(array=a), lambda got: got.array),
    ],
)
def test_views_cannot_be_written(share: Connector, value_of: Callable[[Any], Any]) -> None:
    link = share(queue_frames=4)
    value, inside = value_of(pattern(0))
    kept = [inside(link.carry(value)) for _ in range(6)]  # the last ones are copies: they behave no differently
    for array in kept:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            array[3:].fill(1)
        with pytest.raises(TypeError):
            memoryview(array)[0] = 1
    for view in (kept[0], kept[0][3:], kept[0].reshape(5, 100), kept[0].view(np.uint8)):
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.setflags(write=True)


DERIVATIONS: list[Callable[[Any], Any]] = [
    lambda a: a[3:],
    lambda a: a[::-7],
    lambda a: a.T,
    lambda a: a.view(np.uint8),
    lambda a: a.reshape(5, 100),
    memoryview,
    lambda a: np.frombuffer(a, np.uint8),
    lambda a: np.broadcast_to(a, (3, 500)),
    lambda a: np.lib.stride_tricks.sliding_window_view(a, 3),
    lambda a: iter(a.reshape(5, 100)),
    lambda a: {"deep": [a[1:2]]},
    lambda a: np.from_dlpack(np.from_dlpack(a)) if a.flags.writeable else a[:1],
    lambda a: a.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
]


@pytest.mark.parametrize("derive", DERIVATIONS)
def test_a_frame_is_held_by_whatever_was_derived_from_its_value(share: Connector, derive: Callable[[Any], Any]) -> None:
    link = share()
    derived = [derive(link.carry(pattern(1)))]
    assert link.sender.unreleased() == 1
    derived.clear()
    assert link.sender.unreleased() == 0


def test_a_copy_does_not_hold_it(share: Connector) -> None:
    link = share()
    copies = [link.carry(pattern(1)).copy(), link.carry(pattern(1))[::2] + 1, link.carry({"a": 1, "b": "x"})]
    assert link.sender.unreleased() == 0
    assert len(copies) == 3


@pytest.mark.parametrize("seed", range(4))
def test_views_may_be_dropped_in_any_order_and_thread(share: Connector, seed: int) -> None:
    link = share(queue_frames=64)
    kept = []
    for number in range(32):
        link.send(pattern(number), number)
        frame = link.receive()
        kept += [(number, frame.value[5:][:-5]), (number, frame.value)]
        del frame
    random.Random(seed).shuffle(kept)
    expected = {number for number, _ in kept}

    def drop(mine: list[Any]) -> None:
        while mine:
            mine.pop()

    for _ in range(8):
        share_of = [kept.pop() for _ in range(8)]
        worker = threading.Thread(target=drop, args=(share_of,))
        worker.start()
        worker.join()
        expected = {number for number, _ in kept}
        assert link.sender.unreleased() == len(expected)
    assert not expected


def test_a_view_keeps_its_content_while_many_frames_pass(share: Connector) -> None:
    link = share(queue_frames=8)
    first = link.carry(pattern(1))
    middle = None
    for number in range(2000):
        got = link.carry(pattern(number, size=number + 1))
        if number == 1000:
            middle = got[3:]
    assert holds(first, 1)
    assert holds(middle, 1003)


def test_a_view_outlives_both_ends(share: Connector) -> None:
    link = share()
    array, nested = link.carry(pattern(5)), link.carry({"x": pattern(6)})
    del link
    share.close()
    assert holds(array, 5)
    assert holds(nested["x"], 6)
    derived = array[100:]
    del array, nested
    assert holds(derived, 105)


def test_a_view_that_dies_after_its_pool_rings_no_bell(share: Connector) -> None:
    """The descriptor's number may belong to something else by then."""
    link = share(queue_frames=2)
    array = link.carry(pattern(5))
    link.sender_bell.park(2)  # a sender that was killed while it waited for credit
    link.sender_bell.mute()
    del array
    assert link.sender.unreleased() == 0


@pytest.mark.parametrize("receivers", [1, 2, 3])
@pytest.mark.parametrize("queue_frames", [2, 3, 4, 16])
def test_views_that_are_held_for_ever_never_stall_the_sender(
    share: Connector, receivers: int, queue_frames: int
) -> None:
    """Each receiver keeps what another one does not: the worst case for the sender."""
    for frame_bytes in (100, 3000, 7000, 20_000):
        link = share(receivers=receivers, queue_frames=queue_frames, window_bytes=16_000)
        hold_in_turn(link, queue_frames, frame_bytes)


def hold_in_turn(link: Link, queue_frames: int, frame_bytes: int) -> None:
    receivers = len(link.receivers)
    kept: list[list[Any]] = [[] for _ in range(receivers)]
    for number in range(8 * queue_frames):
        link.send(pattern(number, frame_bytes // 4), number)
        for index in range(receivers):
            frame = link.receive(index)
            if number // queue_frames % receivers == index:
                kept[index].append((number, frame.value))
            del frame
    assert all(holds(array, number) for number, array in itertools.chain(*kept))


def test_nor_do_frames_of_different_sizes(share: Connector) -> None:
    for sizes in itertools.permutations([10, 5000, 7999, 8001, 16_000, 40_000], 3):
        hold_all(share(queue_frames=4, window_bytes=16_000), sizes)
        share.close()


def hold_all(link: Link, sizes: tuple[int, ...]) -> None:
    kept = []
    for number, size in enumerate(itertools.chain.from_iterable(itertools.repeat(sizes, 4))):
        link.send(np.full(size, number % 251, np.uint8), number)
        kept.append((number % 251, link.receive().value))
    assert all((array == number).all() for number, array in kept)


def test_a_receiver_may_hold_the_last_frames(share: Connector) -> None:
    for last in range(1, 17):
        hold_the_last(share(queue_frames=8), last)


def hold_the_last(link: Link, last: int) -> None:
    window: list[Any] = []
    for number in range(100):
        link.send(pattern(number), number)
        window.append((number, link.receive().value))
        window = window[-last:]
        assert all(holds(array, n) for n, array in window)
    assert (link.receiver.copies > 0) == (last > 3)  # half of the queue: three old views and the new one


def test_one_old_view_costs_no_copies(share: Connector) -> None:
    link = share(queue_frames=8)
    old = link.carry(pattern(0))
    for number in range(100):
        assert holds(link.carry(pattern(number)), number)
    assert link.receiver.copies == 0
    assert holds(old, 0)


def hold_two(link: Link) -> list[Any]:
    return [link.carry(pattern(n)) for n in range(2)]


def test_copies_are_counted_with_their_bytes(share: Connector) -> None:
    link = share(queue_frames=2)
    kept = hold_two(link)
    assert (link.receiver.copies, link.receiver.bytes_copied) == (1, 2000)
    assert holds(kept[0], 0)
    assert holds(kept[1], 1)
