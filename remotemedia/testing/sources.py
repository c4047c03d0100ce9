"""Synthetic media that needs no files: colour bars, a moving box, sines, speech-like bursts; and a clip made of them.

Pictures and sounds are computed from their time alone, so two runs give the same bytes.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import AudioFrame, MediaFrame, VideoFrame
from remotemedia.nodes.media_io import FileSummary, MediaFileSink

# 75 % bars from left to right: white, yellow, cyan, green, magenta, red, blue.
_BARS = np.array(
    [(191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191)], np.uint8
)
_AUDIO_FRAME = 1024
_MOST_NOISE = 15  # the picture's levels, 30 to 240, stay within a byte


def _check(seconds: float | None, **positive: float) -> None:
    if seconds is not None:
        positive["seconds"] = seconds
    for name, value in positive.items():
        if value <= 0:
            raise ConfigurationError(f"{name}={value!r}: expected more than 0")


def _numbers(seconds: float | None, rate: float) -> Iterator[int]:
    """0, 1, 2 … for `seconds` (None: for ever)."""
    number = 0
    while seconds is None or number < round(seconds * rate):
        yield number
        number += 1


def colour_bars(
    width: int = 1280, height: int = 720, *, fps: float = 30, seconds: float | None = None
) -> Iterator[VideoFrame]:
    """The seven classic bars, rgb24, standing still; `seconds=None` never ends. All frames share a read-only array."""
    _check(seconds, width=width, height=height, fps=fps)
    rate = Fraction(fps).limit_denominator(1001)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = _BARS[np.arange(width) * len(_BARS) // width]
    picture.flags.writeable = False
    for number in _numbers(seconds, fps):
        yield VideoFrame(array=picture, pts=number, time_base=1 / rate, metadata={"frame_rate": rate})


def moving_box(
    width: int = 1280,
    height: int = 720,
    *,
    fps: float = 30,
    seconds: float | None = None,
    size: int | None = None,
    noise: int = 0,
    seed: int = 0,
) -> Iterator[VideoFrame]:
    """A bright box of `size` pixels (default: a fifth of the height) that circles over a dark gradient, once in 4 s.

    `noise`: largest random deviation of a value, 0..15 levels, the same for the same `seed`. metadata["box"] is where
    the box is: (x, y, width, height) in pixels.
    """
    side = height // 5 if size is None else size
    _check(seconds, width=width, height=height, fps=fps, size=side)
    if side > min(width, height) or noise not in range(_MOST_NOISE + 1):
        raise ConfigurationError(
            f"size={side!r}, noise={noise!r}: expected a box within the picture and noise 0 to {_MOST_NOISE}"
        )
    rate = Fraction(fps).limit_denominator(1001)
    random = np.random.default_rng(seed)
    ground = np.empty((height, width, 3), np.uint8)
    ground[:] = np.linspace(30, 90, width, dtype=np.uint8)[:, None]
    for number in _numbers(seconds, fps):
        turn = 2 * np.pi * float(number / rate) / 4
        x = round((width - side) * (1 + np.cos(turn)) / 2)
        y = round((height - side) * (1 + np.sin(turn)) / 2)
        picture = ground.copy()
        picture[y : y + side, x : x + side] = (240, 200, 40)
        if noise:
            picture -= np.uint8(noise)
            picture += random.integers(0, 2 * noise, picture.shape, dtype=np.uint8, endpoint=True)
        facts = {"frame_rate": rate, "box": (x, y, side, side)}
        yield VideoFrame(array=picture, pts=number, time_base=1 / rate, metadata=facts)


def sine(
    frequency: float = 440.0,
    *,
    sample_rate: int = 48_000,
    channels: int = 1,
    level_db: float = -20.0,
    seconds: float | None = None,
    frame_samples: int = _AUDIO_FRAME,
) -> Iterator[AudioFrame]:
    """A tone of `frequency` Hz whose peak is at `level_db` dBFS, float32; the last frame may be shorter."""
    _check(seconds, frequency=frequency, sample_rate=sample_rate, channels=channels, frame_samples=frame_samples)
    amplitude = 10 ** (level_db / 20)
    total = None if seconds is None else round(seconds * sample_rate)
    start = 0
    while total is None or start < total:
        count = frame_samples if total is None else min(frame_samples, total - start)
        phase = 2 * np.pi * np.mod(np.arange(start, start + count) * frequency / sample_rate, 1.0)
        samples = np.repeat((amplitude * np.sin(phase)).astype(np.float32)[:, None], channels, axis=1)
        yield AudioFrame(array=samples, pts=start, time_base=Fraction(1, sample_rate), sample_rate=sample_rate)
        start += count


def swelling_tone(
    sample_rate: int = 48_000, *, channels: int = 2, seconds: float | None = None, step_s: float = 2.0
) -> Iterator[AudioFrame]:
    """A tone whose peak steps every `step_s` through -36, -14 and -26 dBFS: work for a loudness normaliser."""
    _check(seconds, step_s=step_s)
    levels = np.array([-36.0, -14.0, -26.0])
    for frame in sine(330.0, sample_rate=sample_rate, channels=channels, level_db=0.0, seconds=seconds):
        start = frame.pts or 0
        step = (np.arange(start, start + len(frame.array)) // round(step_s * sample_rate)) % len(levels)
        gain = (10 ** (levels[step] / 20)).astype(np.float32)
        yield replace(frame, array=frame.array * gain[:, None])


def make_clip(
    path: str | os.PathLike[str],
    *,
    seconds: float = 10.0,
    width: int = 1280,
    height: int = 720,
    fps: float = 30,
    sample_rate: int = 48_000,
    noise: int = 6,
) -> FileSummary:
    """Write a media file (H.264 and AAC for .mp4) with a moving box, noise, and sound of changing loudness; needs PyAV.

    Raises NodeError if the file cannot be written, ConfigurationError without PyAV.
    """
    pictures = moving_box(width, height, fps=fps, seconds=seconds, noise=noise)
    sound = swelling_tone(sample_rate, seconds=seconds)
    sink = MediaFileSink(path, streams=("video", "audio"), codec_options={"preset": "ultrafast"})
    sink.initialize()
    try:
        for frame in heapq.merge(pictures, sound, key=_time):
            sink.process(frame)
        return sink.flush()
    finally:
        sink.cleanup()


def _time(frame: MediaFrame) -> float:
    return frame.time_s or 0.0
