"""When a worker owes a sign of life; the clock is an argument."""

from __future__ import annotations

import pytest

from remotemedia.config import Timeouts
from remotemedia.workers.diagnose import ProcessFacts
from remotemedia.workers.watch import Concern, Signs, Watch

TIMEOUTS = Timeouts(heartbeat_s=1.0, unresponsive_warn_s=5.0, unresponsive_s=30.0, frame_timeout_s=8.0)
PATIENT = Timeouts(heartbeat_s=1.0, unresponsive_warn_s=5.0, unresponsive_s=30.0)


def signs(beats: int = 0, frame: int | None = None, calls: int = 0, *, waits: bool = False) -> Signs:
    return Signs(beats, frame, calls, waits)


def silence(seconds: int, timeouts: Timeouts = PATIENT) -> Watch:
    """A worker that shows nothing from 100 s on, looked at each second."""
    watch = Watch(timeouts, signs(), 100.0)
    for second in range(1, seconds + 1):
        watch.look(100.0 + second, signs())
    return watch


@pytest.mark.parametrize(
    ("seconds", "concern"),
    [
        (0, Concern.NONE),
        (2, Concern.NONE),
        (3, Concern.SUSPECT),
        (4, Concern.SUSPECT),
        (5, Concern.STALLED),
        (29, Concern.STALLED),
        (30, Concern.UNRESPONSIVE),
        (90, Concern.UNRESPONSIVE),
    ],
)
def test_silence(seconds: int, concern: Concern) -> None:
    watch = silence(seconds)
    assert (watch.concern, watch.silent_s) == (concern, seconds)


def test_a_silence_is_told_of_once_until_it_is_over() -> None:
    watch = silence(6)
    watch.told()
    watch.earlier = 103.0, ProcessFacts(state="S", cpu_s=0.0)
    assert watch.concern is Concern.SUSPECT
    assert watch.look(107.0, signs(beats=1))
    assert (watch.concern, watch.silent_s, watch.earlier) == (Concern.NONE, 0.0, None)
    assert not watch.look(108.0, signs(beats=2))
    assert not watch.look(113.0, signs(beats=2))
    assert watch.concern is Concern.STALLED


def test_a_beat_after_an_untold_silence_is_no_news() -> None:
    assert not silence(4).look(105.0, signs(beats=1))


def test_beats_that_count_down_or_jump_are_beats() -> None:
    watch = silence(4)
    watch.look(105.0, signs(beats=2**64 - 1))
    watch.look(106.0, signs(beats=0))
    assert watch.silent_s == 0.0


@pytest.mark.parametrize("seconds", [4, 20, 40])
def test_when_we_were_late_ourselves_the_clocks_start_again(seconds: int) -> None:
    watch = silence(seconds, TIMEOUTS)
    watch.look(200.0, signs(frame=1), grace=True)
    assert (watch.concern, watch.silent_s, watch.frame_s) == (Concern.NONE, 0.0, 0.0)


def test_a_debugger_stops_the_clock_of_the_kill_but_not_that_of_the_warning() -> None:
    watch = Watch(TIMEOUTS, signs(frame=1), 0.0)
    for second in range(1, 100):
        watch.look(float(second), signs(frame=1))
        watch.hold()
    assert watch.concern is Concern.STALLED
    watch.told()
    for second in range(100, 107):
        watch.look(float(second), signs(frame=1))
    assert watch.concern is Concern.SUSPECT
    watch.look(107.0, signs(frame=1))
    assert watch.concern is Concern.OVERTIME


def beating(*frames: Signs) -> Watch:
    """A look each second at a worker whose heart beats."""
    watch = Watch(TIMEOUTS, frames[0], 0.0)
    for second, shown in enumerate(frames[1:], 1):
        watch.look(float(second), shown._replace(beats=second))
    return watch


def test_a_frame_that_takes_too_long() -> None:
    assert beating(*[signs(frame=4)] * 8).concern is Concern.NONE
    watch = beating(*[signs(frame=4)] * 9)
    assert (watch.concern, watch.frame_s) == (Concern.OVERTIME, 8.0)


@pytest.mark.parametrize(
    "broken_by", [signs(frame=None), signs(frame=5), signs(frame=4, calls=1), signs(frame=4, waits=True)]
)
def test_what_ends_the_time_of_a_frame(broken_by: Signs) -> None:
    watch = beating(*[signs(frame=4)] * 6, broken_by, *[signs(frame=4)] * 5)
    assert watch.concern is Concern.NONE
    assert watch.frame_s <= 5.0


def test_a_slow_frame_is_told_of_once_and_the_next_one_again() -> None:
    watch = Watch(Timeouts(frame_warn_s=3.0, frame_timeout_s=8.0), signs(frame=4), 0.0)
    shown = [*[(second, 4) for second in range(1, 8)], *[(second, 5) for second in range(8, 20)]]
    told = []
    for second, frame in shown:
        watch.look(float(second), signs(beats=second, frame=frame))
        if watch.concern is Concern.SLOW:
            watch.told_slow()
            told.append((second, watch.frame_s))
    assert told == [(3, 3.0), (11, 3.0)]
    assert watch.concern is Concern.OVERTIME


def test_a_slow_frame_without_a_timeout_is_never_more_than_told_of() -> None:
    watch = Watch(Timeouts(frame_warn_s=3.0), signs(frame=4), 0.0)
    for second in range(1, 1000):
        watch.look(float(second), signs(beats=second, frame=4))
        assert watch.concern in {Concern.NONE, Concern.SLOW}
    assert watch.concern is Concern.SLOW


def test_silence_is_graver_than_a_slow_frame() -> None:
    watch = Watch(TIMEOUTS, signs(frame=4), 0.0)
    watch.look(40.0, signs(frame=4))
    assert watch.concern is Concern.UNRESPONSIVE


def test_without_a_frame_timeout_a_frame_may_take_for_ever() -> None:
    watch = Watch(PATIENT, signs(frame=4), 0.0)
    for second in range(1, 1000):
        watch.look(float(second), signs(beats=second, frame=4))
    assert watch.concern is Concern.NONE
