"""The report as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.questions import Question
from benchmarks.report import Report
from benchmarks.summary import shown


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column left, the others right aligned, two spaces between columns."""
    first, *others = (max(len(row[column]) for row in rows) for column in range(len(rows[0])))
    return [
        "  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]).rstrip()
        for row in rows
    ]


def question_table(question: Question, report: Report) -> list[str]:
    """Contestants in rows, cases in columns; empty if nothing was measured."""
    cases, contestants = report.cases(question.name), report.contestants(question.name)
    if not cases:
        return []
    rows = [["", *cases]]
    for contestant in contestants:
        cells = (report.cell(question.name, case, contestant, question.metrics) for case in cases)
        rows.append([contestant, *cells])
    return [f"{question.name}: {question.title}", *aligned(rows), ""]


def target_lines(questions: Iterable[Question], report: Report, is_quick: bool = False) -> list[str]:
    """One line per target: what it bounds, the bound, the value, and whether it is met."""
    rows = [["target", "bound", "value", ""]]
    for question in questions:
        for target in question.targets_of(is_quick):
            verdict = target.judge(report)
            value = "-" if verdict.value is None else shown(verdict.value)
            rows.append([verdict.text, target.bound, value, verdict.word])
    return [*aligned(rows), ""] if len(rows) > 1 else []


def failure_lines(report: Report) -> list[str]:
    """What is missing from the tables, and why."""
    lines = [
        f"{failure.kind}: {failure.contestant} ({failure.question} {failure.case}): {failure.detail}"
        for failure in report.failures
    ]
    lines += [f"left behind and removed: {item}" for item in report.leftovers]
    return [*lines, ""] if lines else []


def render(
    questions: Sequence[Question], report: Report, environment: dict[str, Any], is_quick: bool = False
) -> str:
    """The whole report."""
    machine = "{cpu_model}, {cores} cores, Linux {kernel}, Python {python}, commit {commit}"
    lines = [machine.format(**environment), "medians over the rounds; ± is half the range between rounds", ""]
    for question in questions:
        lines += question_table(question, report)
    return "\n".join([*lines, *target_lines(questions, report, is_quick), *failure_lines(report)])
