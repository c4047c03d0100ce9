"""File sources and sinks: what is written is decoded again and compared."""

from __future__ import annotations

import heapq
import logging
import os
import pickle
import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.nodes.media_io import (
    AudioFileSink,
    AudioFileSource,
    FileSummary,
    MediaFileSink,
    MediaFileSource,
    VideoFileSink,
    VideoFileSource,
    probe,
)
from remotemedia.testing.sources import colour_bars, make_clip, moving_box, sine

pytestmark = pytest.mark.media


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, seconds=1, width=160, height=120, fps=25, noise=0)
    return path


def read(node):
    node.initialize()
    try:
        return list(node.process())
    finally:
        node.cleanup()


def write(sink, frames):
    sink.initialize()
    try:
        for frame in frames:
            assert sink.process(frame) is None
        return sink.flush()
    finally:
        sink.cleanup()


def sound_of(frames):
    return np.concatenate([f.array for f in frames if isinstance(f, AudioFrame)])


def by_time(*streams):
    return heapq.merge(*streams, key=lambda f: f.time_s)


def psnr(a, b):
    """In decibels; at most 99, for equal pictures."""
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-5))


def flash_and_beep(seconds=2, fps=25, rate=48000):
    """Black pictures with one white one, silence with one beep, both exactly in the middle."""
    middle = seconds / 2
    for n in range(int(seconds * fps)):
        level = 255 if n / fps == middle else 0
        yield VideoFrame(array=np.full((64, 64, 3), level, np.uint8), pts=n, time_base=Fraction(1, fps))
    for start in range(0, seconds * rate, 960):
        t = np.arange(start, start + 960) / rate
        beep = np.where((t >= middle) & (t < middle + 0.04), 0.5 * np.sin(2 * np.pi * 1000 * t), 0)
        array = np.repeat(beep.astype(np.float32)[:, None], 2, axis=1)
        yield AudioFrame(array=array, pts=start, time_base=Fraction(1, rate), sample_rate=rate)


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_clip_comes_back_with_all_pictures_samples_and_times(clip):
    frames = read(MediaFileSource(clip))
    pictures = [f for f in frames if isinstance(f, VideoFrame)]
    sounds = [f for f in frames if isinstance(f, AudioFrame)]
    assert [f.time_s for f in pictures] == pytest.approx([n / 25 for n in range(25)])
    facts = {(f.array.shape, f.array.dtype.name, f.pixel_format) for f in pictures}
    assert facts == {((120, 160, 3), "uint8", "rgb24")}
    assert pictures[0].metadata["frame_rate"] == 25
    assert {(f.array.dtype.name, f.channels, f.sample_rate) for f in sounds} == {("float32", 2, 48000)}
    assert sounds[0].time_s == 0
    assert 48000 <= len(sound_of(frames)) < 48000 + 1024  # AAC fills its last frame
    for found, made in zip(pictures, moving_box(160, 120, fps=25, seconds=1), strict=True):
        assert psnr(found.array, made.array) > 27


def test_a_source_that_is_kept_ready_starts_from_the_beginning_each_time(clip):
    source = MediaFileSource(clip)
    source.initialize()
    first, second = list(source.process()), list(source.process())
    next(source.process())
    third = list(source.process())
    source.cleanup()
    for again in (second, third):
        assert [(f.pts, f.array.shape) for f in again] == [(f.pts, f.array.shape) for f in first]
        assert np.array_equal(again[-1].array, first[-1].array)


def test_kinds_can_be_left_out(clip):
    assert {type(f) for f in read(MediaFileSource(clip, audio=False))} == {VideoFrame}
    assert {type(f) for f in read(VideoFileSource(clip))} == {VideoFrame}
    assert {type(f) for f in read(AudioFileSource(clip))} == {AudioFrame}


@pytest.mark.parametrize("pixel_format", ["bgr24", "gray"])
def test_other_pixel_formats(clip, pixel_format):
    frames = read(VideoFileSource(clip, pixel_format=pixel_format))
    rgb = read(VideoFileSource(clip))
    assert {f.pixel_format for f in frames} == {pixel_format}
    expected = rgb[0].array[..., ::-1] if pixel_format == "bgr24" else rgb[0].array @ np.array([0.299, 0.587, 0.114])
    assert psnr(frames[0].array, expected) > 35


def test_pictures_are_decoded_into_the_outgoing_memory(clip):
    class Outlet:
        made: list[np.ndarray] = []

        def empty(self, shape, dtype):
            self.made.append(np.empty(shape, dtype))
            return self.made[-1]

    source = MediaFileSource(clip)
    source._outlet = Outlet()
    frames = read(source)
    assert [id(f.array) for f in frames] == [id(array) for array in Outlet.made]


def test_a_width_that_is_no_multiple_of_a_vector_has_no_padding_in_its_rows(tmp_path):
    path = tmp_path / "odd.mp4"
    ramp = np.broadcast_to(np.linspace(0, 255, 70, dtype=np.uint8)[None, :, None], (50, 70, 3))
    write(VideoFileSink(path, crf=1), [VideoFrame(array=ramp, pts=n, time_base=Fraction(1, 25)) for n in range(3)])
    (first, *_) = read(VideoFileSource(path))
    assert first.array.shape == (50, 70, 3)
    assert psnr(first.array, ramp) > 38


def test_sources_travel_before_they_open_and_keep_their_settings(clip):
    node = pickle.loads(pickle.dumps(AudioFileSource(clip, name="music")))
    assert (node.name, node.config) == ("music", {"path": str(clip), "pixel_format": "rgb24"})
    assert len(sound_of(read(node))) >= 48000


def test_a_used_source_and_sink_can_travel(clip, tmp_path):
    source, sink = MediaFileSource(clip), MediaFileSink(tmp_path / "copy.mp4")
    frames = read(source)
    write(sink, frames)
    again = read(pickle.loads(pickle.dumps(source)))
    assert write(pickle.loads(pickle.dumps(sink)), again).frames == 25


def test_probe_tells_what_is_in_a_file(clip):
    video, audio = probe(clip)
    assert (video.kind, video.codec, video.details, video.seconds) == ("video", "h264", "160x120 25 fps", 1.0)
    assert (audio.kind, audio.codec, audio.details) == ("audio", "aac", "48000 Hz stereo")
    with pytest.raises(NodeError, match="cannot open"):
        probe(clip.with_name("missing.mp4"))


# -- writing ---------------------------------------------------------------------------------------------------------


def test_sound_and_picture_stay_in_sync(tmp_path):
    path = tmp_path / "sync.mp4"
    made = list(flash_and_beep())
    summary = write(MediaFileSink(path, streams=("video", "audio")), by_time(made[:50], made[50:]))
    assert summary == FileSummary(
        path=str(path), streams=("video", "audio"), frames=50, samples=96000, seconds=2.0, bytes=path.stat().st_size
    )
    frames = read(MediaFileSource(path))
    flash = [f.time_s for f in frames if isinstance(f, VideoFrame) and f.array.mean() > 128]
    loud = np.flatnonzero(np.abs(sound_of(frames)[:, 0]) > 0.1)
    assert flash == [1.0]
    assert abs(loud[0] / 48000 - 1.0) < 0.005
    assert abs(loud[-1] / 48000 - 1.04) < 0.005


def test_streams_need_not_start_at_zero_nor_together(tmp_path):
    path = tmp_path / "late.mp4"
    pictures = [replace(f, pts=f.pts + 50) for f in colour_bars(64, 48, fps=25, seconds=1)]
    sounds = [replace(f, pts=f.pts + 48000) for f in sine(seconds=2)]
    write(MediaFileSink(path), by_time(pictures, sounds))
    frames = read(MediaFileSource(path))
    first_picture = next(f.time_s for f in frames if isinstance(f, VideoFrame))
    first_sound = next(f.time_s for f in frames if isinstance(f, AudioFrame))
    # AAC may begin with some silence of its own; what counts is when the tone begins.
    onset = first_sound + np.flatnonzero(np.abs(sound_of(frames)[:, 0]) > 0.02)[0] / 48000
    assert first_picture - onset == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize("streams", [None, ("video", "audio"), ("video",)])
def test_a_file_can_have_pictures_only(tmp_path, streams):
    path = tmp_path / "silent.mp4"
    summary = write(MediaFileSink(path, streams=streams), colour_bars(64, 48, fps=25, seconds=0.4))
    assert (summary.streams, summary.frames, summary.samples, summary.seconds) == (("video",), 10, 0, 0.4)
    found = read(MediaFileSource(path))
    assert len(found) == 10
    inside_the_bars = np.s_[24, 4::9]  # their edges blur: yuv420p has half the resolution for colour
    deviation = found[0].array[inside_the_bars].astype(int) - next(colour_bars(64, 48)).array[inside_the_bars]
    assert np.abs(deviation).max() <= 12
    with pytest.raises(NodeError, match=r"has no audio stream \(it has: video\)"):
        read(AudioFileSource(path))


def test_frames_of_other_kinds_are_ignored_where_the_streams_are_named(tmp_path):
    made = list(flash_and_beep())
    assert write(VideoFileSink(tmp_path / "v.mp4"), made).streams == ("video",)
    assert write(AudioFileSink(tmp_path / "a.m4a"), made).streams == ("audio",)


def test_wav_gives_back_every_sample(tmp_path):
    path = tmp_path / "tone.wav"
    made = list(sine(440, sample_rate=44100, channels=2, seconds=0.7131))
    summary = write(AudioFileSink(path), made)
    found = sound_of(read(AudioFileSource(path)))
    assert summary.samples == len(found) == round(0.7131 * 44100)
    assert np.abs(found - sound_of(made)).max() <= 1 / 32768


@pytest.mark.parametrize(("suffix", "codec"), [("flac", None), ("mka", "pcm_f32le"), ("ogg", "libopus"), ("mp3", None)])
def test_other_containers_by_suffix(tmp_path, suffix, codec):
    made = list(sine(440, channels=1, seconds=1))
    write(AudioFileSink(tmp_path / f"tone.{suffix}", audio_codec=codec, audio_bit_rate=96000), made)
    found = sound_of(read(AudioFileSource(tmp_path / f"tone.{suffix}")))
    assert found.shape[0] == pytest.approx(48000, abs=3000)
    assert int(np.abs(np.fft.rfft(found[:48000, 0], 48000)).argmax()) == 440


def test_frames_of_any_size_give_the_same_file(tmp_path):
    samples = sound_of(list(sine(300, seconds=0.5)))
    for name, sizes in (("a", [1024]), ("b", [1, 4000, 333])):
        frames, at, turn = [], 0, 0
        while at < len(samples):
            size = sizes[turn % len(sizes)]
            frames.append(AudioFrame(array=samples[at : at + size], pts=at, time_base=Fraction(1, 48000)))
            at, turn = at + size, turn + 1
        write(AudioFileSink(tmp_path / f"{name}.wav"), frames)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_gaps_in_the_sound_become_silence_and_overlaps_are_cut(tmp_path):
    one = np.full((4800, 1), 0.25, np.float32)
    at = [0, 9600, 14400 - 2400, 16800 + 5]  # a gap of 4800, an overlap of 2400, a rounding error of 5
    frames = [AudioFrame(array=one, pts=pts, time_base=Fraction(1, 48000)) for pts in at]
    write(AudioFileSink(tmp_path / "gap.wav"), frames)
    found = sound_of(read(AudioFileSource(tmp_path / "gap.wav")))[:, 0]
    expected = np.full(21600, 0.25)
    expected[4800:9600] = 0
    assert np.array_equal(found, expected)


def test_frames_without_time_follow_each_other(tmp_path):
    path = tmp_path / "notime.mp4"
    pictures = [replace(f, pts=None, metadata={}) for f in colour_bars(64, 48, seconds=0.5)]
    assert write(VideoFileSink(path, frame_rate=10), pictures).seconds == 1.5
    assert [f.time_s for f in read(VideoFileSource(path))] == pytest.approx([n / 10 for n in range(15)])


def test_stopping_early_leaves_a_file_that_can_be_played(tmp_path):
    sink = MediaFileSink(tmp_path / "stopped.mp4")
    sink.initialize()
    for frame in colour_bars(64, 48, seconds=1):
        sink.process(frame)
    sink.cleanup()
    sink.cleanup()
    assert len(read(VideoFileSource(tmp_path / "stopped.mp4"))) == 30


def test_a_sink_can_be_used_again_and_without_frames_there_is_no_file(tmp_path):
    sink = MediaFileSink(tmp_path / "again.mp4")
    assert write(sink, []) == FileSummary(
        path=str(tmp_path / "again.mp4"), streams=(), frames=0, samples=0, seconds=0.0, bytes=0
    )
    assert not (tmp_path / "again.mp4").exists()
    for _ in range(2):
        assert write(sink, colour_bars(64, 48, seconds=0.2)).frames == 6
        assert len(read(VideoFileSource(sink.path))) == 6


def test_a_stream_that_was_not_announced_is_waited_for_ten_seconds(tmp_path):
    sink = MediaFileSink(tmp_path / "long.mp4")
    sink.initialize()
    for frame in colour_bars(16, 16, fps=5, seconds=20):
        sink.process(frame)
    with pytest.raises(NodeError, match=r"audio arrived after 10 s .* streams=\(.video., .audio.\)"):
        sink.process(next(sine()))
    sink.cleanup()
    assert len(read(VideoFileSource(sink.path))) == 100


def test_high_definition_is_tagged_and_decoded_as_bt709(tmp_path):
    path = tmp_path / "hd.mp4"
    bars = next(colour_bars(1280, 720, fps=25))
    write(VideoFileSink(path), [replace(bars, pts=n) for n in range(2)])
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.colorspace == 1
    assert psnr(read(VideoFileSource(path))[0].array, bars.array) > 32


# -- what cannot be done ---------------------------------------------------------------------------------------------


def test_damage_says_where(clip, tmp_path):
    path = tmp_path / "damaged.mp4"
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [p for p in container.demux(audio=0) if p.pos is not None]
    middle = packets[len(packets) // 2]
    data[middle.pos : middle.pos + middle.size] = b"\xff" * middle.size
    path.write_bytes(data)
    with pytest.raises(NodeError, match=r"cannot decode .*damaged.mp4' after 0\.\d+ s"):
        read(AudioFileSource(path))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda tmp: MediaFileSource(tmp / "missing.mp4"), "cannot open .*missing.mp4.*No such file"),
        (lambda tmp: MediaFileSource(__file__), "cannot open .*Invalid data"),
        (lambda tmp: MediaFileSink(tmp / "no" / "folder.mp4"), "folder .*no' does not exist"),
        (MediaFileSink, "is a folder"),
    ],
)
def test_files_that_cannot_be_opened_say_why_in_initialize(tmp_path, make, part):
    node = make(tmp_path)
    with pytest.raises(NodeError, match=part):
        node.initialize()
    node.cleanup()


def test_a_folder_that_is_not_writable(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, who may run this test, can write everywhere
    with pytest.raises(NodeError, match="not writable"):
        MediaFileSink(tmp_path / "x.mp4").initialize()


BARS = next(colour_bars(64, 48))
TONE = next(sine())


@pytest.mark.parametrize(
    ("name", "options", "frames", "part"),
    [
        ("x.mp4", {"video_codec": "nocodec"}, [BARS], "video_codec='nocodec': this FFmpeg has no such encoder"),
        ("x.unknown", {}, [BARS], "cannot write .*x.unknown"),
        ("x.wav", {}, [BARS], "wav file cannot hold video"),
        ("x.mp4", {}, [next(colour_bars(63, 48))], r"63x48 .* even numbers; put Resize\(62, 48\)"),
        ("x.mp4", {}, [BARS, next(colour_bars(32, 48))], r"32x48 came after one of 64x48; put Resize\(64, 48\)"),
        ("x.mp4", {}, [BARS, BARS], "picture 1 is at 0.000 s, not after the one before"),
        ("x.wav", {}, [TONE, next(sine(sample_rate=8000))], r"8000 Hz .* put Resample\(48000\)"),
        ("x.mp4", {"audio_codec": "aac"}, [next(sine(sample_rate=5000))], "cannot write 5000 Hz .* Resample"),
        ("x.wav", {}, [TONE, replace(TONE, pts=10**9)], "jumps 20833 s ahead"),
    ],
)
def test_frames_that_cannot_be_written_say_why(tmp_path, name, options, frames, part):
    sink = MediaFileSink(tmp_path / name, **options)
    sink.initialize()
    with pytest.raises(NodeError, match=part):  # noqa: PT012 - the first frames are taken, the last is not
        for frame in frames:
            sink.process(frame)
    sink.cleanup()


def test_only_typed_frames_are_taken(tmp_path):
    with pytest.raises(TypeError, match="not ndarray"):
        MediaFileSink(tmp_path / "x.mp4").process(BARS.array)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: MediaFileSource("x", video=False, audio=False), "at least one"),
        (lambda: MediaFileSource("x", pixel_format="yuv"), "pixel_format='yuv' is unknown; did you mean yuyv422"),
        (lambda: MediaFileSink("x", streams=("text",)), "subset"),
        (lambda: MediaFileSink("x", frame_rate=0), "frame_rate=0"),
    ],
)
def test_bad_settings_say_what_was_expected(make, part):
    with pytest.raises(ConfigurationError, match=part):
        make()


def test_without_pyav_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigurationError, match=r"remotemedia\[media\]"):
        MediaFileSource("x").initialize()


def test_ffmpeg_is_quiet_in_the_log(caplog, clip):
    with caplog.at_level(logging.WARNING):
        read(MediaFileSource(clip))
    assert caplog.records == []
