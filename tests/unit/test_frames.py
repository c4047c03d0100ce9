"""Typed frames: what they know of their array, and that they are values."""

import dataclasses
import pickle
from fractions import Fraction

import numpy as np
import pytest

from remotemedia.core.frames import AudioFrame, TensorFrame, VideoFrame


def test_video_size():
    frame = VideoFrame(array=np.zeros((1080, 1920, 3), np.uint8), pts=3, time_base=Fraction(1, 30))
    assert (frame.width, frame.height, frame.pixel_format) == (1920, 1080, "rgb24")
    assert frame.time_s == pytest.approx(0.1)


@pytest.mark.parametrize(("shape", "channels"), [((480,), 1), ((480, 1), 1), ((480, 2), 2)])
def test_audio_channels_and_duration(shape, channels):
    frame = AudioFrame(array=np.zeros(shape, np.float32))
    assert frame.channels == channels
    assert frame.duration_s == pytest.approx(0.01)
    assert AudioFrame(array=np.zeros(shape), sample_rate=4800).duration_s == pytest.approx(0.1)


def test_time_is_unknown_without_pts():
    assert AudioFrame(array=np.zeros(1)).time_s is None
    assert AudioFrame(array=np.zeros(1), pts=0).time_s == 0.0


def test_tensor_dimensions_have_names():
    frame = TensorFrame.of([[1, 2]], "batch", "time")
    assert frame.dims == ("batch", "time")
    assert frame.array.shape == (1, 2)


@pytest.mark.parametrize("kind", [AudioFrame, VideoFrame, TensorFrame])
def test_frames_are_frozen_and_keep_everything_but_the_array(kind):
    frame = kind(array=np.zeros((2, 2)), pts=7, time_base=Fraction(1, 90_000), metadata={"camera": 1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.pts = 8
    other = frame.with_array(np.ones((4, 4)))
    assert type(other) is kind
    assert (other.pts, other.time_base, other.metadata) == (7, Fraction(1, 90_000), {"camera": 1})
    assert other.array.sum() == 16
    assert frame.array.sum() == 0


def test_frames_do_not_share_default_metadata():
    assert VideoFrame(array=np.zeros(1)).metadata is not VideoFrame(array=np.zeros(1)).metadata


def test_the_array_of_a_frame_pickles_out_of_band():
    frame, buffers = VideoFrame(array=np.arange(12, dtype=np.uint8).reshape(2, 2, 3), pts=1), []
    data = pickle.dumps(frame, 5, buffer_callback=buffers.append)
    copy = pickle.loads(data, buffers=buffers)
    assert len(buffers) == 1
    assert np.shares_memory(copy.array, frame.array)
    assert copy.pts == 1
