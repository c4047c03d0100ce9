"""Audio nodes in plain numpy: resample, gain, loudness, mono, fixed chunks, voice activity.

Sound is float32 (samples, channels) in -1..1 (int16 and one-dimensional arrays are converted). Each node gives the same
samples however the stream is cut into frames, and keeps time: gaps in the input's pts stay gaps in the output's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from remotemedia.core.frames import AudioFrame
from remotemedia.nodes import dsp
from remotemedia.nodes.typed import AudioNode

_GAP_S = Fraction(1, 50)  # a jump in pts beyond this is a gap; below it, it is a container's rounding


@dataclass
class Timeline:
    """Where in time a run of gapless frames has got to."""

    start: Fraction  # seconds
    sample_rate: int
    channels: int
    samples: int = 0

    @classmethod
    def at(cls, frame: AudioFrame) -> Timeline:
        """A run that starts with `frame` (at 0 if it has no pts)."""
        start = Fraction(0) if frame.pts is None else frame.pts * frame.time_base
        return cls(start, frame.sample_rate, frame.channels)

    def continues(self, frame: AudioFrame) -> bool:
        """Whether `frame` follows without a gap and in the same format."""
        if (frame.sample_rate, frame.channels) != (self.sample_rate, self.channels):
            return False
        now = self.start + Fraction(self.samples, self.sample_rate)
        return frame.pts is None or abs(frame.pts * frame.time_base - now) <= _GAP_S

    def frame(self, samples: dsp.Samples, sample_rate: int, number: int, metadata: Any) -> AudioFrame:
        """An output of this run that starts `number` samples of `sample_rate` after its start."""
        pts = round(self.start * sample_rate) + number
        time_base = Fraction(1, sample_rate)
        return AudioFrame(array=samples, pts=pts, time_base=time_base, metadata=metadata, sample_rate=sample_rate)


class Gain(AudioNode):
    """Make it `db` decibels louder (or softer, if negative). Does not clip: float sound may exceed 1 until written.

    Takes float32 or int16 sound (samples, channels); gives float32 of the same shape. Raises ConfigurationError for bad
    settings, TypeError and ValueError for what is no sound.

    >>> Gain(-20).process(AudioFrame(array=np.array([[1.0], [-0.5]], np.float32))).array.round(3).tolist()
    [[0.10000000149011612], [-0.05000000074505806]]
    """

    def __init__(self, db: float = 0.0, **options: Any) -> None:
        super().__init__(db=db, **options)
        self.check(isinstance(db, (int, float)) and abs(db) <= 120, "db", db, "decibels, -120 to 120")  # noqa: PLR2004
        self.factor = np.float32(10 ** (db / 20))

    def transform(self, frame: AudioFrame) -> AudioFrame:
        samples = dsp.as_samples(frame.array)
        out = self.empty(samples.shape, np.float32)
        np.multiply(samples, self.factor, out=out)
        return replace(frame, array=out)


class ToMono(AudioNode):
    """The mean of all channels, as one channel: shape (samples, 1).

    Takes float32 or int16 sound (samples, channels); gives float32. Raises TypeError and ValueError for what is no
    sound.

    >>> ToMono().process(AudioFrame(array=np.array([[1.0, 0.0], [0.5, 0.5]], np.float32))).array.tolist()
    [[0.5], [0.5]]
    """

    def transform(self, frame: AudioFrame) -> AudioFrame:
        samples = dsp.as_samples(frame.array)
        out = self.empty((len(samples), 1), np.float32)
        np.mean(samples, axis=1, keepdims=True, out=out)
        return replace(frame, array=out)


class Resample(AudioNode):
    """Convert to `sample_rate` Hz by a polyphase windowed sinc.

    Flat up to 90 % of the lower Nyquist frequency, aliases below -90 dB. n samples give ceil(n · out / in) in all,
    none delayed; `flush` gives the last ones. pts count in 1/sample_rate. Takes float32 or int16 sound (samples,
    channels); gives float32. Raises ConfigurationError for bad settings, TypeError and ValueError for what is no sound.

    >>> frames = run_pipeline([Resample(16_000)], sine(440, sample_rate=48_000, seconds=1))
    >>> sum(len(frame.array) for frame in frames), frames[0].sample_rate, frames[0].array.dtype
    (16000, 16000, dtype('float32'))
    """

    def __init__(self, sample_rate: int = 48_000, **options: Any) -> None:
        super().__init__(sample_rate=sample_rate, **options)
        self.check(
            isinstance(sample_rate, int) and 1000 <= sample_rate <= 768_000,  # noqa: PLR2004
            "sample_rate", sample_rate, "Hz, 1000 to 768000",
        )  # fmt: skip
        self.sample_rate = sample_rate
        self._timeline: Timeline | None = None

    def initialize(self) -> None:
        self._timeline = None

    def transform(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        if frame.sample_rate == self.sample_rate:
            yield from self._finish()
            yield frame
            return
        if self._timeline is None or not self._timeline.continues(frame):
            yield from self._finish()
            self._timeline = Timeline.at(frame)
            self._resampler = dsp.Resampler(frame.sample_rate, self.sample_rate, frame.channels)
            self._given = 0
        samples = dsp.as_samples(frame.array)
        self._timeline.samples += len(samples)
        self._metadata = frame.metadata
        yield from self._framed(self._timeline, self._resampler.push(samples, self.empty))

    def flush(self) -> Iterator[AudioFrame]:
        yield from self._finish()

    def _finish(self) -> Iterator[AudioFrame]:
        if self._timeline is not None:
            timeline, self._timeline = self._timeline, None
            yield from self._framed(timeline, self._resampler.finish(self.empty))

    def _framed(self, timeline: Timeline, samples: dsp.Samples) -> Iterator[AudioFrame]:
        if len(samples):
            yield timeline.frame(samples, self.sample_rate, self._given, self._metadata)
            self._given += len(samples)


class Chunk(AudioNode):
    """Cut into frames of `duration_ms` each, as speech models and codecs want them; `flush` gives the shorter rest.

    Takes sound (samples, channels); gives float32 frames of round(sample_rate * duration_ms / 1000) samples, pts in
    1/sample_rate. `pad=True` fills the last frame, and the last before a gap in time, with silence to its full length.
    Raises ConfigurationError for bad settings, TypeError and ValueError for what is no sound.

    >>> chunks = run_pipeline([Chunk(20)], sine(440, sample_rate=16_000, seconds=0.05))
    >>> [(len(chunk.array), chunk.time_s) for chunk in chunks]
    [(320, 0.0), (320, 0.02), (160, 0.04)]
    >>> [len(chunk.array) for chunk in run_pipeline([Chunk(20, pad=True)], sine(440, sample_rate=16_000, seconds=0.05))]
    [320, 320, 320]
    """

    def __init__(self, duration_ms: float = 20.0, *, pad: bool = False, **options: Any) -> None:
        super().__init__(duration_ms=duration_ms, pad=pad, **options)
        self.check(duration_ms > 0, "duration_ms", duration_ms, "milliseconds, more than 0")
        self.duration_ms, self.pad = duration_ms, pad
        self._timeline: Timeline | None = None

    def initialize(self) -> None:
        self._timeline = None

    def transform(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        samples = dsp.as_samples(frame.array)
        if self._timeline is None or not self._timeline.continues(frame):
            yield from self._finish()
            self._timeline = Timeline.at(frame)
            self._size = max(1, round(frame.sample_rate * self.duration_ms / 1000))
            self._parts: list[dsp.Samples] = []  # what waits for its chunk to get full
            self._waiting = 0
        self._metadata = frame.metadata
        self._timeline.samples += len(samples)
        while self._waiting + len(samples) >= self._size:
            used = self._size - self._waiting
            self._parts.append(samples[:used])
            samples = samples[used:]
            yield self._chunk(self._timeline, self._size, len(samples))
        if len(samples):
            self._parts.append(samples.copy())  # a view would hold the whole frame it came from
            self._waiting += len(samples)

    def flush(self) -> Iterator[AudioFrame]:
        yield from self._finish()

    def _finish(self) -> Iterator[AudioFrame]:
        if self._timeline is not None:
            timeline, self._timeline = self._timeline, None
            if self._waiting:
                yield self._chunk(timeline, self._waiting, 0)

    def _chunk(self, timeline: Timeline, size: int, not_yet_used: int) -> AudioFrame:
        out = self.empty((self._size if self.pad else size, timeline.channels), np.float32)
        np.concatenate(self._parts, out=out[:size])
        out[size:] = 0
        self._parts, self._waiting = [], 0
        return timeline.frame(out, timeline.sample_rate, timeline.samples - not_yet_used - size, self._metadata)


class EnergyVad(AudioNode):
    """Mark speech by its energy: `metadata["speech"]` (bool) and `metadata["level_db"]` (dBFS) of each frame.

    A frame counts as speech when its level is `margin_db` above the noise floor and above `minimum_db`, and until
    `hangover_s` after the last such frame. The floor follows the level down at once and up by 1 dB per second.
    `drop_silence=True` lets only speech through. Works best on equal frames: put `Chunk()` before it. It knows loud
    from quiet, not speech from music: for that, run a model of your choice in a node of your own.

    Takes float32 or int16 sound (samples, channels); gives the same frames. Raises ConfigurationError for bad settings,
    TypeError and ValueError for what is no sound.

    >>> tone, silence = sine(440, level_db=-10, seconds=0.2), np.zeros((48_000, 1), np.float32)
    >>> frames = [*tone, AudioFrame(array=silence)]
    >>> speech = [frame.metadata["speech"] for frame in run_pipeline([EnergyVad(hangover_s=0.1)], frames)]
    >>> speech[0], speech[-1]
    (True, False)
    """

    _RISE_DB_PER_S = 1.0

    def __init__(
        self,
        *,
        margin_db: float = 9.0,
        minimum_db: float = -50.0,
        hangover_s: float = 0.3,
        drop_silence: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            margin_db=margin_db, minimum_db=minimum_db, hangover_s=hangover_s, drop_silence=drop_silence, **options
        )
        self.check(margin_db > 0, "margin_db", margin_db, "decibels, more than 0")
        self.check(minimum_db < 0, "minimum_db", minimum_db, "dBFS, less than 0")
        self.check(hangover_s >= 0, "hangover_s", hangover_s, "seconds, 0 or more")
        self.margin_db, self.minimum_db, self.hangover_s = margin_db, minimum_db, hangover_s
        self.drop_silence = drop_silence
        self._reset()

    def initialize(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._floor_db = self.minimum_db
        self._since_speech_s = float("inf")

    def transform(self, frame: AudioFrame) -> AudioFrame | None:
        samples = dsp.as_samples(frame.array)
        level = dsp.decibels(float(np.mean(np.square(samples)))) if samples.size else float("-inf")
        loud = level > max(self._floor_db + self.margin_db, self.minimum_db)
        self._since_speech_s = 0.0 if loud else self._since_speech_s + frame.duration_s
        self._floor_db = min(max(level, -100.0), self._floor_db + self._RISE_DB_PER_S * frame.duration_s)
        speech = self._since_speech_s <= self.hangover_s
        if self.drop_silence and not speech:
            return None
        return replace(frame, metadata={**frame.metadata, "speech": speech, "level_db": level})
