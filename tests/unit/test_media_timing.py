"""The pure parts of sync and mixing: what they promise, for streams of any shape."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotemedia.core.pixel_formats import PIXEL_FORMATS
from remotemedia.nodes.fitting import fitted
from remotemedia.nodes.mixer import Mixer
from remotemedia.nodes.timing import RateHold, SampleHold, TimeMerge

fast = settings(max_examples=80, deadline=None)
times = st.lists(st.integers(0, 200), max_size=25).map(sorted)


# -- merging ---------------------------------------------------------------------------------------------------------


@given(st.lists(times, min_size=1, max_size=4), st.randoms(use_true_random=False))
@fast
def test_merged_streams_are_in_order_and_complete_however_they_arrive(streams, random):
    merge, found = TimeMerge(len(streams), Fraction(1000)), []
    waiting = {number: list(stream) for number, stream in enumerate(streams) if stream}
    while waiting:
        number = random.choice(sorted(waiting))
        time = waiting[number].pop(0)
        found += merge.push(number, Fraction(time, 10), (time, number))
        waiting = {key: rest for key, rest in waiting.items() if rest}
    found += merge.finish()
    assert [time for time, _ in found] == sorted(time for stream in streams for time in stream)
    for number, stream in enumerate(streams):
        assert [time for time, of in found if of == number] == stream
    assert merge.late == 0


def test_a_silent_stream_is_waited_for_as_long_as_said():
    merge = TimeMerge(2, Fraction(1))
    assert merge.push("a", Fraction(0), "a0") == []
    assert merge.push("a", Fraction(1), "a1") == ["a0"]
    assert merge.push("a", Fraction(5, 2), "a2") == ["a1"]
    assert merge.push("b", Fraction(1, 2), "late") == []
    assert merge.late == 1
    assert merge.push("b", Fraction(2), "b2") == ["b2"]
    assert merge.push("b", Fraction(3), "b3") == ["a2"]
    assert merge.finish() == ["b3"]


def test_items_of_the_same_time_come_in_the_order_of_their_arrival():
    merge = TimeMerge(2, Fraction(1))
    assert merge.push("a", Fraction(1), "a") == []
    assert merge.push("b", Fraction(1), "b") == ["a", "b"]


# -- pictures at a constant rate -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40).map(sorted), st.sampled_from([10, 25, 30]))
@fast
def test_pictures_at_a_rate_have_no_holes_and_are_the_nearest(stamps, rate):
    hold = RateHold(Fraction(rate), Fraction(100))
    shown = [out for n, stamp in enumerate(stamps) for out in hold.push(Fraction(stamp, 100), n)] + hold.finish()
    ticks = [tick for tick, _ in shown]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    nearest = [round(Fraction(stamp * rate, 100)) for stamp in stamps]
    assert (ticks[0], ticks[-1]) == (nearest[0], nearest[-1])
    for tick, n in shown:  # the last picture that belongs to the tick, or to one before
        assert n == max(k for k, own in enumerate(nearest) if own <= tick)
    assert len(shown) == len(stamps) - hold.dropped + hold.duplicated


def test_long_gaps_are_left_and_going_back_is_dropped():
    hold = RateHold(Fraction(10), Fraction(1))
    shown = [*hold.push(Fraction(0), "a"), *hold.push(Fraction(5), "b"), *hold.push(Fraction(4), "c"), *hold.finish()]
    assert shown == [(0, "a"), (50, "b")]
    assert (hold.dropped, hold.duplicated) == (1, 0)


# -- sound without gaps ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-300, 300), st.integers(1, 200)), min_size=1, max_size=30), st.integers(0, 100))
@fast
def test_sound_is_gapless_and_within_the_tolerance(frames, tolerance):
    hold = SampleHold(tolerance, 10_000)
    clock, end = 1000, None
    for jitter, count in frames:
        start = clock + jitter
        begin, silence, skip = hold.push(start, count)
        assert end is None or begin == end
        assert 0 <= skip <= count
        if skip < count:  # where the frame's first used sample lies, against where it should
            assert abs((begin + silence) - (start + skip)) <= tolerance
        end = begin + silence + count - skip
        clock += count
    assert hold.position == end


def test_sound_without_time_follows_and_long_gaps_are_jumped_over():
    hold = SampleHold(10, 1000)
    assert hold.push(500, 100) == (500, 0, 0)
    assert hold.push(None, 100) == (600, 0, 0)
    assert hold.push(705, 100) == (700, 0, 0)
    assert hold.push(900, 100) == (800, 100, 0)
    assert hold.push(5000, 100) == (5000, 0, 0)
    assert (hold.silence, hold.cut) == (100, 0)


# -- mixing ----------------------------------------------------------------------------------------------------------

tracks = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 2000), st.floats(0.125, 2)), min_size=1, max_size=4)


@given(tracks, st.lists(st.integers(1, 400), min_size=1, max_size=4), st.randoms(use_true_random=False))
@fast
def test_a_mix_is_the_sum_however_the_streams_are_cut_and_interleaved(tracks, sizes, random):
    mixer, parts = Mixer(len(tracks), 2, 10**9), []
    sounds = [np.random.default_rng(n).standard_normal((count, 2)).astype(np.float32) for n, (_, count, _) in
              enumerate(tracks)]  # fmt: skip
    done = dict.fromkeys(range(len(tracks)), 0)
    while done:
        number = random.choice(sorted(done))
        start, count, gain = tracks[number]
        part = sounds[number][done[number] : done[number] + random.choice(sizes)]
        mixer.push(number, start + done[number], part, gain)
        done[number] += len(part)
        if done[number] >= count:
            del done[number]
        if mixer.ready:
            parts.append(mixer.take(random.randint(1, mixer.ready)))
    while mixer.rest:
        parts.append(mixer.take(min(mixer.rest, 77)))
    first, end = min(t[0] for t in tracks), max(t[0] + t[1] for t in tracks)
    expected = np.zeros((end - first, 2), np.float64)
    for (start, count, gain), sound in zip(tracks, sounds, strict=True):
        expected[start - first : start - first + count] += sound * np.float32(gain)
    assert parts[0][0] == first
    assert np.allclose(np.concatenate([part for _, part in parts]), expected, atol=1e-4)
    for (start, part), (following, _) in itertools.pairwise(parts):
        assert start + len(part) == following
    assert mixer.late == 0


def test_an_input_that_stays_behind_is_not_waited_for_and_what_is_too_late_is_left_out():
    mixer, one = Mixer(2, 1, 100), np.ones((50, 1), np.float32)
    for n in range(4):
        mixer.push(0, n * 50, one)
    assert mixer.ready == 100
    assert mixer.take(100)[0] == 0
    mixer.push(1, 80, one)
    assert mixer.late == 20
    start, rest = mixer.take(mixer.rest)
    assert (start, rest[:, 0].tolist()) == (100, [2.0] * 30 + [1.0] * 70)


def test_an_input_that_overlaps_itself_counts_once():
    mixer, one = Mixer(1, 1, 1000), np.ones((50, 1), np.float32)
    mixer.push(0, 0, one)
    mixer.push(0, 30, 5 * one)
    mixer.push(0, None, one)
    assert mixer.take(mixer.rest)[1][:, 0].tolist() == [1.0] * 50 + [5.0] * 30 + [1.0] * 50


# -- fitting ---------------------------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 80).map(lambda n: 2 * n), st.integers(1, 80).map(lambda n: 2 * n))


@given(st.sampled_from(["contain", "cover"]), sizes, sizes, st.sampled_from(["rgb24", "yuv420p", "yuyv422"]))
@fast
def test_a_fitted_picture_keeps_its_proportions_and_lies_in_the_middle(fit, source, target, name):
    known = PIXEL_FORMATS[name]
    found = fitted(fit, source, target, known)
    whole, part = (found.source, found.target) if fit == "contain" else (found.target, found.source)
    inner, outer = (source, target) if fit == "contain" else (target, source)
    assert whole.whole
    assert (whole.width, whole.height) == inner
    assert part.width == outer[0] or part.height == outer[1]
    assert part.whole == ((part.width, part.height) == outer)
    across, down = known.multiples()
    for at, size, full, step in ((part.x, part.width, outer[0], across), (part.y, part.height, outer[1], down)):
        assert at >= 0
        assert at + size <= full
        assert at % step == size % step == 0
        assert abs(at - (full - size - at)) <= 2 * step  # as much on both sides
    flat = inner[0] * outer[1] > outer[0] * inner[1]
    exact = outer[0] * inner[1] / inner[0] if flat else outer[1] * inner[0] / inner[1]
    got, step = (part.height, down) if flat else (part.width, across)
    assert abs(got - exact) <= step


def test_stretch_is_all_of_both():
    found = fitted("stretch", (4, 6), (10, 2), PIXEL_FORMATS["rgb24"])
    assert (found.source.whole, found.target.whole) == (True, True)


@pytest.mark.parametrize("fit", ["contain", "cover"])
def test_equal_proportions_need_no_bars_and_no_cut(fit):
    found = fitted(fit, (64, 48), (32, 24), PIXEL_FORMATS["rgb24"])
    assert (found.source.whole, found.target.whole) == (True, True)
