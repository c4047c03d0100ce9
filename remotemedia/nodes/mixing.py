"""Mixing several streams of sound into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from remotemedia.core.exceptions import NodeError
from remotemedia.core.frames import AudioFrame, MediaFrame
from remotemedia.nodes import dsp
from remotemedia.nodes.filter_chain import FilterChain
from remotemedia.nodes.mixer import Mixer
from remotemedia.nodes.typed import AudioNode

LIMITS = ("headroom", "limiter", "none")


class Mix(AudioNode):
    """Add the streams called `inputs`, aligned by pts; `Label` before it names them (metadata["stream"]).

    Takes sound (samples, channels) of `sample_rate` Hz with `channels` channels, or one, which goes to all; float32 or
    int16. Gives float32 frames of `duration_ms`, pts in 1/`sample_rate`, metadata {}; the last one may be shorter.
    `gains_db`: name → decibels. Too loud? `limit`: "headroom" divides by the number of inputs, so that inputs within
    -1..1 cannot clip; "limiter" keeps the loudness and holds peaks below `ceiling_db` dBFS with FFmpeg's `alimiter`
    (extra [media]; look-ahead of 5 ms, which does not shift the sound); "none" only adds, so that sums may exceed 1.

    Sound is given out when all inputs have got so far. An input that stays behind by more than `max_wait_s` seconds of
    media is not waited for; what it brings too late is left out, and logged. Other frames pass or are dropped
    (`other`).

    Raises ConfigurationError for bad settings, NodeError for sound of another rate, of a wrong number of channels or of
    an unknown stream, TypeError for what is no typed frame.

    >>> low = [Label("low").process(frame) for frame in sine(200, level_db=0, seconds=0.1)]
    >>> high = [Label("high").process(frame) for frame in sine(900, level_db=0, seconds=0.1)]
    >>> mixed = run_pipeline([Mix(["low", "high"], channels=1, gains_db={"high": -20})], [*low, *high])
    >>> sound = np.concatenate([frame.array for frame in mixed])
    >>> sound.shape, mixed[1].time_s, bool(abs(sound).max() <= 1)
    ((4800, 1), 0.02, True)
    >>> expected = np.concatenate([(a.array + 0.1 * b.array) / 2 for a, b in zip(low, high)])
    >>> bool(np.allclose(sound, expected, atol=1e-6))
    True
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        sample_rate: int = 48_000,
        channels: int = 2,
        gains_db: Mapping[str, float] | None = None,
        limit: str = "headroom",
        ceiling_db: float = -1.0,
        duration_ms: float = 20.0,
        max_wait_s: float = 1.0,
        **options: Any,
    ) -> None:
        gains = dict(gains_db or {})
        super().__init__(
            inputs=list(inputs), sample_rate=sample_rate, channels=channels, gains_db=gains, limit=limit,
            ceiling_db=ceiling_db, duration_ms=duration_ms, max_wait_s=max_wait_s, **options,
        )  # fmt: skip
        self.check(
            not isinstance(inputs, str) and len(inputs) > 0 and len(set(inputs)) == len(inputs),
            "inputs", inputs, "names of streams, each once",
        )  # fmt: skip
        self.check(set(gains) <= set(inputs), "gains_db", gains, f"gains of {', '.join(inputs)}")
        self.check(limit in LIMITS, "limit", limit, f"one of {', '.join(LIMITS)}")
        self.check(-24 <= ceiling_db <= 0, "ceiling_db", ceiling_db, "dBFS, -24 to 0")  # noqa: PLR2004
        for setting, value in (("sample_rate", sample_rate), ("channels", channels)):
            self.check(isinstance(value, int) and value >= 1, setting, value, "a number, 1 or more")
        self.check(duration_ms > 0, "duration_ms", duration_ms, "milliseconds, more than 0")
        self.check(max_wait_s > 0, "max_wait_s", max_wait_s, "seconds, more than 0")
        self.inputs, self.sample_rate, self.channels = list(inputs), sample_rate, channels
        share = 1 / len(inputs) if limit == "headroom" else 1.0
        self.factors = [share * 10 ** (gains.get(name, 0.0) / 20) for name in inputs]
        self._limiter_text = f"alimiter=limit={10 ** (ceiling_db / 20):.6f}:attack=5:release=50:level=0:latency=1"
        self.limit, self.max_wait_s = limit, max_wait_s
        self._size = max(1, round(sample_rate * duration_ms / 1000))
        self._limiter: FilterChain | None = None
        self._begin()

    def _begin(self) -> None:
        self._mixer = Mixer(len(self.inputs), self.channels, round(self.max_wait_s * self.sample_rate))
        self._late = 0

    def initialize(self) -> None:
        """Begin anew. Raises NodeError if there shall be a limiter and this FFmpeg has none."""
        self._begin()
        if self.limit == "limiter":
            self._limiter = FilterChain(self.name, self._limiter_text, self.empty)

    def transform(self, frame: AudioFrame) -> Iterator[MediaFrame]:
        """What is complete, now that this frame has come."""
        self._add(frame)
        if self._mixer.late > self._late:
            self.logger.warning("%d samples of %r came too late", self._mixer.late, frame.metadata.get("stream"))
            self._late = self._mixer.late
        while self._mixer.ready >= self._size:
            yield from self._limited(self._size)

    def _add(self, frame: AudioFrame) -> None:
        stream = frame.metadata.get("stream")
        if stream not in self.inputs:
            raise NodeError(
                self.name, f"sound of stream {stream!r} is none of {', '.join(self.inputs)}; put Label(name) before it"
            )
        if frame.sample_rate != self.sample_rate:
            raise NodeError(
                self.name, f"stream {stream!r} has {frame.sample_rate} Hz, the mix {self.sample_rate} Hz; "
                f"put Resample({self.sample_rate}) before it",
            )  # fmt: skip
        samples = dsp.as_samples(frame.array)
        if samples.shape[1] not in {1, self.channels}:
            raise NodeError(
                self.name, f"stream {stream!r} has {samples.shape[1]} channels, the mix {self.channels}; "
                "put ToMono() before it",
            )  # fmt: skip
        start = None if frame.pts is None else round(frame.pts * frame.time_base * self.sample_rate)
        number = self.inputs.index(stream)
        self._mixer.push(number, start, samples, self.factors[number])

    def _limited(self, count: int) -> Iterator[MediaFrame]:
        if self._limiter is None:
            yield self._framed(*self._mixer.take(count, self.empty))
        else:
            frames = self._limiter.push(self._framed(*self._mixer.take(count)))
            yield from map(self._tidy, frames)

    def _framed(self, start: int, samples: Any) -> AudioFrame:
        return AudioFrame(
            array=samples, pts=start, time_base=Fraction(1, self.sample_rate), sample_rate=self.sample_rate
        )

    @staticmethod
    def _tidy(frame: MediaFrame) -> MediaFrame:
        return replace(frame, metadata={})

    def flush(self) -> Iterator[MediaFrame]:
        """The rest, whether all inputs have got so far or not."""
        while self._mixer.rest:
            yield from self._limited(min(self._size, self._mixer.rest))
        if self._limiter is not None:
            yield from map(self._tidy, self._limiter.finish())
        self._begin()

    def cleanup(self) -> None:
        """Let go of the sound that is held."""
        super().cleanup()
        self._limiter = None
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_limiter": None}
