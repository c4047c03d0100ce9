"""Label, Interleave, Sync and Mix on typed frames."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from remotemedia import run_pipeline
from remotemedia.core.exceptions import ConfigurationError, NodeProcessError
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.nodes import Interleave, Label, MediaFileSink, MediaFileSource, Mix, Sync
from remotemedia.testing.sources import colour_bars, sine


def picture(time_s, level=0, size=(4, 4)):
    array = np.full((*size, 3), level, np.uint8)
    return VideoFrame(array=array, pts=round(time_s * 1000), metadata={"level": level})


def sound(start_s, count=480, level=0.0, rate=48000, channels=1):
    array = np.full((count, channels), level, np.float32)
    return AudioFrame(array=array, pts=round(start_s * rate), time_base=Fraction(1, rate), sample_rate=rate)


def labelled(frames, stream):
    return [replace(f, metadata={**f.metadata, "stream": stream}) for f in frames]


def joined(frames):
    return np.concatenate([f.array for f in frames])


# -- in order --------------------------------------------------------------------------------------------------------


def test_streams_are_told_apart_by_kind_and_by_label():
    one, two = labelled(sine(seconds=0.2), "one"), labelled(sine(seconds=0.2), "two")
    pictures = list(colour_bars(8, 4, fps=25, seconds=0.2))
    merged = run_pipeline([Interleave(3)], [*pictures, *two, *one])
    assert [f.time_s for f in merged] == sorted(f.time_s for f in merged)
    assert len(merged) == len(one) + len(two) + len(pictures)


def test_late_frames_are_left_out_and_counted():
    frames = [picture(0), picture(5), sound(1), sound(6), picture(7)]
    merged = run_pipeline([Interleave(max_wait_s=2)], frames)
    assert [f.time_s for f in merged] == [0, 1, 5, 6, 7]
    merged = run_pipeline([Interleave(max_wait_s=2)], [picture(0), picture(2.5), picture(5), sound(1), sound(6)])
    assert [f.time_s for f in merged] == [0, 2.5, 5, 6]
    assert merged[-1].metadata["sync"].late == 1


def test_a_label_goes_to_every_kind_of_frame():
    assert run_pipeline([Label("door")], [picture(0, 3)])[0].metadata == {"level": 3, "stream": "door"}


# -- in sync ---------------------------------------------------------------------------------------------------------


def test_missing_pictures_are_repeated_and_surplus_ones_dropped():
    times = [0, 0.04, 0.08, 0.2, 0.21, 0.24, 0.31]  # two missing after 0.08, one too many at 0.2, jitter at the end
    held = run_pipeline([Sync(25)], [picture(t, n) for n, t in enumerate(times)])
    assert [f.time_s for f in held] == pytest.approx([n / 25 for n in range(9)])
    assert [f.metadata["level"] for f in held] == [0, 1, 2, 2, 2, 4, 5, 5, 6]
    counts = held[-1].metadata["sync"]
    assert (counts.dropped, counts.duplicated) == (1, 3)
    assert {f.metadata["frame_rate"] for f in held} == {25}


def test_sound_is_filled_cut_and_left_alone_within_the_tolerance():
    frames = [sound(0, level=1), sound(0.011, level=2), sound(0.2, level=3), sound(0.11, level=4), sound(0.22, level=5)]
    held = run_pipeline([Sync(tolerance_s=0.02)], frames)
    found, at = joined(held)[:, 0], 0
    for f in held:
        assert f.pts == at
        at += len(f.array)
    expected = np.concatenate([np.full(480, 1), np.full(480, 2), np.zeros(8640), np.full(480, 3), np.full(480, 5)])
    assert np.array_equal(found, expected)
    counts = held[-1].metadata["sync"]
    assert (counts.silence, counts.cut) == (8640, 480)


def test_sound_and_picture_that_come_in_bursts_leave_in_order():
    pictures, sounds = list(colour_bars(8, 4, fps=25, seconds=1)), list(sine(seconds=1))
    held = run_pipeline([Sync(25)], [*pictures[:10], *sounds[:30], *pictures[10:], *sounds[30:]])
    assert [f.time_s for f in held] == sorted(f.time_s for f in held)
    assert len(held) == len(pictures) + len(sounds)
    assert np.array_equal(joined(f for f in held if isinstance(f, AudioFrame)), joined(sounds))


@pytest.mark.media
def test_a_recording_with_holes_is_in_sync_within_one_picture(tmp_path):
    """A flash and a beep at 1 s; pictures and sound are lost before it, and come with jitter."""
    random = np.random.default_rng(3)
    pictures = [picture(n / 25 + random.uniform(-0.01, 0.01) * (n > 0), 255 * (n == 25), (48, 64))
                for n in range(50) if n not in (7, 8, 20)]  # fmt: skip
    sounds = [replace(sound(n / 50, 960), array=np.full((960, 1), 0.5 * (n == 50), np.float32)) for n in range(100)
              if n not in range(12, 20)]  # fmt: skip
    path = tmp_path / "held.mkv"
    frames = sorted([*pictures, *sounds], key=lambda f: f.time_s)
    sink = MediaFileSink(path, streams=("video", "audio"), video_codec="ffv1", audio_codec="pcm_s16le")
    summary = run_pipeline([Sync(25, tolerance_s=0.04), sink], frames)[0]
    assert (summary.frames, summary.samples) == (50, 96000)
    found = run_pipeline([MediaFileSource(path)])
    flash = [f.time_s for f in found if isinstance(f, VideoFrame) and f.array.mean() > 128]
    beep = np.flatnonzero(joined(f for f in found if isinstance(f, AudioFrame))[:, 0] > 0.1)
    assert flash == [pytest.approx(1.0, abs=0.001)]
    assert abs(beep[0] / 48000 - 1.0) < 0.001
    assert len(beep) == 960


# -- mixing ----------------------------------------------------------------------------------------------------------


def test_a_mix_is_aligned_by_time_and_spreads_mono():
    voice = labelled([sound(0.1, 4800, 0.5)], "voice")
    music = labelled([sound(0, 9600, 0.25, channels=2)], "music")
    mixed = run_pipeline([Mix(["voice", "music"], gains_db={"music": -6.0206}, limit="none")], [*voice, *music])
    found = joined(mixed)
    assert found.shape == (9600, 2)
    assert np.allclose(found[:4800], 0.125, atol=1e-4)
    assert np.allclose(found[4800:], 0.625, atol=1e-4)
    assert [f.pts for f in mixed] == [960 * n for n in range(10)]


def test_headroom_cannot_clip():
    loud = [labelled(sine(440, level_db=0, seconds=0.1), name) for name in "abc"]
    found = joined(run_pipeline([Mix(list("abc"), channels=1)], [f for stream in loud for f in stream]))
    assert np.abs(found).max() <= 1
    assert np.allclose(found, joined(loud[0]), atol=1e-6)


@pytest.mark.media
def test_the_limiter_holds_the_ceiling_keeps_quiet_sound_and_does_not_shift_it():
    quiet = [labelled(sine(440, level_db=-20, channels=2, seconds=0.5), name) for name in "ab"]
    node = Mix(["a", "b"], limit="limiter", ceiling_db=-1)
    found = joined(run_pipeline([node], [f for stream in quiet for f in stream]))
    assert np.allclose(found, 2 * joined(quiet[0]), atol=1e-5)
    loud = [labelled(sine(440, level_db=-1, channels=2, seconds=0.5), name) for name in "ab"]
    frames = run_pipeline([node], [f for stream in loud for f in stream])
    found = joined(frames)
    assert found.shape == (24000, 2)
    assert frames[0].pts == 0
    assert 0.85 < np.abs(found[4800:]).max() <= 10 ** (-1 / 20) + 1e-5
    assert np.abs(found).max() <= 10 ** (-1 / 20) + 1e-5


def test_what_comes_too_late_is_left_out_and_told(caplog):
    late = labelled([sound(0, 480, 1)], "b")
    early = labelled([sound(n / 100, 480, 0.5) for n in range(30)], "a")
    with caplog.at_level(logging.WARNING):
        mixed = run_pipeline([Mix(["a", "b"], channels=1, limit="none", max_wait_s=0.1)], [*early, *late])
    assert np.array_equal(joined(mixed), joined(early))
    assert "480 samples of 'b' came too late" in caplog.text


# -- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "frame", "part"),
    [
        (Label("x"), "text", "takes typed frames, not str"),
        (Interleave(), VideoFrame(array=np.zeros((2, 2, 3), np.uint8)), "has no pts"),
        (Sync(), "text", "takes VideoFrames and AudioFrames, not str"),
        (Mix(["a"]), sound(0), "of stream None is none of a; put Label"),
        (Mix(["a"]), labelled([sound(0, rate=8000)], "a")[0], r"8000 Hz, the mix 48000 Hz; put Resample\(48000\)"),
        (Mix(["a"]), labelled([sound(0, channels=3)], "a")[0], "3 channels, the mix 2"),
    ],
)
def test_frames_that_do_not_fit_say_why(node, frame, part):
    with pytest.raises(NodeProcessError, match=part):
        run_pipeline([node], [frame])


def test_sound_that_changes_its_rate_says_so():
    with pytest.raises(NodeProcessError, match=r"8000 Hz came after 48000 Hz"):
        run_pipeline([Sync()], [sound(0), sound(0.01, rate=8000)])


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Label(""), "expected a name"),
        (lambda: Interleave(0), "streams=0"),
        (lambda: Interleave(max_wait_s=0), "max_wait_s=0"),
        (lambda: Sync(0), "frame_rate=0"),
        (lambda: Sync(tolerance_s=-1), "tolerance_s=-1"),
        (lambda: Sync(max_gap_s=0.01), "more than tolerance_s"),
        (lambda: Mix([]), "names of streams"),
        (lambda: Mix(["a", "a"]), "each once"),
        (lambda: Mix(["a"], gains_db={"b": 1}), "gains of a"),
        (lambda: Mix(["a"], limit="soft"), "headroom, limiter, none"),
    ],
)
def test_bad_settings(make, part):
    with pytest.raises(ConfigurationError, match=part):
        make()
