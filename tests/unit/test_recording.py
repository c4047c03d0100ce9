"""Recordings: every value comes back as it was; cut off and damaged files say so."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import AudioFrame, MediaFrame, TensorFrame, VideoFrame
from remotemedia.recording import MAGIC, Recorder, Recording, is_recording

FRAMES = [
    AudioFrame(
        array=np.linspace(-1, 1, 960, dtype=np.float32).reshape(-1, 2), pts=7, time_base=Fraction(1, 48_000),
        sample_rate=44_100, metadata={"speaker": "ä", "gains": np.arange(3), "nested": [1, {"x": None}]},
    ),
    VideoFrame(array=np.arange(60, dtype=np.uint8).reshape(4, 5, 3)[::2], pixel_format="bgr24"),
    TensorFrame.of(np.zeros((2, 0, 3), np.float64), "batch", "none", "channel"),
    MediaFrame(array=np.array(5, np.int16), pts=-1),
]  # fmt: skip


def written(path, values):
    with Recorder(path) as recorder:
        for value in values:
            recorder.write(value)
    assert recorder.frames == len(values)
    assert recorder.bytes == path.stat().st_size
    return path


def read(path):
    return [value for _, value in Recording(path)]


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, MediaFrame):
        return type(a) is type(b) and all(same(value, vars(b)[name]) for name, value in vars(a).items())
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_typed_frames_come_back_with_everything(tmp_path, frame):
    (back,) = read(written(tmp_path / "r", [frame]))
    assert same(frame, back)
    assert back.time_s == frame.time_s


def test_arrays_of_every_kind_and_containers_of_them(tmp_path):
    record = np.zeros(2, [("x", "<f4"), ("y", "i8", 3)])
    values = [
        np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(["a", "bc"]), np.array(True), record,
        np.array(["2026-01-01"], "datetime64[D]"), np.arange(3, dtype=">u2"), np.float32(0.1), np.arange(10)[::-3],
        {"frames": [FRAMES[0], FRAMES[1]], "n": 3, 7: b"bytes"}, [], "", None, True, -(2**63), 2**64 - 1, 1.5,
    ]  # fmt: skip
    assert same(read(written(tmp_path / "r", values)), values)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
        | st.binary() | st.builds(np.arange, st.integers(0, 9)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_plain_value_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("recordings") / "r"
    assert same(read(written(path, [value, value])), [value, value])


def test_tuples_come_back_as_lists_and_times_rise(tmp_path):
    path = written(tmp_path / "r", [(1, (2,)), (3,)])
    recording = Recording(path)
    (first_s, first), (second_s, second) = recording
    assert (first, second) == ([1, [2]], [3])
    assert 0 <= first_s <= second_s
    assert recording.complete
    assert len(list(recording)) == 2  # it can be read again


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({1, 2}, "it holds a set"),
        ([object()], "it holds a object"),
        (np.array([object()]), "frame 0 cannot be recorded"),
        (2**70, "frame 0 cannot be recorded"),
    ],
)
def test_what_cannot_be_recorded_is_told_and_leaves_the_rest_whole(tmp_path, value, told):
    with Recorder(tmp_path / "r") as recorder:
        with pytest.raises(ConfigurationError, match=told):
            recorder.write(value)
        recorder.write("next")
    assert read(tmp_path / "r") == ["next"]


def test_a_recording_that_was_cut_off_gives_its_whole_frames(tmp_path, caplog):
    path = written(tmp_path / "r", [np.arange(5), "two", {"three": 3}])
    data = path.read_bytes()
    ends = {}  # how many whole frames there are in a file of so many bytes
    for size in range(len(MAGIC), len(data)):
        path.write_bytes(data[:size])
        caplog.clear()
        recording = Recording(path)
        count = sum(1 for _ in recording)
        ends[count] = size
        whole = size >= len(data) - 8  # the mark of the end is there, only its number is cut
        assert recording.complete is whole
        assert bool(caplog.text) is not whole
        assert whole or f"after {count} whole frames" in caplog.text
    assert sorted(ends) == [0, 1, 2, 3]


def test_a_damaged_recording_is_an_error_at_the_frame(tmp_path):
    path = written(tmp_path / "r", ["first", "second", "third"])
    data = path.read_bytes()
    second_mark = data.index(b"FRM1", data.index(b"first"))
    for damaged, whole, told in [
        (data.replace(b"second", b"sekond"), 1, "frame 1: its checksum is wrong"),
        (data[:second_mark] + b"FRM2" + data[second_mark + 4 :], 1, "frame 1: what begins there is no frame"),
        (data[: data.index(b"END1")] + b"garbage at the end", 3, "frame 3: what begins there is no frame"),
    ]:
        path.write_bytes(damaged)
        frames = iter(Recording(path))
        assert [next(frames).value for _ in range(whole)] == ["first", "second", "third"][:whole]
        with pytest.raises(ConfigurationError, match=told):
            next(frames)


def test_what_is_no_recording_is_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    for name in ("text", "empty"):
        assert not is_recording(tmp_path / name)
        with pytest.raises(ConfigurationError, match="is no recording"):
            Recording(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "missing")


def test_a_recorder_that_never_ended_is_closed_once(tmp_path):
    recorder = Recorder(tmp_path / "r")
    recorder.close()
    size = recorder.bytes
    recorder.close()
    assert recorder.bytes == size
    assert read(tmp_path / "r") == []
