"""Adding streams of sound at their times: pure arithmetic on numpy arrays, all counts in samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


class Mixer:
    """The sum of `inputs` streams of (samples, channels) float32, sample by sample at their positions.

    A stretch of the sum is ready when all inputs have got past it; an input that is more than `max_wait` behind the
    foremost is not waited for, and what it brings for a time that has been given out is left out (`late`). Before its
    first sample and in its gaps an input is silent; where it overlaps itself the first samples count.
    """

    def __init__(self, inputs: int, channels: int, max_wait: int) -> None:
        self._channels, self._max_wait = channels, max_wait
        self._ends: list[int | None] = [None] * inputs  # up to where each input has come
        self._sum: Samples = np.zeros((0, channels), np.float32)
        self.position: int | None = None
        """Where the sum goes on: what comes before has been given out. None: nothing has come yet."""
        self._fixed = False  # something was given out, so that the start cannot move any more
        self.late = 0

    def push(self, number: int, start: int | None, samples: npt.NDArray[Any], gain: float = 1.0) -> None:
        """Add `gain` times the samples of input `number`, which begin at `start` (None: right after its last)."""
        end = self._ends[number]
        if start is None:
            start = end if end is not None else (self.position or 0)
        overlap = 0 if end is None else min(max(end - start, 0), len(samples))
        samples, start = samples[overlap:], start + overlap
        if self.position is None:
            self.position = start
        elif start < self.position and not self._fixed:
            self._sum = np.concatenate([np.zeros((self.position - start, self._channels), np.float32), self._sum])
            self.position = start
        late = min(max(self.position - start, 0), len(samples))
        self.late += late
        samples, start = samples[late:], start + late
        self._ends[number] = max(start + len(samples), end if end is not None else start)
        offset = start - self.position
        missing = offset + len(samples) - len(self._sum)
        if missing > 0:
            self._sum = np.concatenate([self._sum, np.zeros((missing, self._channels), np.float32)])
        self._sum[offset : offset + len(samples)] += samples * np.float32(gain)

    @property
    def ready(self) -> int:
        """How many samples can be taken."""
        ends = [end for end in self._ends if end is not None]
        if not ends or self.position is None:
            return 0
        foremost = max(ends)
        certain = min(ends) if len(ends) == len(self._ends) else foremost - self._max_wait
        return max(0, max(certain, foremost - self._max_wait) - self.position)

    @property
    def rest(self) -> int:
        """How many samples there are, ready or not."""
        return len(self._sum)

    def take(self, count: int, empty: Callable[..., Samples] = np.empty) -> tuple[int, Samples]:
        """(position, samples) of the next `count` samples, in an array made by `empty(shape, dtype)`."""
        assert self.position is not None
        assert count <= len(self._sum)
        start, self._fixed = self.position, True
        out = empty((count, self._channels), np.float32)
        np.copyto(out, self._sum[:count])
        self._sum, self.position = self._sum[count:], start + count
        return start, out
