"""Filters for sound that work a block at a time and give the same samples however the stream is cut into blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil, gcd, log10, pi, tan
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

_STOPBAND_DB = 90.0
_ROLLOFF = 0.9  # of the lower Nyquist frequency: where the pass band ends


def as_samples(array: npt.NDArray[Any]) -> Samples:
    """(samples, channels) float32 in -1..1, from float or int16, of one or two axes. Raises ValueError otherwise."""
    if array.ndim not in {1, 2} or not (array.dtype == np.int16 or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(
            f"sound must be a float32 or int16 array of shape (samples, channels), not {array.dtype} {array.shape}"
        )
    samples: npt.NDArray[Any] = array[:, None] if array.ndim == 1 else array
    floats: Samples = samples.astype(np.float32, copy=False)
    return floats * np.float32(1 / 32768) if samples.dtype == np.int16 else floats


def decibels(mean_square: float) -> float:
    """10·log10 of a mean square; -inf for silence."""
    return 10 * log10(mean_square) if mean_square > 0 else float("-inf")


# -- resampling ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def polyphase(rate_in: int, rate_out: int) -> tuple[int, int, Samples]:
    """(up, down, filters): a Kaiser-windowed sinc cut into `up` phases; filters are (up, taps).

    Pass band to 0.9 of the lower Nyquist frequency, stop band (-90 dB) from that frequency on. Length and shape by
    Kaiser's formulas (J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974).
    Output sample n lies at n·down/up input samples; its window starts `taps // 2 - 1` samples before floor(n·down/up).
    """
    divisor = gcd(rate_in, rate_out)
    up, down = rate_out // divisor, rate_in // divisor
    nyquist = min(1.0, up / down)  # in units of the input's Nyquist frequency
    width = (1 - _ROLLOFF) * nyquist
    half = ceil((_STOPBAND_DB - 7.95) / (2.285 * pi * width) / 2)
    beta = 0.1102 * (_STOPBAND_DB - 8.7)
    cutoff = nyquist - width / 2
    offsets = np.arange(1 - half, half + 1) - np.arange(up)[:, None] / up  # input positions relative to the output's
    window = np.i0(beta * np.sqrt(np.maximum(0, 1 - (offsets / half) ** 2))) / np.i0(beta)
    filters = cutoff * np.sinc(cutoff * offsets) * window
    filters /= filters.sum(axis=1, keepdims=True)  # each phase passes a constant unchanged
    return up, down, filters.astype(np.float32)


class Resampler:
    """Streaming rate conversion of (samples, channels): n inputs give ceil(n·up/down) outputs in all, without delay.

    The first output lies at the time of the first input. `push` gives what can be computed so far, `finish` the rest.
    """

    _ROWS = 4096  # outputs computed at once: bounds the memory for the windows

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self.up, self.down, self._filters = polyphase(rate_in, rate_out)
        self._half = self._filters.shape[1] // 2
        self._pending: Samples = np.zeros((self._half - 1, channels), np.float32)  # silence before the first sample
        self._first = 1 - self._half  # input index of _pending[0]
        self._taken = 0
        self._given = 0

    def push(self, samples: Samples, empty: Callable[..., Samples] = np.empty) -> Samples:
        """Outputs whose whole window has arrived, in an array made by `empty(shape, dtype)`."""
        self._taken += len(samples)
        self._pending = np.concatenate([self._pending, samples])
        # Output n needs inputs up to floor(n·down/up) + half.
        ready = -(-(self._taken - self._half) * self.up // self.down) if self._taken > self._half else 0
        return self._compute(ready, empty)

    def finish(self, empty: Callable[..., Samples] = np.empty) -> Samples:
        """The last outputs; after the last input there is silence."""
        silence = np.zeros((self._half + 1, self._pending.shape[1]), np.float32)
        self._pending = np.concatenate([self._pending, silence])
        return self._compute(-(-self._taken * self.up // self.down), empty)

    def _compute(self, end: int, empty: Callable[..., Samples]) -> Samples:
        count = end - self._given
        if count <= 0:
            return self._pending[:0]
        out = empty((count, self._pending.shape[1]), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, self._filters.shape[1], axis=0)
        for start in range(0, count, self._ROWS):
            numbers = np.arange(self._given + start, self._given + min(start + self._ROWS, count), dtype=np.int64)
            at, phase = np.divmod(numbers * self.down, self.up)
            rows = windows[at + (1 - self._half) - self._first]
            np.einsum("nct,nt->nc", rows, self._filters[phase], out=out[start : start + self._ROWS])
        self._given += count
        self._forget()
        return out

    def _forget(self) -> None:
        """Drop inputs that no later output needs."""
        needed = self._given * self.down // self.up + 1 - self._half
        drop = min(max(0, needed - self._first), len(self._pending))
        self._pending = self._pending[drop:].copy()
        self._first += drop


# -- loudness --------------------------------------------------------------------------------------------------------

_RESPONSE_S = 0.05  # after that the K filter's impulse response is below -110 dB


def k_weighting(sample_rate: int) -> list[tuple[tuple[float, float, float], tuple[float, float]]]:
    """The two biquads of ITU-R BS.1770-5 annex 1, as ((b0, b1, b2), (a1, a2)), for any sample rate.

    The recommendation tabulates them for 48 kHz; these are the analog prototypes behind that table, mapped by the
    bilinear transform (B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018).
    """
    k, q = tan(pi * 1681.9744509555319 / sample_rate), 0.7071752369554193
    high = 10 ** (3.99984385397 / 20)
    band = high**0.499666774155
    a0 = 1 + k / q + k * k
    shelf = (
        ((high + band * k / q + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / q + k * k) / a0),
        (2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0),
    )
    k, q = tan(pi * 38.13547087613982 / sample_rate), 0.5003270373253953
    a0 = 1 + k / q + k * k
    return [shelf, ((1.0, -2.0, 1.0), (2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0))]


@lru_cache(maxsize=8)
def k_response(sample_rate: int) -> npt.NDArray[np.float64]:
    """Impulse response of the K filter, cut at 50 ms."""
    response = np.zeros(int(_RESPONSE_S * sample_rate))
    response[0] = 1
    for (b0, b1, b2), (a1, a2) in k_weighting(sample_rate):
        x1 = x2 = y1 = y2 = 0.0
        for n, x in enumerate(response.tolist()):
            y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
            x1, x2, y1, y2 = x, x1, y, y1
            response[n] = y
    return response


class BlockConvolution:
    """Streaming convolution of (samples, channels) with a finite response, by overlap-save with FFTs.

    A recursive filter needs a Python step per sample; its truncated impulse response needs two FFTs per block, and the
    result does not depend on how the stream is cut.
    """

    def __init__(self, response: npt.NDArray[np.float64], channels: int) -> None:
        self._response = response
        self._history = np.zeros((len(response) - 1, channels))
        self._spectra: dict[int, npt.NDArray[np.complex128]] = {}

    def __call__(self, samples: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """As many outputs as inputs."""
        block = np.concatenate([self._history, samples])
        size = 1 << (len(block) - 1).bit_length()
        if size not in self._spectra:
            self._spectra[size] = np.fft.rfft(self._response, size)[:, None]
        result = np.fft.irfft(np.fft.rfft(block, size, axis=0) * self._spectra[size], size, axis=0)
        self._history = block[len(samples) :]
        return result[len(self._response) - 1 : len(block)]
