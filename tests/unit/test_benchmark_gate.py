"""The gate: ratios to the floor, slack, what is measured again, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks.__main__ as command_line
from benchmarks import environment, gate
from benchmarks.bench import Bench, Racer
from benchmarks.questions import Question, Row
from benchmarks.report import Key, Report

FIGURE, FLOOR = Key("Q", "4 KB", "ours", "us"), Key("floors", "two cores", "wake-up", "us")
RATE = Key("Q", "4 KB", "ours", "frames_per_s")
COST, SPEED = Row(FIGURE, FLOOR), Row(RATE, FLOOR, scale=1e6, is_rate=True)


def report_of(us: float, floor: float = 50.0, noise: float = 0.0) -> Report:
    report = Report()
    for factor in (1 - noise, 1.0, 1 + noise):
        value = us * factor
        report.add(*FIGURE[:3], {"us": value, "frames_per_s": 1e6 / value})
        report.add(*FLOOR[:3], {"us": floor})
    return report


def test_more_floors_are_worse_for_times_and_for_rates():
    assert gate.ratio(COST, report_of(100.0)) == pytest.approx(2.0)
    assert gate.ratio(SPEED, report_of(100.0)) == pytest.approx(2.0)
    assert gate.ratio(COST, Report()) is None


@pytest.mark.parametrize(
    ("now", "failed"),
    [
        (report_of(124.0), False),
        (report_of(126.0), True),
        (report_of(250.0, floor=125.0), False),  # a slower machine
        (report_of(100.0, floor=30.0), True),
        (report_of(130.0, noise=0.4), False),  # rounds that differ by this much prove less
        (report_of(260.0, noise=5.0), True),  # twice as much is never noise
        (Report(), True),
    ],
)
def test_a_row_may_be_worse_by_its_slack(now, failed):
    (cost, speed) = gate.checks([COST, SPEED], now, report_of(100.0))
    assert cost.has_failed == speed.has_failed == failed


def test_a_line_names_the_row_both_ratios_and_the_slack():
    (check,) = gate.checks([COST], report_of(150.0), report_of(100.0))
    assert str(check) == "FAILED  Q 4 KB us: 3.00 floors, 2.00 in the baseline; allowed: up to 2.50 (+25%)"
    (check,) = gate.checks([COST], report_of(90.0), report_of(100.0))
    assert str(check).startswith("ok      Q 4 KB us: 1.80 floors")
    (check,) = gate.checks([COST], Report(), report_of(100.0))
    assert str(check) == "FAILED  Q 4 KB us: not measured"
    (check,) = gate.checks([COST], report_of(90.0), Report())
    assert str(check) == "new     Q 4 KB us: 1.80 floors, not in the baseline"
    assert not check.has_failed


def test_the_better_of_two_counts():
    checks = [gate.checks([COST], report, report_of(100.0))[0] for report in (report_of(150.0), report_of(110.0))]
    assert gate.better_of(*checks) is checks[1]
    missing = gate.checks([COST], Report(), report_of(100.0))[0]
    assert gate.better_of(checks[0], missing) is checks[0]


def test_what_failed_is_measured_again_with_its_floor():
    questions = [
        Question(name=name, title="", metrics=("us",), run=lambda bench: None) for name in ("floors", "Q", "other")
    ]
    failed = gate.checks([COST], report_of(150.0), report_of(100.0))
    assert [question.name for question in gate.to_repeat(failed, questions)] == ["floors", "Q"]


def test_another_machine_is_named():
    here = {"cpu_model": "A", "cores": 2, "python": "3.11.7"}
    assert gate.differences(here, here) == []
    assert gate.differences(here, {**here, "cores": 8}) == ["cores: 8 there, 2 here"]


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"figures": [{}]}'])
def test_what_is_no_result_is_refused(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(gate.NoBaselineError, match=r"result\.json is no result file"):
        gate.load(path)


def baseline(directory: Path, us: float) -> Path:
    path = directory / "baseline.json"
    path.write_text(json.dumps({"environment": environment.describe(), **report_of(us).as_json()}))
    return path


@pytest.mark.parametrize(
    ("measured", "code", "times"), [([100.0], 0, 1), ([150.0, 100.0], 0, 2), ([150.0, 160.0], 1, 2)]
)
def test_the_command_line_measures_twice_before_it_fails(monkeypatch, tmp_path, capsys, measured, code, times):
    calls = []

    def run(bench: Bench) -> None:
        calls.append(measured[len(calls)])
        report = report_of(calls[-1])
        bench.race("Q", "4 KB", [Racer("ours", lambda: {"us": report.figures[FIGURE][1]})])
        bench.race("floors", "two cores", [Racer("wake-up", lambda: {"us": 50.0})])

    question = Question(name="Q", title="", metrics=("us",), run=run, gate=(COST,))
    monkeypatch.setattr(command_line, "QUESTIONS", {"Q": question})
    assert command_line.main(["--gate", str(baseline(tmp_path, 100.0)), "--rounds", "1"]) == code
    assert len(calls) == times
    assert ("FAILED  Q 4 KB us: 3.00 floors, 2.00 in the baseline" in capsys.readouterr().out) == (code == 1)


def test_every_row_of_the_gate_is_measured_by_the_quick_set():
    questions = {name: question for name, question in command_line.QUESTIONS.items() if question.gate}
    for name, question in questions.items():
        for row in question.gate:
            assert row.figure.question == name
            assert row.floor.question in {*questions, "floors"}
            assert row.figure.metric in question.metrics
