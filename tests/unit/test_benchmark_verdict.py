"""Better, worse, or no difference: the paired verdict, and the table of `--ab`."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from benchmarks import ab
from benchmarks.questions import Question
from benchmarks.report import Key, Report
from benchmarks.verdict import compare, rank_of_bound, rounds_needed


def brute_force(pairs: int, k: int) -> float:
    """How often fewer than k, or more than pairs - k, of so many fair coins fall on one side."""
    outcomes = [sum(coins) for coins in itertools.product((0, 1), repeat=pairs)]
    return sum(count < k or count > pairs - k for count in outcomes) / len(outcomes)


@pytest.mark.parametrize("pairs", [5, 6, 9, 12])
def test_the_bound_is_the_widest_rank_that_the_false_alarms_allow(pairs):
    k = rank_of_bound(pairs, 0.05)
    assert k == 0 or brute_force(pairs, k) <= 0.05
    assert brute_force(pairs, k + 1) > 0.05


def test_how_many_rounds_a_verdict_needs():
    assert rounds_needed(1) == 6
    assert rounds_needed(20) == 10
    assert rank_of_bound(rounds_needed(20) - 1, 0.05 / 20) == 0


def noisy(seed: int, factor: float, rounds: int = 21) -> tuple[list[float], list[float]]:
    """Pairs under a machine that is now fast, now slow, and 5 % noise of each measurement."""
    dice = random.Random(seed)
    speeds = [dice.choice([1.0, 1.5, 2.5]) for _ in range(rounds)]
    new = [100 * factor * speed * dice.gauss(1, 0.05) for speed in speeds]
    return new, [100 * speed * dice.gauss(1, 0.05) for speed in speeds]


@pytest.mark.parametrize(
    ("factor", "more_is_better", "word"),
    [(1.15, False, "worse"), (1.15, True, "better"), (0.85, False, "better"), (0.85, True, "worse")],
)
def test_a_difference_shows_through_a_machine_that_changes_its_speed(factor, more_is_better, word):
    verdict = compare(*noisy(1, factor), more_is_better, rows=10)
    assert verdict.word == word
    assert verdict.low < verdict.ratio < verdict.high
    assert verdict.ratio == pytest.approx(factor, rel=0.05)


def test_without_a_difference_there_is_seldom_a_verdict():
    words = [compare(*noisy(seed, 1.0), more_is_better=False).word for seed in range(400)]
    assert words.count("no difference seen") > 0.93 * len(words)
    assert {"better", "worse"} & set(words)  # it is not blind


def test_no_difference_tells_what_would_have_been_seen():
    verdict = compare([1.0, 1.1, 0.9] * 7, [1.0] * 21, more_is_better=False)
    assert verdict.word == "no difference seen"
    assert str(verdict) == f"no difference seen at this noise (±{verdict.noise:.0%})"
    assert verdict.noise == pytest.approx(0.1)


def test_too_few_rounds_are_no_verdict():
    verdict = compare([2.0] * 5, [1.0] * 5, more_is_better=False)
    assert (verdict.word, verdict.low, verdict.high) == ("too few rounds", 0.0, math.inf)
    assert str(verdict) == "too few rounds"


@pytest.mark.parametrize(("new", "old"), [([], []), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_what_has_no_ratio_is_refused(new, old):
    with pytest.raises(ValueError, match="above 0"):
        compare(new, old, more_is_better=True)


QUESTION = Question(name="Q", title="", metrics=("us", "frames_per_s"), run=lambda bench: None, can_compare=True)


def report_of(rounds: int) -> Report:
    report = Report()
    for index in range(rounds):
        for name, factor in ((ab.THIS, 0.5), ("abc123", 1.0)):
            us = factor * (10 + index % 3)
            report.add("Q", "small", name, {"us": us, "frames_per_s": 1e6 / us, "not shown": 1.0})
    report.add("Q", "only here", ab.THIS, {"us": 1.0})
    return report


def test_the_table_has_a_verdict_for_what_both_versions_have():
    judged = ab.verdicts(report_of(12), [QUESTION], "abc123")
    assert {key.metric: verdict.word for key, verdict in judged.items()} == {"us": "better", "frames_per_s": "better"}
    assert {key.case for key in judged} == {"small"}
    text = ab.render(report_of(12), [QUESTION], "abc123")
    (line,) = [line for line in text.splitlines() if line.startswith("Q small us")]
    assert line.split()[3:] == ["5.50", "11.0", "0.500", "0.500", "to", "0.500", "better"]


def test_the_table_says_how_many_rounds_it_needs():
    assert "2 rows need at least 7 rounds each" in ab.render(report_of(4), [QUESTION], "abc123")


def test_the_json_has_the_verdicts():
    (first, _) = ab.as_json(report_of(12), [QUESTION], "abc123")["verdicts"]
    assert first == {
        **Key("Q", "small", ab.THIS, "us")._asdict(), "ratio": 0.5, "low": 0.5, "high": 0.5, "word": "better",
    }  # fmt: skip


def test_an_unknown_commit_is_named():
    with pytest.raises(ab.SetupError, match="no commit 'no-such-branch'"):
        ab.name_of("no-such-branch")
