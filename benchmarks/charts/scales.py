"""From values to places on an axis, and which values get a label."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.summary import shown

STEPS = (1.0, 2.0, 5.0, 10.0)


class Scale(Protocol):
    """An axis from 0 (its beginning) to 1 (its end)."""

    @property
    def ticks(self) -> list[float]: ...

    def place(self, value: float) -> float: ...


@dataclass(frozen=True)
class Linear:
    """From 0 to `end`, which is a tick."""

    end: float
    step: float

    @classmethod
    def for_values(cls, values: Iterable[float], most_ticks: int = 4) -> Linear:
        """The least round end that all values are below."""
        greatest = max(values, default=0.0) or 1.0
        power = 10.0 ** math.floor(math.log10(greatest / most_ticks))
        step = next(power * step for step in STEPS if power * step * most_ticks >= greatest)
        return cls(step * math.ceil(greatest / step - 1e-9), step)

    @property
    def ticks(self) -> list[float]:
        return [index * self.step for index in range(round(self.end / self.step) + 1)]

    def place(self, value: float) -> float:
        return min(max(value / self.end, 0.0), 1.0)


@dataclass(frozen=True)
class Log:
    """Between two powers of ten. Values below the first one are placed at the beginning."""

    first: int
    last: int

    @classmethod
    def for_values(cls, values: Iterable[float]) -> Log:
        """The least powers of ten that all values lie between; raises ValueError unless all are above 0."""
        logs = [math.log10(value) for value in values]
        first = math.floor(min(logs, default=0.0) + 1e-9)
        return cls(first, max(first + 1, math.ceil(max(logs, default=1.0) - 1e-9)))

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.first, self.last + 1)]

    def place(self, value: float) -> float:
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - self.first) / (self.last - self.first), 0.0), 1.0)


def with_unit(value: float, unit: str) -> str:
    """As a label: times in the unit that suits them, and rates with a k for thousands."""
    if unit in {"µs", "ms"} and value:
        microseconds = value * (1000 if unit == "ms" else 1)
        for factor, name in ((1e6, "s"), (1e3, "ms"), (1.0, "µs")):
            if microseconds >= factor * 0.9995:
                return f"{_short(microseconds / factor)} {name}"
        return f"{_short(microseconds)} µs"
    if unit == "/s":
        return f"{_short(value / 1000)}k" if value >= 999.5 else _short(value)
    return f"{_short(value)} {unit}".rstrip() if unit in {"MB", "%"} else _short(value)


def _short(value: float) -> str:
    """Three digits, without zeros that say nothing."""
    text = shown(value)
    return text.rstrip("0").rstrip(".") if "." in text else text
