"""Command line of the benchmarks.

Exit code: 0 after a run, whether targets are met or not; 1 if an output was wrong or a contestant hung or broke; 2 for
wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    environment,
    floors,
    inline_overhead,
    serialization,
    w1_roundtrip,
    w2_streaming,
    w3_start,
    w4_idle,
    w5_hosts,
)
from benchmarks.bench import QUICK, Bench, Options
from benchmarks.questions import Question
from benchmarks.table import render

QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION
    for module in (floors, w1_roundtrip, w2_streaming, w3_start, w4_idle, w5_hosts, inline_overhead, serialization)
}
RESULTS = Path(__file__).with_name("results")


def chosen_questions(text: str) -> list[Question]:
    """The questions named in "W1,W2", in that order. Raises ArgumentTypeError for an unknown name."""
    names = {name.lower(): question for name, question in QUESTIONS.items()}
    chosen = []
    for word in text.split(","):
        question = names.get(word.strip().lower())
        if question is None:
            raise argparse.ArgumentTypeError(f"unknown question {word.strip()!r}; there are {', '.join(QUESTIONS)}")
        chosen.append(question)
    return chosen


def positive(text: str) -> int:
    """An integer of at least 1. Raises ArgumentTypeError otherwise."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure remotemedia beside its peers and the floors of this machine, in one run.",
    )
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer peers and cases, short rounds")
    parser.add_argument(
        "--only", type=chosen_questions, default=list(QUESTIONS.values()), metavar="W1,W2", dest="questions",
        help=f"only these questions: {', '.join(QUESTIONS)}",
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="how often each contestant is measured")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where the figures go (default: benchmarks/results/)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    options = QUICK if chosen.quick else Options()
    if chosen.rounds is not None:
        options = replace(options, rounds=chosen.rounds)
    where = environment.describe()
    with Bench(options) as bench:
        for question in chosen.questions:
            question.run(bench)
    print(render(chosen.questions, bench.report, where))
    path = chosen.json or RESULTS / f"{where['date'].replace(':', '')}-{where['commit']}{'-quick' * chosen.quick}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    verdicts = [vars(target.judge(bench.report)) for question in chosen.questions for target in question.targets]
    document = {"environment": where, "options": vars(options), "targets": verdicts, **bench.report.as_json()}
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"figures of every round: {path}", file=sys.stderr)
    return 1 if bench.report.has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
