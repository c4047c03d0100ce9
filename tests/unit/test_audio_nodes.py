"""Audio nodes: sample-exact lengths and times, the same sound however the stream is cut, and the standards' numbers."""

from __future__ import annotations

import pickle
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.nodes import dsp
from remotemedia.nodes.audio import Chunk, EnergyVad, Gain, Resample, ToMono
from remotemedia.nodes.loudness import Loudness, gated_loudness
from remotemedia.testing.sources import sine

PICTURE = VideoFrame(array=np.zeros((2, 2, 3), np.uint8))


def run(node, frames):
    """All outputs, flush included."""
    node.initialize()
    outputs = []
    for result in [*map(node.process, frames), node.flush()]:
        outputs += [] if result is None else [result] if isinstance(result, AudioFrame) else list(result)
    return outputs


def cut(samples, rate, sizes, start=0):
    """The samples as frames of the sizes given, over and over, with right pts."""
    frames, at, turn = [], 0, 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        part = samples[at : at + size]
        frames.append(AudioFrame(array=part, pts=start + at, time_base=Fraction(1, rate), sample_rate=rate))
        at, turn = at + size, turn + 1
    return frames


def joined(frames):
    return np.concatenate([f.array for f in frames])


def noise(count, channels=2, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal((count, channels))).astype(np.float32)


def assert_gapless(frames):
    expected = frames[0].time_s
    for f in frames:
        assert f.time_s == pytest.approx(expected, abs=1e-9)
        expected += f.duration_s


cuts = st.lists(st.integers(1, 3000), min_size=1, max_size=5)
rates = st.sampled_from([8000, 16000, 22050, 44100, 48000])


# -- resampling ------------------------------------------------------------------------------------------------------


@given(rates, rates, st.integers(1, 9000), cuts)
@settings(max_examples=60, deadline=None)
def test_resample_is_exact_in_length_and_does_not_depend_on_frame_sizes(rate_in, rate_out, count, sizes):
    samples = noise(count)
    whole = joined(run(Resample(rate_out), cut(samples, rate_in, [count])))
    parts = run(Resample(rate_out), cut(samples, rate_in, sizes))
    assert len(whole) == ceil(Fraction(count * rate_out, rate_in))
    assert np.array_equal(joined(parts), whole)
    assert {f.sample_rate for f in parts} == {rate_out}
    assert_gapless(parts)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 44100), (44100, 48000), (48000, 16000), (16000, 48000)])
def test_resampled_sine_is_the_sine_at_the_other_rate(rate_in, rate_out):
    frequency = 0.4 * min(rate_in, rate_out)
    out = joined(run(Resample(rate_out), sine(frequency, sample_rate=rate_in, level_db=-6, seconds=1)))
    ideal = joined(list(sine(frequency, sample_rate=rate_out, level_db=-6, seconds=1)))
    error = (out - ideal)[1000:-1000]
    assert 10 * np.log10(np.mean(error**2) / np.mean(ideal**2)) < -90


def test_what_lies_above_the_new_nyquist_frequency_does_not_come_back_as_an_alias():
    out = joined(run(Resample(16000), sine(8200, sample_rate=48000, level_db=0, seconds=1)))[1000:-1000]
    assert 10 * np.log10(np.mean(out**2) / 0.5) < -85


def test_resample_keeps_the_start_time_and_restarts_after_a_gap():
    first = cut(noise(4800), 48000, [1000], start=96000)
    second = cut(noise(4800), 48000, [1000], start=96000 + 48000)
    outs = run(Resample(16000), [*first, *second])
    later = [f for f in outs if f.time_s >= 3]
    assert outs[0].time_s == 2.0
    assert later[0].time_s == 3.0
    assert len(joined(later)) == len(joined(outs)) - len(joined(later)) == 1600
    assert_gapless(later)


def test_rounded_time_stamps_are_no_gaps():
    frames = [
        AudioFrame(array=noise(1024), pts=round(n * 1024 / 44.1), time_base=Fraction(1, 1000), sample_rate=44100)
        for n in range(50)
    ]
    outs = run(Resample(48000), frames)
    assert len(joined(outs)) == ceil(50 * 1024 * 48000 / 44100)
    assert_gapless(outs)


def test_sound_that_has_the_rate_already_passes_and_a_change_of_rate_is_followed():
    same = cut(noise(100), 48000, [100])[0]
    assert run(Resample(48000), [same]) == [same]
    other = cut(noise(441), 44100, [441], start=44100)
    outs = run(Resample(48000), [*other, cut(noise(480), 48000, [480], start=96000)[0]])
    assert [len(joined(outs[:-1])), len(outs[-1].array)] == [480, 480]


# -- gain, mono, chunks ----------------------------------------------------------------------------------------------


def test_gain_multiplies_and_takes_int16():
    frame = AudioFrame(array=np.array([[16384], [-32768]], np.int16), pts=3, sample_rate=8000)
    out = Gain(-20).process(frame)
    assert out.array.dtype == np.float32
    assert np.allclose(out.array, [[0.05], [-0.1]])
    assert (out.pts, out.sample_rate) == (3, 8000)


def test_mono_is_the_mean_of_the_channels():
    array = noise(10, 6)
    out = ToMono().process(AudioFrame(array=array))
    assert out.array.shape == (10, 1)
    assert np.allclose(out.array[:, 0], array.mean(axis=1), atol=1e-7)
    assert ToMono().process(AudioFrame(array=array[:, 0])).array.shape == (10, 1)


@given(st.integers(1, 5000), cuts)
@settings(max_examples=60, deadline=None)
def test_chunks_are_equal_but_for_the_last_and_lose_nothing(count, sizes):
    samples = noise(count)
    outs = run(Chunk(20), cut(samples, 16000, sizes, start=1600))
    assert [len(f.array) for f in outs[:-1]] == [320] * (len(outs) - 1)
    assert 1 <= len(outs[-1].array) <= 320
    assert np.array_equal(joined(outs), samples)
    assert outs[0].time_s == 0.1
    assert_gapless(outs)


def test_a_gap_ends_a_chunk():
    outs = run(Chunk(20), [*cut(noise(500), 16000, [500]), *cut(noise(320), 16000, [320], start=16000)])
    assert [(f.time_s, len(f.array)) for f in outs] == [(0.0, 320), (0.02, 180), (1.0, 320)]


# -- loudness --------------------------------------------------------------------------------------------------------


def test_k_weighting_at_48_khz_has_the_coefficients_of_the_recommendation():
    shelf, high_pass = dsp.k_weighting(48000)
    assert shelf[0] == pytest.approx((1.53512485958697, -2.69169618940638, 1.19839281085285), abs=1e-8)
    assert shelf[1] == pytest.approx((-1.69065929318241, 0.73248077421585), abs=1e-8)
    assert high_pass[0] == (1.0, -2.0, 1.0)
    assert high_pass[1] == pytest.approx((-1.99004745483398, 0.99007225036621), abs=1e-8)


@pytest.mark.parametrize("rate", [16000, 44100, 48000, 96000])
def test_a_full_scale_sine_of_997_hz_in_one_channel_measures_minus_3_01_lkfs(rate):
    outs = run(Loudness(-23), sine(997, sample_rate=rate, level_db=0, seconds=2))
    assert outs[-1].metadata["loudness_lufs"] == pytest.approx(-3.01, abs=0.05)


def test_block_convolution_equals_the_recursive_filter():
    samples = noise(3000, 1)[:, 0].astype(float)
    expected = samples
    for (b0, b1, b2), (a1, a2) in dsp.k_weighting(48000):
        out, x1, x2, y1, y2 = [], 0.0, 0.0, 0.0, 0.0
        for x in expected:
            y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
            x1, x2, y1, y2 = x, x1, y, y1
            out.append(y)
        expected = np.array(out)
    convolve = dsp.BlockConvolution(dsp.k_response(48000), 1)
    found = np.concatenate([convolve(samples[i : i + 700, None]) for i in range(0, 3000, 700)])
    assert np.abs(found[:, 0] - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("level", [-40.0, -30.0, -10.0])
def test_loudness_reaches_its_target(level):
    node = Loudness(-20, max_gain_db=30)
    outs = run(node, sine(997, channels=2, level_db=level, seconds=8))
    assert sum(len(f.array) for f in outs) == 8 * 48000
    measured = run(Loudness(), outs[len(outs) // 2 :])[-1].metadata["loudness_lufs"]
    assert measured == pytest.approx(-20, abs=0.1)


@given(st.lists(st.integers(50, 9000), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_loudness_does_not_depend_on_frame_sizes(sizes):
    steps = np.repeat([0.02, 0.3, 0.0, 0.1], 12000)[:, None].astype(np.float32)
    samples = noise(48000, level=1.0) * steps
    whole = joined(run(Loudness(), cut(samples, 48000, [48000])))
    parts = joined(run(Loudness(), cut(samples, 48000, sizes)))
    assert np.abs(parts - whole).max() < 1e-5


def test_loudness_never_exceeds_its_ceiling_nor_amplifies_silence_without_end():
    silence = np.zeros((96000, 2), np.float32)
    burst = noise(24000, level=0.5)
    outs = run(Loudness(-6, ceiling_db=-3), cut(np.concatenate([silence, burst]), 48000, [1024]))
    assert np.abs(joined(outs)).max() <= 10 ** (-3 / 20) + 1e-6
    assert outs[50].metadata["loudness_lufs"] is None
    assert outs[50].metadata["gain_db"] == 0.0


def test_gain_changes_without_a_click():
    outs = joined(run(Loudness(-14), sine(50, level_db=-30, seconds=3)))[:, 0]
    slope = np.abs(np.diff(outs)).max()
    assert slope < 1.2 * np.abs(outs).max() * 2 * np.pi * 50 / 48000


def test_the_gain_falls_fast_and_rises_slowly():
    """A sudden loud passage is caught within a second; a quiet one comes up over the window."""
    quiet, loud = (sound for sound in (list(sine(997, level_db=db, seconds=6)) for db in (-40, -15)))
    samples = np.concatenate([joined(quiet), joined(loud), joined(quiet)])
    outs = run(Loudness(-23, max_gain_db=40), cut(samples, 48000, [4800]))
    gains = [f.metadata["gain_db"] for f in outs]
    after_the_rise, after_the_fall = gains[61:], gains[121:]
    full_way = gains[58] - min(gains)
    assert gains[58] - after_the_rise[10] > 0.95 * full_way
    assert after_the_fall[10] - min(gains) < 0.3 * full_way
    assert gains[-1] - min(gains) > 0.7 * full_way


def test_gates_leave_out_silence_and_quiet_passages():
    loud, quiet = 0.1, 0.1 * 10**-3
    level = gated_loudness([loud] * 8)
    assert level == pytest.approx(-0.691 - 10)
    assert gated_loudness([loud] * 8 + [quiet] * 8) > level - 1.5
    assert gated_loudness([1e-9] * 8) is None
    assert gated_loudness([0.0]) is None


# -- voice activity --------------------------------------------------------------------------------------------------


def test_vad_marks_bursts_with_a_hangover():
    samples = noise(48000, 1, level=0.001)
    samples[16000:24000] += noise(8000, 1, level=0.2)
    frames = cut(samples, 16000, [320])
    outs = run(EnergyVad(hangover_s=0.1), frames)
    speech = [f.metadata["speech"] for f in outs]
    assert speech == [False] * 50 + [True] * (25 + 5) + [False] * (len(frames) - 80)
    kept = run(EnergyVad(hangover_s=0.1, drop_silence=True), frames)
    assert [f.pts for f in kept] == [f.pts for f in frames[50:80]]


def test_vad_gets_used_to_a_steady_noise():
    # The floor rises by 1 dB per second: noise of -40 dBFS over a floor of -50 counts for a while, then no more.
    outs = run(EnergyVad(minimum_db=-50, margin_db=9, hangover_s=0), cut(noise(64000, 1, level=0.01), 16000, [1600]))
    speech = [f.metadata["speech"] for f in outs]
    assert speech[0]
    assert not any(speech[20:])


# -- all of them -----------------------------------------------------------------------------------------------------

ALL = [Gain(3), ToMono(), Resample(16000), Chunk(10), EnergyVad(), Loudness()]


@pytest.mark.parametrize("node", ALL, ids=repr)
def test_pictures_pass_or_are_dropped(node):
    assert node.process(PICTURE) is PICTURE
    assert type(node)(**{**node.config, "other": "drop"}).process(PICTURE) is None


@pytest.mark.parametrize("node", ALL, ids=repr)
def test_nodes_leave_their_input_alone_and_give_the_same_after_travelling(node):
    samples = noise(20000)
    samples.flags.writeable = False
    before = samples.copy()
    frames = cut(samples, 48000, [1024])
    first = joined(run(node, frames))
    assert np.array_equal(samples, before)
    node.cleanup()
    node.cleanup()
    assert not node.is_initialized
    assert np.array_equal(joined(run(pickle.loads(pickle.dumps(node)), frames)), first)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Gain("loud"), "decibels"),
        (lambda: Resample(0), "1000 to 768000"),
        (lambda: Chunk(0), "duration_ms=0"),
        (lambda: Loudness(3), "target_lufs=3"),
        (lambda: Loudness(window_s=0.01), "window_s"),
        (lambda: EnergyVad(margin_db=0), "margin_db"),
    ],
)
def test_bad_settings_say_what_was_expected(make, part):
    with pytest.raises(ConfigurationError, match=part):
        make()


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2), np.float32), np.zeros((2, 2), np.int64)])
def test_what_is_no_sound_is_refused(array):
    with pytest.raises(ValueError, match="float32 or int16"):
        Gain().process(AudioFrame(array=array))
    with pytest.raises(TypeError, match="takes AudioFrames, not ndarray"):
        Gain().process(array)
