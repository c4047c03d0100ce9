"""Small statistics and the form in which numbers are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between the two nearest ranks; `percent` in 0..100. Raises ValueError for no values."""
    if not values:
        raise ValueError("percentile of no values")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def spread(values: Sequence[float]) -> float:
    """Half the range from the least to the greatest, as a part of the median: 0.05 reads as ± 5 %."""
    middle = median(values)
    return 0.0 if middle == 0 else abs((max(values) - min(values)) / 2 / middle)


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """The items, starting with another one each turn, so that none always goes first."""
    if not items:
        return []
    start = turn % len(items)
    return [*items[start:], *items[:start]]


def shown(value: float) -> str:
    """Three significant digits: 0.0634, 7.50, 75.2, 24 239; no exponents."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}".replace(",", " ")
    decimals = 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:.{decimals}f}"
