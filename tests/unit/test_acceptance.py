"""Which frame is the next one, and what of it may be told to the sender, against a model that knows who sent what."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from remotemedia.ipc.acceptance import GENERATION_SHIFT, Acceptance, Verdict


def sequence(generation: int, count: int) -> int:
    return (generation << GENERATION_SHIFT) + count


def take(acceptance: Acceptance, number: int, key: tuple[int, int]) -> Verdict:
    """As a receiver does."""
    verdict = Verdict.NEXT if acceptance.is_next(number) else acceptance.judge(number, key)
    if verdict is Verdict.NEXT:
        acceptance.accept(number, key, is_complete=False)
    return verdict


class Arrival(NamedTuple):
    generation: int
    count: int
    key: int


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """Frames of a sender that dies again and again: each generation begins with some frame that was taken, or with the
    next one; it may send some a second time, and some may come only after the first of its successor.
    """
    found: list[Arrival] = []
    late: list[Arrival] = []
    taken = 0
    for generation in range(draw(st.integers(1, 4))):
        keys = range(draw(st.integers(0, taken)), taken + draw(st.integers(0, 4)))
        frames = [Arrival(generation, count, key) for count, key in enumerate(keys, 1)]
        now = frames[: draw(st.integers(0, len(frames)))]
        if now:
            again = now[draw(st.integers(0, len(now))) :]
            found += [now[0], *late, *now[1:], *again]
            late = frames[len(now) :]
            taken = max(taken, now[-1].key + 1)
    return found


@given(arrived=arrivals())
def test_each_frame_is_taken_once_and_in_order(arrived: list[Arrival]) -> None:
    acceptance = Acceptance(0, None, is_successor=False)
    taken = [
        frame.key
        for frame in arrived
        if take(acceptance, sequence(frame.generation, frame.count), (frame.key, 0)) is Verdict.NEXT
    ]
    assert taken == list(range(len(taken)))
    newest = max((frame.generation for frame in arrived), default=0)
    keys = [frame.key + 1 for frame in arrived if frame.generation == newest]
    assert len(taken) >= max(keys, default=0)


@given(
    acknowledged=st.integers(0, 5),
    ahead=st.lists(st.integers(6, 9), max_size=3),
    start=st.integers(0, 5),
)
def test_a_successor_waits_for_what_is_sent_again(acknowledged: int, ahead: list[int], start: int) -> None:
    """Frames 1 to 9 are in flight; new ones reach the successor before those that the predecessor had taken."""
    acceptance = Acceptance(sequence(0, acknowledged), (acknowledged, 0), is_successor=True)
    early = [take(acceptance, sequence(0, count), (count, 0)) for count in sorted(ahead) if count > acknowledged + 1]
    assert set(early) <= {Verdict.EARLY}
    verdicts = [take(acceptance, sequence(0, count), (count, 0)) for count in range(min(start, acknowledged) + 1, 10)]
    assert verdicts.count(Verdict.NEXT) == 9 - acknowledged
    assert verdicts[-(9 - acknowledged) :] == [Verdict.NEXT] * (9 - acknowledged)


def test_a_gap_is_noticed() -> None:
    acceptance = Acceptance(0, None, is_successor=False)
    assert take(acceptance, 1, (0, 0)) is Verdict.NEXT
    assert take(acceptance, 3, (2, 0)) is Verdict.MISSING


@given(
    had=st.integers(1, 6),
    remade=st.integers(0, 6),
    finished=st.lists(st.integers(1, 6), max_size=4),
    new=st.integers(0, 3),
)
def test_remade_frames_are_acknowledged_as_those_that_they_stand_for(
    had: int, remade: int, finished: list[int], new: int
) -> None:
    """Frames 1 to `had` were taken; the next generation makes as many again, and new ones; frames are finished with, up
    to some number each time, before, between and after.
    """
    acceptance = Acceptance(0, None, is_successor=False)
    for count in range(1, had + 1):
        take(acceptance, sequence(0, count), (count, 0))
    done = sorted({count for count in finished if count <= had})
    before, after = done[: len(done) // 2], done[len(done) // 2 :]
    for count in before:
        assert acceptance.acknowledge(sequence(0, count), (count, 0)) == sequence(0, count)
    made = min(remade, had)
    for count in range(1, made + 1):
        assert take(acceptance, sequence(1, count), (count, 0)) is Verdict.REMADE
        stands_for_finished = count <= max(before, default=0)
        assert (acceptance.acknowledged == sequence(1, count)) == stands_for_finished
    if made == had:
        for count in range(had + 1, had + new + 1):
            assert take(acceptance, sequence(1, count), (count, 0)) is Verdict.NEXT
    for count in after:
        told = acceptance.acknowledge(sequence(0, count), (count, 0))
        assert told == (sequence(1, min(count, made)) if made else sequence(0, count))


def test_nothing_comes_behind_the_end_of_a_number() -> None:
    acceptance = Acceptance(0, None, is_successor=False)
    acceptance.accept(1, (0, 0), is_complete=True)
    assert acceptance.judge(sequence(1, 1), (0, 9)) is Verdict.REMADE
    assert acceptance.acknowledge(1, (0, 0)) == sequence(1, 1)
    assert acceptance.judge(sequence(1, 2), (1, 0)) is Verdict.NEXT
    successor = Acceptance(sequence(1, 1), (0, 0), is_successor=True, is_complete=True)
    assert successor.judge(sequence(2, 1), (0, 9)) is Verdict.REMADE
