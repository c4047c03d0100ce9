"""FFmpeg's filters as nodes, and the EBU R128 meter against the standard's numbers and our own."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest

from remotemedia import run_pipeline
from remotemedia.core.exceptions import ConfigurationError, NodeError, NodeProcessError
from remotemedia.core.frames import AudioFrame, TensorFrame, VideoFrame
from remotemedia.nodes import FilterGraph, Loudness, LoudnessMeter
from remotemedia.nodes.filter_chain import parsed_chain
from remotemedia.testing.sources import moving_box, sine, swelling_tone

pytestmark = pytest.mark.media


def joined(frames):
    return np.concatenate([f.array for f in frames])


# -- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hflip", [("hflip", "")]),
        (" scale=64:-1 , hflip ", [("scale", "64:-1"), ("hflip", "")]),
        ("drawbox=color='red,blue',vflip", [("drawbox", "color=red,blue"), ("vflip", "")]),
        (r"lut=y=if(gt(val\,9)\,1\,0)", [("lut", "y=if(gt(val,9),1,0)")]),
        ("aeval='val(0)|val(1)[x];'", [("aeval", "val(0)|val(1)[x];")]),
    ],
)
def test_a_chain_is_read_as_ffmpeg_reads_it(text, parts):
    assert parsed_chain(text) == parts


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "'' is no filter"),
        ("hflip,,vflip", "'' is no filter"),
        ("a b=3", "'a b=3' is no filter"),
        ("[in]hflip", "only a chain"),
        ("hflip;vflip", "only a chain"),
        ("drawtext='x", "not closed"),
    ],
)
def test_what_is_no_chain(text, part):
    with pytest.raises(ConfigurationError, match=part):
        FilterGraph(text)


# -- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_format", ["rgb24", "gray", "yuv444p", "rgba"])
def test_flips_are_exact_and_keep_time_and_metadata(pixel_format):
    shape = {"rgb24": (6, 8, 3), "gray": (6, 8), "yuv444p": (18, 8), "rgba": (6, 8, 4)}[pixel_format]
    made = [
        VideoFrame(
            array=np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8), pts=7 * n,
            time_base=Fraction(1, 90000), pixel_format=pixel_format, metadata={"number": n},
        )
        for n in range(3)
    ]  # fmt: skip
    found = run_pipeline([FilterGraph("hflip,vflip")], made)
    for one, other in zip(made, found, strict=True):
        for plane, flipped in zip(one.planes, other.planes, strict=True):
            assert np.array_equal(plane[::-1, ::-1], flipped)
        facts = (other.pts, other.time_base, other.pixel_format, other.metadata["number"])
        assert facts == (one.pts, one.time_base, pixel_format, one.metadata["number"])


def test_filters_may_change_size_format_and_number():
    made = list(moving_box(64, 48, fps=25, seconds=1))
    small = run_pipeline([FilterGraph("scale=32:24,fps=50", pixel_format="yuv420p")], made)
    assert {(f.width, f.height, f.pixel_format) for f in small} == {(32, 24, "yuv420p")}
    assert len(small) == 50
    assert [f.time_s for f in small] == pytest.approx([n / 50 for n in range(50)])
    some = run_pipeline([FilterGraph("trim=end_frame=5")], made)
    assert [f.pts for f in some] == [0, 1, 2, 3, 4]


def test_a_change_of_format_begins_a_new_chain_and_nothing_is_lost():
    frames = [*moving_box(64, 48, fps=25, seconds=0.2), *moving_box(32, 24, fps=25, seconds=0.2)]
    found = run_pipeline([FilterGraph("tmix=frames=2")], frames)
    assert [(f.width, f.height) for f in found] == [(64, 48)] * 5 + [(32, 24)] * 5


def test_outputs_are_made_in_the_outgoing_memory():
    made, node = [], FilterGraph("hflip")
    node._outlet = type("Outlet", (), {"empty": lambda self, s, d: made.append(np.empty(s, d)) or made[-1]})()
    node.initialize()
    found = [out for frame in moving_box(64, 48, fps=25, seconds=0.2) for out in node.process(frame)]
    assert [id(f.array) for f in found] == [id(array) for array in made]
    assert len(found) == 5


# -- sound -----------------------------------------------------------------------------------------------------------


def test_sound_is_exact_and_other_frames_pass():
    made = list(sine(440, channels=2, seconds=0.2))
    picture = next(moving_box(64, 48))
    found = run_pipeline([FilterGraph("volume=0.5:precision=float")], [*made, picture])
    assert found[-1] is picture
    assert np.array_equal(joined(found[:-1]), joined(made) * np.float32(0.5))
    assert [f.pts for f in found[:-1]] == [f.pts for f in made]


def test_sound_can_become_pictures_and_change_its_rate():
    pictures = run_pipeline([FilterGraph("showwaves=size=64x32:rate=25")], sine(440, channels=2, seconds=1))
    assert {(type(f), f.array.shape) for f in pictures} == {(VideoFrame, (32, 64, 3))}
    assert max(f.array.max() for f in pictures) > 100
    slow = run_pipeline([FilterGraph("aresample=16000")], sine(440, seconds=1))
    assert {f.sample_rate for f in slow} == {16000}
    assert len(joined(slow)) == pytest.approx(16000, abs=32)


def test_silence_is_found_by_ffmpeg():
    rate = 8000
    sound = np.concatenate([joined(sine(440, sample_rate=rate, seconds=0.5)), np.zeros((rate, 1), np.float32),
                            joined(sine(440, sample_rate=rate, seconds=0.5))])  # fmt: skip
    frames = [AudioFrame(array=sound[at : at + 160], pts=at, time_base=Fraction(1, rate), sample_rate=rate)
              for at in range(0, len(sound), 160)]  # fmt: skip
    found = run_pipeline([FilterGraph("silencedetect=noise=-50dB:duration=0.3")], frames)
    facts = {key: float(text) for f in found for key, text in f.metadata.items() if key.startswith("lavfi.silence")}
    assert facts["lavfi.silence_start"] == pytest.approx(0.5, abs=0.02)
    assert facts["lavfi.silence_end"] == pytest.approx(1.5, abs=0.02)


# -- loudness --------------------------------------------------------------------------------------------------------


def test_the_meter_gives_the_numbers_of_the_standard():
    # EBU Tech 3341, test case 1: a stereo sine of 1 kHz at -23 dBFS is -23.0 LUFS, within 0.1.
    frames = run_pipeline([LoudnessMeter()], sine(1000, level_db=-23, channels=2, seconds=20))
    last = frames[-1].metadata["loudness"]
    for key in ("momentary_lufs", "short_term_lufs", "integrated_lufs"):
        assert last[key] == pytest.approx(-23.0, abs=0.1), key
    assert last["true_peak_dbtp"] == pytest.approx(-23.0, abs=0.2)
    assert last["range_lu"] == pytest.approx(0, abs=0.1)
    assert {len(f.array) for f in frames} == {4800}


def test_the_meter_leaves_the_sound_as_it_is_whatever_the_frames():
    made = joined(swelling_tone(seconds=1.234))
    cuts = [made[at : at + 777] for at in range(0, len(made), 777)]
    frames = [AudioFrame(array=cut, pts=n * 777, time_base=Fraction(1, 48000)) for n, cut in enumerate(cuts)]
    found = run_pipeline([LoudnessMeter()], frames)
    assert np.array_equal(joined(found), made)
    assert [f.pts for f in found] == [4800 * n for n in range(13)]
    assert found[-1].metadata["loudness"] == found[-2].metadata["loudness"]
    silence = run_pipeline([LoudnessMeter()], [AudioFrame(array=np.zeros((10, 1), np.float32))])
    assert silence[0].metadata["loudness"] is None


def test_our_own_loudness_agrees_with_ffmpegs():
    frames = run_pipeline([Loudness(-16), LoudnessMeter()], sine(330, level_db=-30, channels=2, seconds=9))
    last = frames[-1].metadata
    assert last["loudness_lufs"] + last["gain_db"] == pytest.approx(-16, abs=0.1)
    assert last["loudness"]["short_term_lufs"] == pytest.approx(-16, abs=0.2)


# -- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("hflap", "this FFmpeg has no filter 'hflap'; did you mean hflip"),
        ("scale=nonsense=1", "filter 'scale' refuses 'nonsense=1': Option not found"),
        ("volume=volume=abc", "filter 'volume' refuses"),
        ("testsrc", "takes neither one picture nor one sound stream"),
        ("nullsink", "gives neither one picture nor one sound stream"),
    ],
)
def test_filters_that_are_not_there_or_refuse_are_found_when_it_begins(text, part):
    node = FilterGraph(text, name="look")
    with pytest.raises(NodeError, match=part):
        node.initialize()
    node.cleanup()


def test_frames_that_a_filter_refuses():
    with pytest.raises(NodeProcessError, match=r"the filters 'crop=500:500' .*64x48"):
        run_pipeline([FilterGraph("crop=500:500")], moving_box(64, 48, seconds=0.1))
    with pytest.raises(NodeProcessError, match="takes VideoFrames, not str"):
        run_pipeline([FilterGraph("hflip")], ["text"])
    assert isinstance(run_pipeline([FilterGraph("hflip")], [TensorFrame.of(np.zeros(3))])[0], TensorFrame)


def test_a_chain_that_has_worked_travels():
    node = FilterGraph("hflip")
    node.initialize()
    frame = next(moving_box(64, 48))
    first = next(iter(node.process(frame)))
    again = pickle.loads(pickle.dumps(node))
    again.initialize()
    assert np.array_equal(next(iter(again.process(frame))).array, first.array)
