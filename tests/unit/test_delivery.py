"""The order in which a stage takes its inputs, against a model that knows everything beforehand."""

from __future__ import annotations

import dataclasses

from hypothesis import example, given
from hypothesis import strategies as st

from remotemedia.ipc.channel import END, LAST
from remotemedia.ipc.lane import Position
from remotemedia.workers.delivery import Merge, Window


@dataclasses.dataclass(frozen=True)
class Sent:
    """One frame of one input."""

    input: int
    number: int
    index: int
    flags: int
    session: int = 0


@st.composite
def inputs(draw: st.DrawFn) -> list[list[Sent]]:
    """For each input: any number of frames for each number, and the end; inputs may end at different numbers."""
    found = []
    for each in range(draw(st.integers(1, 4))):
        frames = []
        end = draw(st.integers(0, 5))
        for number in range(end + 1):
            count = draw(st.integers(1, 4))
            last = LAST | END if number == end else LAST
            frames += [Sent(each, number, i, last if i == count - 1 else 0) for i in range(count)]
        found.append(frames)
    return found


def model(sent: list[list[Sent]]) -> list[tuple[Sent, int, int]]:
    """By number, input, index; LAST where a number is complete, END where everything is, with the greatest number."""
    order = sorted((frame for frames in sent for frame in frames), key=lambda f: (f.number, f.input, f.index))
    result = []
    for position, frame in enumerate(order):
        is_end = position == len(order) - 1
        completes = is_end or order[position + 1].number > frame.number
        flags = (LAST if completes else 0) | (END if is_end else 0)
        result.append((frame, frame.number, flags))
    return result


@given(sent=inputs(), streams=st.integers(1, 3))
def test_the_order_is_that_of_the_model(sent: list[list[Sent]], streams: int) -> None:
    merge = Merge(len(sent))
    for _ in range(streams):
        queues = [list(frames) for frames in sent]
        taken = []
        while any(queues):
            frame = queues[merge.turn].pop(0)
            taken.append((frame, *merge.took(frame.number, frame.flags)))
        assert taken == model(sent)
        assert merge.turn == 0


@given(sent=inputs())
def test_later_inputs_are_those_that_have_frames_for_the_present_number(sent: list[list[Sent]]) -> None:
    merge = Merge(len(sent))
    queues = [list(frames) for frames in sent]
    while any(queues):
        present = min(queue[0].number for queue in queues if queue)
        expected = [i for i, queue in enumerate(queues) if i > merge.turn and queue and queue[0].number == present]
        assert merge.later() == expected
        frame = queues[merge.turn].pop(0)
        merge.took(frame.number, frame.flags)


def test_a_window_is_bounded_by_frames_and_bytes() -> None:
    window = Window(most_frames=4, most_bytes=100, always=2)
    for nbytes in (1000, 1000):  # whatever their size
        assert window.has_room()
        window.enter(nbytes)
    assert not window.has_room()
    window.leave(1000)
    assert window.has_room()
    window.leave(1000)
    for nbytes in (33, 33, 33):
        assert window.has_room()
        window.enter(nbytes)
    assert window.has_room()  # fewer bytes than the most are under way: one more, of any size
    window.enter(1000)
    assert not window.has_room()
    window.leave(33)
    assert not window.has_room()
    window.leave(1000)
    assert window.has_room()


def test_a_window_never_has_more_frames_than_it_is_said_to() -> None:
    window = Window(most_frames=1, most_bytes=100, always=3)
    assert window.has_room()
    window.enter(1)
    assert not window.has_room()


def test_there_is_room_for_as_many_as_are_as_large_as_those_under_way() -> None:
    window = Window(most_frames=10, most_bytes=100, always=3)
    assert window.room() == 10
    for _ in range(2):
        window.enter(20)
    assert window.room() == 3
    window.enter(60)
    assert window.room() == 1  # so that whoever comes first looks for himself
    window = Window(most_frames=4, most_bytes=100, always=3)
    window.enter(1)
    assert window.room() == 3


@st.composite
def runs(draw: st.DrawFn, *, own_sources: bool) -> list[list[Sent]]:
    """For each input, the frames of several streams one after the other. All inputs get every number and end with the
    same one, or, of sources of their own, each ends anywhere; `session` is the number that the stream began with.
    """
    count = draw(st.integers(2, 4))
    found: list[list[Sent]] = [[] for _ in range(count)]
    start = 0
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(0, 3))
        ends = [start + (draw(st.integers(0, 3)) if own_sources else length) for _ in range(count)]
        for each, end in enumerate(ends):
            for number in range(start, end + 1):
                last = LAST | END if number == end else LAST
                frames = draw(st.integers(1, 3))
                session = start if own_sources else 0
                found[each] += [Sent(each, number, i, last if i == frames - 1 else 0, session) for i in range(frames)]
        start = max(ends) + 1
    return found


def check_resumed(sent: list[list[Sent]], crash: int, *, own_sources: bool) -> None:
    """A merge that is resumed after `crash` frames goes on as the one that never stopped."""
    merge = Merge(len(sent))
    queues = [list(frames) for frames in sent]
    last: list[Position | None] = [None] * len(sent)
    total = sum(map(len, sent))
    for _ in range(min(crash, total)):
        turn = merge.turn
        frame = queues[turn].pop(0)
        merge.took(frame.number, frame.flags)
        last[turn] = Position(1, frame.number, frame.index, frame.flags, frame.session, 0, 0)
    resumed = Merge.resumed(last, own_sources=own_sources)
    while any(queues):
        assert resumed.turn == merge.turn
        assert resumed.later() == merge.later()
        frame = queues[merge.turn].pop(0)
        assert frame.number >= resumed.floor
        assert resumed.took(frame.number, frame.flags) == merge.took(frame.number, frame.flags)
    assert resumed.turn == merge.turn == 0


@given(sent=runs(own_sources=False), crash=st.integers(0, 60))
def test_a_merge_goes_on_where_it_was(sent: list[list[Sent]], crash: int) -> None:
    check_resumed(sent, crash, own_sources=False)


def test_what_an_input_has_from_before_is_dropped_by_a_merge_that_goes_on() -> None:
    """Its sender may not know how far everything is out, other than that of the input that is ahead."""
    resumed = Merge.resumed([Position(3, 2, 0, LAST, 0, 2, 0), None], own_sources=False)
    assert (resumed.turn, resumed.floor) == (1, 2)


@example(  # the first input has just ended a stream in which the others have had nothing; they ended the last one apart
    sent=[
        [Sent(0, 0, 0, LAST | END, 0), Sent(0, 4, 0, LAST | END, 4)],
        [*(Sent(1, n, 0, LAST, 0) for n in range(3)), Sent(1, 3, 0, LAST | END, 0), Sent(1, 4, 0, LAST | END, 4)],
        [*(Sent(2, n, 0, LAST, 0) for n in range(2)), Sent(2, 2, 0, LAST | END, 0), Sent(2, 4, 0, LAST | END, 4)],
    ],
    crash=9,
)
@given(sent=runs(own_sources=True), crash=st.integers(0, 60))
def test_a_merge_of_sources_goes_on_where_it_was(sent: list[list[Sent]], crash: int) -> None:
    check_resumed(sent, crash, own_sources=True)
