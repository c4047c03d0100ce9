"""Raw media through pipes: every byte comes back, from files, descriptors, named pipes and commands."""

from __future__ import annotations

import io
import os
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest

from remotemedia import run_pipeline
from remotemedia.core.exceptions import ConfigurationError, NodeError, NodeProcessError, SerializationError
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.nodes import RawAudioSink, RawAudioSource, RawVideoSink, RawVideoSource
from remotemedia.testing.sources import colour_bars, sine

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)
COPY = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, open(sys.argv[1], 'wb'))"
GIVE = "import sys, shutil; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer)"


def frames_of(pictures, pixel_format="rgb24"):
    return [VideoFrame(array=p, pts=n, time_base=Fraction(1, 25), pixel_format=pixel_format) for n, p in
            enumerate(pictures)]  # fmt: skip


def assert_pictures(frames, pictures):
    assert [f.time_s for f in frames] == pytest.approx([n / 25 for n in range(len(pictures))])
    assert np.array_equal(np.stack([f.array for f in frames]), pictures)
    assert {f.metadata["frame_rate"] for f in frames} == {25}


# -- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixel_format", "shape"), [("rgb24", (6, 8, 3)), ("yuv420p", (9, 8)), ("gray16le", (6, 8)), ("nv12", (9, 8))]
)
def test_pictures_through_a_file(tmp_path, pixel_format, shape):
    dtype = "<u2" if pixel_format == "gray16le" else np.uint8
    made = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(dtype)
    summary = run_pipeline([RawVideoSink(tmp_path / "raw")], frames_of(made, pixel_format))[0]
    assert (summary.frames, summary.bytes) == (3, made.nbytes)
    assert (tmp_path / "raw").read_bytes() == made.tobytes()
    source = RawVideoSource(tmp_path / "raw", 8, 6, pixel_format=pixel_format, frame_rate=25)
    for _ in range(2):  # each stream begins anew
        found = run_pipeline([source])
        assert_pictures(found, made)
        assert {f.pixel_format for f in found} == {pixel_format}


def test_pictures_through_commands(tmp_path):
    sink = RawVideoSink([sys.executable, "-c", COPY, tmp_path / "raw"])
    assert run_pipeline([sink], frames_of(PICTURES))[0].bytes == PICTURES.nbytes
    source = RawVideoSource([sys.executable, "-c", GIVE, str(tmp_path / "raw")], 8, 6, frame_rate=25)
    assert_pictures(run_pipeline([source]), PICTURES)


def test_pictures_through_a_descriptor_and_a_named_pipe(tmp_path):
    reader, writer = os.pipe()
    run_pipeline([RawVideoSink(writer)], frames_of(PICTURES))
    os.close(writer)
    assert_pictures(run_pipeline([RawVideoSource(reader, 8, 6, frame_rate=25)]), PICTURES)
    os.close(reader)  # ours to close: still open

    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=run_pipeline, args=([RawVideoSink(tmp_path / "pipe")], frames_of(PICTURES)))
    thread.start()
    assert_pictures(run_pipeline([RawVideoSource(tmp_path / "pipe", 8, 6, frame_rate=25)]), PICTURES)
    thread.join()


def test_files_that_were_given_stay_open_and_may_read_in_pieces():
    class Slow(io.RawIOBase):
        def __init__(self, data):
            self.rest = data

        def read(self, size=-1):
            piece, self.rest = self.rest[: min(size, 7)], self.rest[min(size, 7) :]
            return piece

        readinto = None

    class OnlyRead:
        def __init__(self, data):
            self.read = Slow(data).read

    file = io.BytesIO()
    run_pipeline([RawVideoSink(file)], frames_of(PICTURES))
    assert not file.closed
    assert_pictures(run_pipeline([RawVideoSource(OnlyRead(file.getvalue()), 8, 6, frame_rate=25)]), PICTURES)


def test_pictures_are_read_into_the_outgoing_memory(tmp_path):
    made = []
    (tmp_path / "raw").write_bytes(PICTURES.tobytes())
    source = RawVideoSource(tmp_path / "raw", 8, 6)
    source._outlet = type("Outlet", (), {"empty": lambda self, s, d: made.append(np.empty(s, d)) or made[-1]})()
    assert [id(f.array) for f in source.process()] == [id(array) for array in made[:5]]


# -- sound -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_format", ["s16le", "f32le", "s32le", "u8"])
def test_sound_goes_through_every_format(sample_format):
    made = np.concatenate([f.array for f in sine(440, channels=2, level_db=-3, seconds=0.1)])
    file = io.BytesIO()
    run_pipeline([RawAudioSink(file, sample_format=sample_format)], sine(440, channels=2, level_db=-3, seconds=0.1))
    file.seek(0)
    frames = run_pipeline([RawAudioSource(file, channels=2, sample_format=sample_format)])
    assert [len(f.array) for f in frames] == [960] * 5
    assert [f.pts for f in frames] == [0, 960, 1920, 2880, 3840]
    found = np.concatenate([f.array for f in frames])
    if sample_format == "s16le":
        assert found.dtype == np.int16
        found = found / 32768
    step = {"s16le": 2.0**-16, "f32le": 0, "s32le": 2.0**-24, "u8": 2.0**-8}[sample_format]
    assert np.abs(found - made).max() <= step


def test_int16_comes_back_sample_by_sample():
    made = np.random.default_rng(0).integers(-32768, 32768, (1000, 2), dtype=np.int16)
    for first in (made, (made / 32768).astype(np.float32)):
        file = io.BytesIO()
        run_pipeline([RawAudioSink(file)], [AudioFrame(array=first[:300]), AudioFrame(array=first[300:])])
        assert np.array_equal(np.frombuffer(file.getvalue(), "<i2").reshape(-1, 2), made)
        file.seek(0)
        found = run_pipeline([RawAudioSource(file, channels=2, frame_samples=999)])
        assert np.array_equal(np.concatenate([f.array for f in found]), made)
        assert [f.pts for f in found] == [0, 999]


# -- what goes wrong -------------------------------------------------------------------------------------------------

FAIL = "import sys; sys.stdin.buffer.read({read}); print('no such encoder', file=sys.stderr); sys.exit(3)"


def command(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: RawVideoSource(io.BytesIO(b"x" * 200), 8, 6), r"ended within picture 1: 56 of 144 bytes"),
        (lambda: RawAudioSource(io.BytesIO(b"x" * 6), channels=2), r"ended within a sample: 2 of 4 bytes"),
        (lambda: RawVideoSource("/no/such/file", 8, 6), "cannot open '/no/such/file': No such file"),
        (lambda: RawVideoSource(["no-such-command"], 8, 6), "cannot open no-such-command: No such file"),
        (lambda: RawVideoSource(command(FAIL.format(read=0)), 8, 6), "ended with exit code 3: no such encoder"),
        (lambda: RawVideoSource(command("import os; os.kill(os.getpid(), 9)"), 8, 6), "killed by signal 9"),
        (lambda: RawVideoSource(command("import os, time; os.close(1); time.sleep(99)"), 8, 6, exit_timeout_s=0.2),
         "did not end within 0.2 s"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(make, part):
    with pytest.raises((NodeError, NodeProcessError), match=part):
        run_pipeline([make()])


def test_a_reader_that_goes_away_says_why():
    many = (VideoFrame(array=np.zeros((600, 800, 3), np.uint8)) for _ in range(20))
    with pytest.raises(NodeProcessError, match=r"cannot write to .*Broken pipe: no such encoder"):
        run_pipeline([RawVideoSink(command(FAIL.format(read=10)))], many)
    with pytest.raises(NodeProcessError, match="exit code 3: no such encoder"):
        run_pipeline([RawVideoSink(command(FAIL.format(read="")))], frames_of(PICTURES))


def test_a_command_is_killed_when_the_stream_is_left_early():
    endless = "import sys\nwhile True: sys.stdout.buffer.write(bytes(144))"
    source = RawVideoSource(command(endless), 8, 6)
    source.initialize()
    stream = source.process()
    next(stream)
    process = source._pipe._process
    stream.close()
    source.cleanup()
    assert process.returncode == -9


def test_frames_of_another_kind_are_ignored_and_other_formats_refused():
    bars, file = next(colour_bars(8, 4)), io.BytesIO()
    assert run_pipeline([RawVideoSink(file)], [bars, next(sine())])[0].frames == 1
    with pytest.raises(NodeProcessError, match=r"rgb24 picture of 8x4 cannot follow into a pipe of gray, 8x4"):
        run_pipeline([RawVideoSink(file, pixel_format="gray")], [bars])
    with pytest.raises(NodeProcessError, match="came after"):
        run_pipeline([RawAudioSink(file)], [next(sine()), next(sine(channels=2))])
    with pytest.raises(NodeProcessError, match="takes VideoFrames, not str"):
        run_pipeline([RawVideoSink(file)], ["text"])


def test_an_open_file_does_not_travel():
    for end in (io.BytesIO(), 0):
        with pytest.raises(SerializationError, match="belongs to this process"):
            run_pipeline([RawVideoSource(end, 8, 6)], executor="multiprocess")


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: RawVideoSource(3.5, 8, 6), "expected a path, a descriptor"),
        (lambda: RawVideoSource([], 8, 6), "a command as a list of words"),
        (lambda: RawVideoSource("x", 7, 6, pixel_format="yuv420p"), "7x6 is impossible"),
        (lambda: RawVideoSource("x", 8, 6, frame_rate=0), "frame_rate=0"),
        (lambda: RawAudioSource("x", sample_format="s24"), "one of s16le, s32le, f32le, u8"),
        (lambda: RawAudioSource("x", channels=0), "channels=0"),
        (lambda: RawAudioSink("x", exit_timeout_s=-1), "exit_timeout_s=-1"),
    ],
)
def test_bad_settings(make, part):
    with pytest.raises(ConfigurationError, match=part):
        make()
