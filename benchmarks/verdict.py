"""Is one series better than another? An answer that knows what noise can do.

The rounds of both were taken in pairs, one right after the other, so what makes the machine slow for a while is in both
and leaves their ratio. The interval of the median ratio is the one that belongs to the sign test: it lies between the
k-th smallest and the k-th greatest ratio, and needs no assumption about how the noise is distributed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.summary import median

FALSE_ALARM = 0.05
"""How often a whole table may say "better" or "worse" of a row without difference."""

Word = Literal["better", "worse", "no difference seen", "too few rounds"]


@dataclass(frozen=True)
class Verdict:
    """`ratio`: new / old, the median of the pairs, with its interval; the interval is endless with too few rounds."""

    ratio: float
    low: float
    high: float
    word: Word

    @property
    def noise(self) -> float:
        """Half the width of the interval, as a part of the ratio: a smaller difference would not have been seen."""
        return (self.high - self.low) / 2 / self.ratio

    def __str__(self) -> str:
        if self.word == "no difference seen":
            return f"{self.word} at this noise (±{self.noise:.0%})"
        return self.word


def rank_of_bound(pairs: int, false_alarm: float) -> int:
    """The greatest k for which the median lies outside of the k-th smallest and greatest of `pairs` values with at most
    this probability; 0 if not even the extremes are far enough apart."""
    tail, k = 0.0, 0
    while k < pairs:
        tail += math.comb(pairs, k) / 2**pairs
        if 2 * tail > false_alarm:
            break
        k += 1
    return k


def rounds_needed(rows: int) -> int:
    """How many pairs it takes until a table of so many rows can say anything."""
    return next(pairs for pairs in range(1, 1000) if rank_of_bound(pairs, FALSE_ALARM / rows))


def compare(new: Sequence[float], old: Sequence[float], more_is_better: bool, rows: int = 1) -> Verdict:
    """Judge the pairs of rounds; `rows` such judgements are made in all. Raises ValueError for values not above 0."""
    if min((*new, *old), default=0.0) <= 0:
        raise ValueError("ratios need values above 0, and at least one pair")
    ratios = sorted(a / b for a, b in zip(new, old, strict=False))
    k = rank_of_bound(len(ratios), FALSE_ALARM / rows)
    if k == 0:
        return Verdict(median(ratios), 0.0, math.inf, "too few rounds")
    low, high = ratios[k - 1], ratios[-k]
    if low <= 1 <= high:
        return Verdict(median(ratios), low, high, "no difference seen")
    return Verdict(median(ratios), low, high, "better" if (low > 1) == more_is_better else "worse")
