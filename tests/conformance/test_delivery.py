"""Order, bound, losslessness and fan-out: what every channel promises about the frames as a whole."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remotemedia.ipc.channel import END, LAST, MARK, Stamp
from tests.conformance.link import CREDIT, DATA, Connector, wants

many = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_frames_come_in_the_order_of_sending(connect: Connector) -> None:
    link = connect(queue_frames=4)
    seen = []
    for start in range(0, 40, 4):
        for number in range(start, start + 4):
            link.send(number, number)
        seen += [(frame.number, frame.value) for frame in (link.receive() for _ in range(4))]
    assert seen == [(n, n) for n in range(40)]
    assert link.receiver.receive() is None


def test_the_stamp_travels(connect: Connector) -> None:
    link = connect()
    link.sender.send(_with_credit(link, 5), Stamp(7, index=3, flags=LAST | END, session=11))
    frame = link.receive()
    assert (frame.number, frame.index, frame.flags, frame.session, frame.value) == (7, 3, LAST | END, 11, 5)


def _with_credit(link: Any, value: Any) -> Any:
    parcel = link.sender.pack(value)
    assert link.sender.has_credit(parcel.nbytes)
    return parcel


@pytest.mark.parametrize("queue_frames", [2, 3, 16, 256])
def test_no_more_than_queue_frames_are_in_flight(connect: Connector, queue_frames: int) -> None:
    link = connect(queue_frames=queue_frames)
    assert link.fill(1) == queue_frames
    assert link.sender.unreleased() == queue_frames
    link.receive()
    assert link.sender.unreleased() == queue_frames - 1
    assert link.fill(1) == 1


@pytest.mark.parametrize(("frame_bytes", "fit"), [(1000, 4), (1001, 3), (2000, 2), (2001, 2), (50_000, 2)])
def test_no_more_than_window_bytes_are_in_flight_but_always_two_frames(
    connect: Connector, frame_bytes: int, fit: int
) -> None:
    link = connect(window_bytes=4000)
    frame = np.zeros(frame_bytes, np.uint8)
    assert link.fill(frame) == fit
    link.receive()
    assert link.fill(frame) == 1


def test_a_refused_frame_is_not_lost_and_nothing_overtakes_it(connect: Connector) -> None:
    link = connect(queue_frames=2)
    link.fill(b"x")
    parcel = link.sender.pack(b"waits")
    assert not link.sender.has_credit(parcel.nbytes)
    assert [link.receive().value for _ in range(2)] == [b"x", b"x"]
    assert link.sender.has_credit(parcel.nbytes)
    link.sender.send(parcel, Stamp(2))
    assert link.receive().value == b"waits"


def test_credit_returns_only_when_all_receivers_have_released(connect: Connector) -> None:
    link = connect(receivers=3, queue_frames=2)
    assert link.fill(np.arange(5)) == 2
    held = [link.receive(0), link.receive(2)]
    assert not link.sender.has_credit(0)
    link.receive(1)
    held.pop()
    assert not link.sender.has_credit(0)
    held.pop()
    assert link.sender.has_credit(0)
    assert link.sender.unreleased() == 1


def test_every_receiver_gets_every_frame_at_its_own_pace(connect: Connector) -> None:
    link = connect(receivers=4, queue_frames=8)
    seen: list[list[int]] = [[] for _ in range(4)]
    sent = 0
    turns = itertools.cycle([0, 1, 1, 2, 3, 3, 3, 2, 0, 1])
    while min(map(len, seen)) < 200:
        if sent < 200 and link.try_send(np.full(10, sent), sent):
            sent += 1
        turn = next(turns)
        frame = link.receivers[turn].receive()
        if frame is not None:
            assert frame.value[9] == frame.number
            seen[turn].append(frame.number)
        del frame
    assert seen == [list(range(200))] * 4


@many
@given(script=st.lists(st.sampled_from(["send", "receive", "drop oldest", "drop newest"]), max_size=120))
def test_the_channel_is_a_bounded_lossless_queue(connect: Connector, script: list[str]) -> None:
    """Against a model, for any interleaving: what is in flight is what was sent and not dropped."""
    link = connect(queue_frames=4)
    queue: deque[int] = deque()
    held: list[Any] = []
    sent = 0
    for act in script:
        if act == "send":
            accepted = link.try_send(sent, sent)
            assert accepted == (len(queue) + len(held) < 4)
            if accepted:
                queue.append(sent)
            sent += 1
        elif act == "receive":
            frame = link.receiver.receive()
            assert (frame is None) == (not queue)
            if frame is not None:
                assert frame.value == queue.popleft()
                held.append(frame)
            del frame
        elif held:
            held.pop(0 if act == "drop oldest" else -1)
        assert link.sender.unreleased() == len(queue) + len(held)


def test_a_sleeper_is_rung_for_what_it_waits_for_and_only_then(connect: Connector) -> None:
    link = connect(queue_frames=2)
    link.receiver_bell.park(DATA)
    link.send(1)
    assert not wants(link.receiver_bell, DATA)
    link.send(2)
    frames = [link.receive(), link.receive()]
    link.sender_bell.park(CREDIT)
    assert wants(link.sender_bell, CREDIT)
    frames.pop()
    assert not wants(link.sender_bell, CREDIT)


def test_a_frame_may_be_dropped_in_any_thread(connect: Connector) -> None:
    link = connect(queue_frames=4)
    link.fill(np.arange(100))
    frames = [link.receive() for _ in range(4)]

    def drop(frame: list[Any]) -> None:
        frame.clear()

    threads = [threading.Thread(target=drop, args=([frames.pop()],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert link.sender.unreleased() == 0


def test_a_bare_mark_has_no_data_but_counts_as_a_frame(connect: Connector) -> None:
    link = connect(queue_frames=2, window_bytes=1)
    assert link.fill(MARK) == 2
    assert link.receive().value is MARK
