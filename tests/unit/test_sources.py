"""Synthetic sources."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.testing.sources import colour_bars, moving_box, sine, swelling_tone


def test_colour_bars_are_seven_bars_in_the_classic_order():
    frames = list(colour_bars(70, 10, fps=25, seconds=0.2))
    assert [f.pts for f in frames] == [0, 1, 2, 3, 4]
    assert {f.time_base for f in frames} == {Fraction(1, 25)}
    colours = frames[0].array[5, 5::10].tolist()
    assert colours[0] == [191, 191, 191]
    assert [sum(c) for c in colours[1:]] == [382, 382, 191, 382, 191, 191]
    assert not frames[0].array.flags.writeable


def test_the_box_is_where_its_metadata_says_and_goes_round_in_four_seconds():
    frames = list(moving_box(160, 120, fps=10, seconds=4.1))
    for f in frames:
        x, y, w, h = f.metadata["box"]
        assert (f.array[y : y + h, x : x + w] == (240, 200, 40)).all()
        assert (f.array == (240, 200, 40)).all(axis=2).sum() == w * h == 24 * 24
    assert frames[40].metadata["box"] == frames[0].metadata["box"] != frames[20].metadata["box"]


def test_noise_is_bounded_and_the_same_for_the_same_seed():
    clean, first, again, other = (
        next(moving_box(64, 48, noise=n, seed=s)).array for n, s in ((0, 0), (15, 1), (15, 1), (15, 2))
    )
    deviation = first.astype(int) - clean
    assert (deviation.min(), deviation.max()) == (-15, 15)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_sine_has_its_frequency_level_and_exact_length_across_frames():
    frames = list(sine(1000, sample_rate=48000, channels=2, level_db=-6, seconds=1.01))
    samples = np.concatenate([f.array for f in frames])
    assert samples.shape == (48480, 2)
    assert [f.pts for f in frames] == list(range(0, 48480, 1024))
    spectrum = np.abs(np.fft.rfft(samples[:48000, 1]))
    assert int(spectrum.argmax()) == 1000
    assert np.abs(samples).max() == pytest.approx(10 ** (-6 / 20), rel=1e-3)


def test_the_swelling_tone_steps_through_its_levels():
    samples = np.concatenate([f.array for f in swelling_tone(8000, seconds=6)])
    peaks = [20 * np.log10(np.abs(samples[n * 16000 : (n + 1) * 16000]).max()) for n in range(3)]
    assert peaks == pytest.approx([-36, -14, -26], abs=0.1)


def test_sources_without_an_end_go_on():
    for source in (colour_bars(8, 8), moving_box(8, 8, size=2), sine(), swelling_tone()):
        assert len(list(islice(source, 40))) == 40


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: colour_bars(0, 8), "width=0"),
        (lambda: colour_bars(8, 8, seconds=-1), "seconds=-1"),
        (lambda: moving_box(8, 8, size=9), "box within the picture"),
        (lambda: moving_box(8, 8, size=2, noise=16), "noise 0 to 15"),
        (lambda: sine(frequency=0), "frequency=0"),
    ],
)
def test_bad_settings_say_what_was_expected(make, part):
    with pytest.raises(ConfigurationError, match=part):
        next(make())
