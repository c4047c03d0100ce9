"""Loudness: bring a stream to a target loudness as people hear it (ITU-R BS.1770), while it runs."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import exp
from typing import Any

import numpy as np

from remotemedia.core.frames import AudioFrame
from remotemedia.nodes import dsp
from remotemedia.nodes.typed import AudioNode

_HOP_S = 0.1
_BLOCK_HOPS = 4  # BS.1770: blocks of 400 ms that overlap by 75 %
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU
_ATTACK = 0.5  # of the way per hop
_SURROUND_WEIGHTS = (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)  # left, right, centre, LFE, left and right surround


def gated_loudness(hop_powers: list[float]) -> float | None:
    """Loudness in LUFS over hops of 100 ms (weighted mean squares of K-weighted sound); None for silence.

    BS.1770: blocks of 400 ms, those under -70 LUFS left out, then those 10 LU under the mean of the rest.
    """
    size = min(_BLOCK_HOPS, len(hop_powers))
    blocks = np.convolve(hop_powers, np.full(size, 1 / size), mode="valid")
    loud = blocks[blocks > _power(_ABSOLUTE_GATE)]
    if not loud.size:
        return None
    loud = loud[loud > float(loud.mean()) * 10 ** (_RELATIVE_GATE / 10)]
    return -0.691 + dsp.decibels(float(loud.mean()))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


class Loudness(AudioNode):
    """Bring sound to `target_lufs`, measured by ITU-R BS.1770-5 over the last `window_s` seconds.

    Every 100 ms of sound the gain moves towards what is missing, at most ±`max_gain_db`: up with a time constant of a
    third of the window; down within half a second, by the loudness of the last 400 ms if that is higher; at once for
    the first sound after silence. It ramps linearly, so it never clicks; silence (under -70 LUFS) leaves it as it is.
    Samples beyond `ceiling_db` are clipped there. No delay: as many samples out as in, whatever the frame sizes.
    Adds `metadata["loudness_lufs"]` (of the input; None while silent) and `metadata["gain_db"]`. To measure only, by
    FFmpeg's meter: `LoudnessMeter`.

    Takes float32 or int16 sound (samples, channels); gives float32 of the same shape. Raises ConfigurationError for bad
    settings, TypeError and ValueError for what is no sound.

    >>> frames = run_pipeline([Loudness(-16)], sine(997, level_db=-30, channels=2, seconds=5))
    >>> last = frames[-1].metadata
    >>> round(last["loudness_lufs"] + last["gain_db"])
    -16
    """

    def __init__(
        self,
        target_lufs: float = -16.0,
        *,
        window_s: float = 3.0,
        max_gain_db: float = 20.0,
        ceiling_db: float = -1.0,
        **options: Any,
    ) -> None:
        super().__init__(
            target_lufs=target_lufs, window_s=window_s, max_gain_db=max_gain_db, ceiling_db=ceiling_db, **options
        )
        self.check(-70 < target_lufs <= 0, "target_lufs", target_lufs, "LUFS, above -70, at most 0")  # noqa: PLR2004
        self.check(window_s >= _HOP_S, "window_s", window_s, f"seconds, at least {_HOP_S}")
        self.check(max_gain_db >= 0, "max_gain_db", max_gain_db, "decibels, 0 or more")
        self.check(ceiling_db <= 0, "ceiling_db", ceiling_db, "dBFS, 0 or less")
        self.target_lufs, self.window_s, self.max_gain_db = target_lufs, window_s, max_gain_db
        self.ceiling = np.float32(10 ** (ceiling_db / 20))
        self._release = 1 - exp(-_HOP_S / (window_s / 3))
        self._format: tuple[int, int] | None = None

    def initialize(self) -> None:
        self._format = None

    def transform(self, frame: AudioFrame) -> AudioFrame:
        samples = dsp.as_samples(frame.array)
        if self._format != (frame.sample_rate, samples.shape[1]):
            self._start(frame.sample_rate, samples.shape[1])
        out = self.empty(samples.shape, np.float32)
        power = np.square(self._filter(samples)) @ self._weights
        done = 0
        while done < len(samples):
            part = slice(done, min(len(samples), done + self._hop - self._filled))
            np.multiply(samples[part], self._ramp(part.stop - done)[:, None], out=out[part])
            self._measure(power[part])
            done = part.stop
        np.clip(out, -self.ceiling, self.ceiling, out=out)
        facts = {"loudness_lufs": self._loudness, "gain_db": self._gain_db}
        return replace(frame, array=out, metadata={**frame.metadata, **facts})

    def _start(self, sample_rate: int, channels: int) -> None:
        self._format = (sample_rate, channels)
        self._filter = dsp.BlockConvolution(dsp.k_response(sample_rate), channels)
        surround = channels == len(_SURROUND_WEIGHTS)
        self._weights = np.array(_SURROUND_WEIGHTS) if surround else np.ones(channels)
        self._hop = round(sample_rate * _HOP_S)
        self._powers: deque[float] = deque(maxlen=max(1, round(self.window_s / _HOP_S)))
        self._filled, self._energy = 0, 0.0
        self._loudness: float | None = None
        self._gain_db = 0.0
        self._factors = (1.0, 1.0)  # at the start and at the end of the present hop

    def _ramp(self, count: int) -> dsp.Samples:
        """The gain factors of the next `count` samples, all within the present hop."""
        start, end = self._factors
        steps = np.arange(self._filled + 1, self._filled + count + 1, dtype=np.float32)
        return np.multiply(steps, np.float32((end - start) / self._hop), out=steps) + np.float32(start)

    def _measure(self, power: Any) -> None:
        self._filled += len(power)
        self._energy += float(power.sum())
        if self._filled < self._hop:
            return
        self._powers.append(self._energy / self._hop)
        self._filled, self._energy = 0, 0.0
        self._adapt()
        self._factors = (self._factors[1], 10 ** (self._gain_db / 20))

    def _adapt(self) -> None:
        """Move the gain, now that another hop is measured."""
        powers, was_silent = list(self._powers), self._loudness is None
        self._loudness = gated_loudness(powers)
        if self._loudness is None:
            return
        momentary = gated_loudness(powers[-_BLOCK_HOPS:])
        level = self._loudness if momentary is None else max(self._loudness, momentary)
        change = min(max(self.target_lufs - level, -self.max_gain_db), self.max_gain_db) - self._gain_db
        speed = 1.0 if was_silent else self._release if change > 0 else _ATTACK
        self._gain_db += change * speed

    def cleanup(self) -> None:
        super().cleanup()
        self._format = None
