"""What was measured, what failed, and whether the targets are met."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from benchmarks.summary import median, shown, spread

FATAL = frozenset({"wrong output", "hung", "error", "died"})
"""Failures that make the whole run fail; "unavailable" and "not recovered" only leave a gap."""
NOT_RECOVERED = "not recovered"
"""After a kill there were no more results, as the contestant promises none."""


class Key(NamedTuple):
    """One series of figures: a metric of a contestant in a case (a size, a number of stages) of a question."""

    question: str
    case: str
    contestant: str
    metric: str


@dataclass(frozen=True)
class Failure:
    question: str
    case: str
    contestant: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What a target came to: `value` is None if it could not be measured."""

    text: str
    value: float | None
    is_met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "MISSED", None: "not measured"}[self.is_met]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on a figure, or on how it compares with a `base` figure of the same run."""

    text: str
    figure: Key
    base: Key | None = None
    compare: Callable[[float, float], float] = operator.truediv
    """How `figure` and `base` make the value that is judged."""
    at_most: float | None = None
    at_least: float | None = None
    is_quick: bool = True
    """Whether the quick set measures it as well."""

    def judge(self, report: Report) -> Verdict:
        figure, base = report.median_of(self.figure), 1.0 if self.base is None else report.median_of(self.base)
        if figure is None or base is None:
            return Verdict(self.text, None, None)
        value = figure if self.base is None else self.compare(figure, base)
        is_met = (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)
        return Verdict(self.text, value, is_met)

    @property
    def bound(self) -> str:
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"


@dataclass
class Report:
    """Figures of all rounds, by key, in the order in which they came."""

    figures: dict[Key, list[float]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    """What contestants left behind when they were stopped; it was removed."""

    def add(self, question: str, case: str, contestant: str, metrics: Mapping[str, float]) -> None:
        """One round's figures of a contestant."""
        for metric, value in metrics.items():
            self.figures.setdefault(Key(question, case, contestant, metric), []).append(value)

    def fail(self, question: str, case: str, contestant: str, kind: str, detail: str) -> None:
        """A contestant gave no figures in a case. Said once: later cases of an unavailable contestant stay silent."""
        failure = Failure(question, case, contestant, kind, detail)
        if kind != "unavailable" or not any(f.contestant == contestant and f.kind == kind for f in self.failures):
            self.failures.append(failure)

    def median_of(self, key: Key) -> float | None:
        values = self.figures.get(key)
        return median(values) if values else None

    def cell(self, question: str, case: str, contestant: str, metrics: Iterable[str]) -> str:
        """The medians of some metrics as "75.2 / 115", with the spread of the first; "-" where there is nothing."""
        series = [self.figures.get(Key(question, case, contestant, metric)) for metric in metrics]
        known = [values for values in series if values]
        if not known:
            return "-"
        text = " / ".join(shown(median(values)) for values in known)
        return f"{text} ±{spread(known[0]):.0%}" if len(known[0]) > 1 else text

    def cases(self, question: str) -> list[str]:
        return list(dict.fromkeys(key.case for key in self.figures if key.question == question))

    def contestants(self, question: str) -> list[str]:
        return list(dict.fromkeys(key.contestant for key in self.figures if key.question == question))

    @property
    def has_failed(self) -> bool:
        """Whether an output was wrong or a contestant hung or broke."""
        return any(failure.kind in FATAL for failure in self.failures)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `as_json` wrote. Raises KeyError if the document is something else."""
        figures = {
            Key(item["question"], item["case"], item["contestant"], item["metric"]): list(item["rounds"])
            for item in document["figures"]
        }
        return cls(figures, [Failure(**item) for item in document["failures"]], list(document["leftovers"]))

    def as_json(self) -> dict[str, Any]:
        """Every round's figure, so that others can compute what they like."""
        return {
            "figures": [
                {**key._asdict(), "median": median(values), "spread": spread(values), "rounds": values}
                for key, values in self.figures.items()
            ],
            "failures": [vars(failure) for failure in self.failures],
            "leftovers": self.leftovers,
        }
