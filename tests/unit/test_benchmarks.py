"""The harness of the benchmarks: statistics, checks of outputs, races, targets, table and JSON."""

from __future__ import annotations

import ast
import importlib.util
import json
import operator
import sys
from pathlib import Path

import numpy as np
import pytest

import benchmarks.__main__ as command_line
from benchmarks import environment, peers, w3_start
from benchmarks.allotment import Allotment
from benchmarks.bench import Bench, Options, Racer
from benchmarks.driver_process import ContestantError
from benchmarks.peers.install import install, requirements
from benchmarks.questions import Question
from benchmarks.report import Key, Report, Target
from benchmarks.summary import median, percentile, rotated, shown, spread
from benchmarks.table import aligned, failure_lines, question_table, render, target_lines
from benchmarks.work import SOURCE_BUFFERS, FrameSource, NumberedSource, Work, WrongOutputError

OPTIONS = Options(rounds=3, deadline_s=30.0)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5], 99, 5), ([3, 1, 2], 50, 2), ([1, 2], 50, 1.5), (range(101), 99, 99), ([10, 0], 75, 7.5)],
)
def test_percentiles_are_interpolated(values, percent, expected):
    assert percentile(list(values), percent) == pytest.approx(expected)


def test_no_values_have_no_percentile():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_spread_is_half_the_range_relative_to_the_median():
    assert median([90, 100, 120]) == 100
    assert spread([90, 100, 120]) == pytest.approx(0.15)
    assert spread([0.0, 0.0]) == 0.0


def test_each_turn_starts_with_another_one():
    assert [rotated("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert rotated([], 1) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(24239.4, "24 239"), (1234567, "1 234 567"), (115.4, "115"), (75.16, "75.2"), (7.5, "7.50"), (0.634, "0.634"),
     (0.0634, "0.0634"), (0, "0"), (-2.25, "-2.25")],
)
def test_numbers_are_shown_with_three_digits(value, text):
    assert shown(value) == text


def outputs(frames, stages: int) -> list[np.ndarray]:
    """What a right contestant gives for the frames of a source."""
    return [frame + np.uint8(stages) for frame in frames]


def test_right_outputs_pass():
    source = FrameSource(1000, Work.ADD_ONE, stages=3)
    for out in outputs(source.frames_for(0.0, at_least=300), 3):
        source.check_whole(out)
    source.check_count()
    assert source.received == 300


@pytest.mark.parametrize("step", range(1, SOURCE_BUFFERS))
def test_a_lost_frame_is_found(step):
    source = FrameSource(64, Work.ADD_ONE, stages=1)
    received = outputs(source.frames_for(0.0, at_least=10), 1)
    with pytest.raises(WrongOutputError, match="output 0 has"):
        source.check(received[step])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda out: out[:-1], "uint8 array of shape \\(63,\\)"),
        (lambda out: out.astype(np.uint16), "uint16 array"),
        (lambda out: [out], "a list"),
        (lambda out: None, "a NoneType"),
        (lambda out: np.roll(out, 1), "output 0 has"),
        (lambda out: out - np.uint8(1), "output 0 has"),
    ],
)
def test_wrong_outputs_are_found(wrong, message):
    source = FrameSource(64, Work.ADD_ONE, stages=1)
    (out,) = outputs([source.next_frame()], 1)
    with pytest.raises(WrongOutputError, match=message):
        source.check(wrong(out))


def test_the_whole_check_sees_a_byte_that_the_quick_one_does_not():
    source, other = FrameSource(4096, Work.PASS_THROUGH, 1), FrameSource(4096, Work.PASS_THROUGH, 1)
    out = source.next_frame().copy()
    out[100] += 1
    other.check(out)
    with pytest.raises(WrongOutputError, match="at byte 100"):
        source.check_whole(out)


@pytest.mark.parametrize("wrong", [0, 2, 1 + SOURCE_BUFFERS, 300])
def test_a_numbered_frame_has_one_place_only(wrong):
    source = NumberedSource(64, Work.ADD_ONE, stages=3)
    received = outputs(source.frames_for(0.0, at_least=301), 3)
    source.check(received[0])
    with pytest.raises(WrongOutputError, match="belongs to frame"):
        source.check(received[wrong])


@pytest.mark.parametrize(("work", "expected"), [(Work.ADD_ONE, 1), (Work.FRESH, 1), (Work.PASS_THROUGH, 0)])
def test_each_work_gives_its_result_where_it_should(work, expected):
    frame, slot = np.zeros(8, np.uint8), np.full(8, 9, np.uint8)
    result = work.result_for(frame, lambda given: slot)
    assert (result == expected).all()
    assert (frame == 0).all()
    assert (result is slot) == (work is Work.ADD_ONE)
    assert (result is frame) == (work is Work.PASS_THROUGH)
    assert work.increment == expected


def test_missing_outputs_are_counted():
    source = FrameSource(64, Work.ADD_ONE, stages=1)
    source.next_frame()
    with pytest.raises(WrongOutputError, match="1 frames sent, 0 came back"):
        source.check_count()


def test_contestants_alternate_and_who_fails_drops_out():
    order = []

    def measured(name):
        order.append(name)
        if name == "b" and len(order) > 3:
            raise ContestantError("hung", "no answer within 1 s")
        return {"us": float(len(order))}

    with Bench(OPTIONS) as bench:
        bench.race("Q", "case", [Racer(name, lambda name=name: measured(name)) for name in "abc"])
    assert order == ["a", "b", "c", "b", "c", "a", "a", "c"]
    assert bench.report.figures[Key("Q", "case", "a", "us")] == [1.0, 6.0, 7.0]
    assert bench.report.has_failed
    assert "hung: b (Q case): no answer within 1 s" in failure_lines(bench.report)


def test_without_time_left_every_case_still_has_its_first_round():
    with Bench(Options(budget_s=0.0, rounds=5)) as bench:
        for question in bench.parts(["W1", "W2"], [1.0, 5.0]):
            for case in bench.cases(question, ["4 KB", "1 MB"]):
                bench.race(question, case, [Racer("a", lambda: {"us": 1.0})])
    assert [(key.question, key.case, values) for key, values in bench.report.figures.items()] == [
        (question, case, [1.0]) for question in ("W1", "W2") for case in ("4 KB", "1 MB")
    ]


def test_time_that_a_part_does_not_use_is_there_for_the_next():
    now = [100.0]
    parts = Allotment.of(60.0, lambda: now[0]).split([1.0, 2.0, 1.0])
    assert next(parts).ends == 115.0
    now[0] = 104.0  # 56 s are left for weights of 3
    assert next(parts).ends == pytest.approx(104 + 56 * 2 / 3)
    now[0] = 158.0
    last = next(parts)
    assert last.ends == 160.0
    assert last.has(2.0)
    assert not last.has(2.1)
    assert Allotment.of(None, lambda: now[0]).has(1e9)


def test_what_is_not_installed_is_skipped_by_name_and_said_once():
    report = Report()
    for case in ("4 KB", "1 MB"):
        report.fail("W1", case, "ezmsg", "unavailable", "No module named 'ezmsg'")
    assert failure_lines(report) == ["unavailable: ezmsg (W1 4 KB): No module named 'ezmsg'", ""]
    assert not report.has_failed


def sample_report() -> Report:
    report = Report()
    for value in (10.0, 20.0, 30.0):
        report.add("Q", "small", "ours", {"us": value, "late_us": 5 * value})
        report.add("Q", "small", "theirs", {"us": 2 * value})
        report.add("Q", "large", "ours", {"us": 1000 * value})
    return report


@pytest.mark.parametrize(
    ("bounds", "value", "word"),
    [
        ({"at_most": 0.5}, 0.5, "met"),
        ({"at_most": 0.49}, 0.5, "MISSED"),
        ({"at_least": 0.5}, 0.5, "met"),
        ({"at_least": 0.51}, 0.5, "MISSED"),
        ({"compare": operator.sub, "at_most": -20.0}, -20.0, "met"),
        ({"base": None, "at_most": 19.0}, 20.0, "MISSED"),
        ({"base": Key("Q", "large", "theirs", "us"), "at_most": 1.0}, None, "not measured"),
    ],
)
def test_targets_are_judged_by_medians_of_the_run(bounds, value, word):
    target = {"base": Key("Q", "small", "theirs", "us")} | bounds
    verdict = Target(text="t", figure=Key("Q", "small", "ours", "us"), **target).judge(sample_report())
    assert verdict.value == value
    assert verdict.word == word


def test_a_target_of_the_whole_set_is_no_gap_in_the_quick_one():
    quick, whole = (
        Target(text=text, figure=Key("Q", "small", "ours", "us"), at_most=1.0, is_quick=text == "quick")
        for text in ("quick", "whole")
    )
    question = Question(name="Q", title="", metrics=("us",), run=lambda bench: None, targets=(quick, whole))
    assert question.targets_of(is_quick=True) == (quick,)
    assert question.targets_of(is_quick=False) == (quick, whole)
    assert len(target_lines([question], Report(), is_quick=True)) == 3


def test_a_report_comes_back_from_its_json():
    report = sample_report()
    report.fail("W5", "4 KB", "theirs", "not recovered", "no result within 5 s")
    again = Report.from_json(json.loads(json.dumps(report.as_json())))
    assert again == report
    assert not again.has_failed


QUESTION = Question(
    name="Q", title="time: median / late µs", metrics=("us", "late_us"), run=lambda bench: None,
    targets=(Target(text="ours / theirs", figure=Key("Q", "small", "ours", "us"),
                    base=Key("Q", "small", "theirs", "us"), at_most=0.4),),
)


def test_table_has_contestants_in_rows_and_cases_in_columns():
    assert question_table(QUESTION, sample_report()) == [
        "Q: time: median / late µs",
        "                  small        large",
        "ours    20.0 / 100 ±50%  20 000 ±50%",
        "theirs        40.0 ±50%            -",
        "",
    ]
    assert question_table(QUESTION, Report()) == []


def test_columns_are_aligned():
    assert aligned([["", "b"], ["aa", "100"]]) == ["      b", "aa  100"]


def test_target_lines_say_what_was_missed():
    lines = target_lines([QUESTION], sample_report())
    assert lines[1].split() == ["ours", "/", "theirs", "<=", "0.4", "0.500", "MISSED"]


def test_the_environment_names_the_machine_and_the_versions():
    record = environment.describe()
    assert record["packages"]["numpy"] == np.__version__
    assert record["cores"] >= 1
    assert record["cpu_model"] in render([QUESTION], sample_report(), record)
    json.dumps(record)


def test_the_command_line_writes_every_round_and_exits_0_though_a_target_is_missed(monkeypatch, tmp_path, capsys):
    def run(bench: Bench) -> None:
        bench.race("Q", "small", [Racer("ours", lambda: {"us": 3.0}), Racer("theirs", lambda: {"us": 4.0})])

    question = Question(name="Q", title="time: µs", metrics=("us",), run=run, targets=QUESTION.targets)
    monkeypatch.setitem(command_line.QUESTIONS, "Q", question)
    path = tmp_path / "results" / "run.json"
    assert command_line.main(["--only", "q", "--rounds", "2", "--json", str(path)]) == 0
    assert "MISSED" in capsys.readouterr().out
    document = json.loads(Path(path).read_text())
    assert document["targets"] == [{"text": "ours / theirs", "value": 0.75, "is_met": False}]
    assert document["figures"][0] == {
        "question": "Q", "case": "small", "contestant": "ours", "metric": "us",
        "median": 3.0, "spread": 0.0, "rounds": [3.0, 3.0],
    }
    assert document["options"]["rounds"] == 2


def test_a_wrong_output_makes_the_run_fail(monkeypatch, tmp_path):
    def measured():
        raise ContestantError("wrong output", "output 7 has 1 at byte 0, expected 2")

    question = Question(
        name="Q", title="", metrics=("us",), run=lambda bench: bench.race("Q", "small", [Racer("ours", measured)])
    )
    monkeypatch.setitem(command_line.QUESTIONS, "Q", question)
    assert command_line.main(["--only", "Q", "--json", str(tmp_path / "run.json")]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "W9"], "unknown question 'W9'; there are floors"), (["--rounds", "0"], "at least 1, not '0'")],
)
def test_wrong_usage_exits_2_and_says_what_there_is(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        command_line.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_every_target_can_be_met_by_what_its_question_measures():
    names = {*peers.CONTESTANTS, *peers.ONE_IN_FLIGHT, peers.SPARE}
    for question in command_line.QUESTIONS.values():
        for target in question.targets:
            assert target.figure.question == question.name
            assert target.figure.metric in question.metrics
            assert (target.at_most is None) != (target.at_least is None)
            if question.name in {"W2", "W3", "W4", "W5", "W6"}:
                assert {key.contestant for key in (target.figure, target.base) if key} <= names


def test_every_contestant_has_its_adapter():
    for adapter in (peers._ADAPTERS | peers._ON_RAY).values():
        module, _, name = adapter.partition(":")
        source = Path(importlib.util.find_spec(module).origin).read_text()  # not imported: few are installed
        assert name in {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    assert {*peers.QUICK_CONTESTANTS, *peers.ONE_IN_FLIGHT, *w3_start.CONTESTANTS} <= peers._ADAPTERS.keys()


def test_a_peer_that_cannot_be_installed_leaves_out_itself_alone():
    pip = (sys.executable, "-c", "import sys; sys.exit('no matching distribution' if 'bad' in sys.argv[1] else 0)")
    assert install(["good>=1", "bad>=2", "better"], pip) == {"bad>=2": "no matching distribution"}
    assert {"ezmsg", "loky", "mpire"} <= {requirement.partition(">=")[0] for requirement in requirements()}
