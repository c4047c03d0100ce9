"""The time of a run, shared out among its questions and their cases."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence


class Allotment:
    """Time until `ends` (of the clock). What a part does not use is there for those after it."""

    def __init__(self, ends: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.ends, self._clock = ends, clock

    @classmethod
    def of(cls, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Allotment:
        """From now on; None: without end."""
        return cls(math.inf if seconds is None else clock() + seconds, clock)

    def has(self, seconds: float) -> bool:
        """Whether something that takes so long would still end in time."""
        return self._clock() + seconds <= self.ends

    def split(self, weights: Sequence[float]) -> Iterator[Allotment]:
        """One allotment for each weight, its part of what is left when it is asked for."""
        for index, weight in enumerate(weights):
            now = self._clock()
            yield Allotment(now + (self.ends - now) * weight / sum(weights[index:]), self._clock)
