"""`--gate`: has anything got worse since the last committed results?

Machines differ, and the same one is slower at times. So not figures are compared but their ratios to a floor that was
measured in the same run (see `questions.Row`). What is over its slack is measured once more before it counts.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.driver_process import HERE
from benchmarks.questions import Question, Row
from benchmarks.report import Report
from benchmarks.summary import shown, spread

LEAST_SLACK, MOST_SLACK = 0.25, 1.0
"""A row may be worse by the spread between rounds of both runs, but at least and at most by these parts."""
MACHINE = ("cpu_model", "cores", "python")


class NoBaselineError(Exception):
    """There is nothing to compare with; the text says what to do."""


@dataclass(frozen=True)
class Check:
    """What a row comes to; `now` is None if this run has not measured it, `then` if the baseline has not."""

    row: Row
    now: float | None
    then: float | None
    slack: float

    @property
    def has_failed(self) -> bool:
        return self.now is None or (self.then is not None and self.now > self.then * (1 + self.slack))

    def __str__(self) -> str:
        key = self.row.figure
        name = f"{key.question} {key.case} {key.metric}"
        if self.now is None:
            return f"FAILED  {name}: not measured"
        if self.then is None:
            return f"new     {name}: {shown(self.now)} floors, not in the baseline"
        word = "FAILED" if self.has_failed else "ok    "
        most = self.then * (1 + self.slack)
        return (
            f"{word}  {name}: {shown(self.now)} floors, {shown(self.then)} in the baseline; "
            f"allowed: up to {shown(most)} (+{self.slack:.0%})"
        )


def ratio(row: Row, report: Report) -> float | None:
    """How many floors it takes: more is worse, for rates too. None if either was not measured."""
    figure, floor = report.median_of(row.figure), report.median_of(row.floor)
    if not figure or not floor:
        return None
    return (row.scale / figure if row.is_rate else row.scale * figure) / floor


def checks(rows: Iterable[Row], now: Report, baseline: Report) -> list[Check]:
    return [Check(row, ratio(row, now), ratio(row, baseline), _slack(row, now, baseline)) for row in rows]


def better_of(first: Check, second: Check) -> Check:
    """Of the same row, measured twice; the second run may have measured only what failed in the first."""
    return min(first, second, key=lambda check: float("inf") if check.now is None else check.now)


def to_repeat(failed: Sequence[Check], questions: Sequence[Question]) -> list[Question]:
    """Those that measure the rows that failed, or their floors."""
    names = {name for check in failed for name in (check.row.figure.question, check.row.floor.question)}
    return [question for question in questions if question.name in names]


def last_committed() -> Path:
    """The result file in git whose run was the last. Raises NoBaselineError."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "benchmarks/results/*.json"],
        cwd=HERE.directory, check=False, capture_output=True, text=True,
    )  # fmt: skip
    paths = [HERE.directory / name for name in listed.stdout.split("\0") if name]
    if not paths:
        raise NoBaselineError(
            "no result is committed under benchmarks/results/: run `make bench` on a quiet machine and commit its "
            "file, or name one on the command line"
        )
    return max(paths, key=lambda path: str(load(path)["environment"]["date"]))


def load(path: Path) -> dict[str, Any]:
    """A result file. Raises NoBaselineError if it is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        Report.from_json(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoBaselineError(f"{path} is no result file of this harness: {error!r}") from error
    return document


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """In what the machines of two environments differ: then ratios differ by themselves."""
    return [f"{name}: {there.get(name)} there, {here[name]} here" for name in MACHINE if here[name] != there.get(name)]


def _slack(row: Row, now: Report, baseline: Report) -> float:
    spreads = (spread(report.figures[row.figure]) for report in (now, baseline) if row.figure in report.figures)
    return min(MOST_SLACK, max(LEAST_SLACK, sum(spreads)))
