"""Command line of the benchmarks.

Exit code: 0 after a run, whether targets are met or not; 1 if an output was wrong or a contestant hung or broke, or if
the gate found something worse; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import (
    ab,
    charts,
    environment,
    floors,
    gate,
    growth,
    hosts,
    import_time,
    inline_overhead,
    serialization,
    w1_roundtrip,
    w2_streaming,
    w3_start,
    w4_idle,
    w5_recovery,
    w6_orphans,
)
from benchmarks.bench import QUICK, Bench, Options
from benchmarks.driver_process import HERE
from benchmarks.questions import Question
from benchmarks.report import Report
from benchmarks.table import failure_lines, render

QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION
    for module in (
        floors, w1_roundtrip, w2_streaming, w3_start, w4_idle, w5_recovery, w6_orphans, inline_overhead, serialization,
        import_time, growth, hosts,
    )
}  # fmt: skip
RESULTS = Path(__file__).with_name("results")
IMAGES = HERE.directory / "docs" / "images"


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
        "--only", type=chosen_questions, metavar="W1,W2", dest="questions",
        help=f"only these questions: {', '.join(QUESTIONS)}",
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive, metavar="N", help="how often each contestant is measured")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where the figures go (default: benchmarks/results/)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ab", metavar="REF", help="this tree against another commit, in pairs, with a verdict")
    what.add_argument(
        "--gate", nargs="?", const=None, default=False, type=Path, metavar="RESULT.json",
        help="fail if the quick set is worse than the last committed results, or than those in the file",
    )  # fmt: skip
    what.add_argument(
        "--plot", nargs="?", const=None, default=False, type=Path, metavar="RESULT.json",
        help="measure nothing: draw the last committed results, or those in the file, into docs/images/",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        if chosen.plot is not False:
            return plot(chosen.plot)
        if chosen.ab is not None:
            return compare(chosen)
        if chosen.gate is not False:
            return check(chosen)
    except (ab.SetupError, gate.NoBaselineError) as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    return measure(chosen)


def measure(chosen: argparse.Namespace) -> int:
    """The usual run: tables, targets, and a file with every round's figures."""
    options, questions = _with_rounds(QUICK if chosen.quick else Options(), chosen), _questions(chosen)
    where = environment.describe()
    report = run(questions, options)
    print(render(questions, report, where, chosen.quick))
    targets = [target for question in questions for target in question.targets_of(chosen.quick)]
    verdicts = [vars(target.judge(report)) for target in targets]
    document = {"environment": where, "options": vars(options), "targets": verdicts, **report.as_json()}
    _write(chosen.json or _default_path(where, "-quick" * chosen.quick), document)
    return 1 if report.has_failed else 0


def run(questions: Sequence[Question], options: Options) -> Report:
    with Bench(options) as bench:
        for name in bench.parts([q.name for q in questions], [q.share for q in questions]):
            QUESTIONS[name].run(bench)
    return bench.report


def compare(chosen: argparse.Namespace) -> int:
    """`--ab`. Questions that cannot race versions are refused, if they were named, and else left out."""
    questions = [question for question in _questions(chosen) if question.can_compare]
    if not questions or (chosen.questions and len(questions) < len(chosen.questions)):
        able = ", ".join(question.name for question in QUESTIONS.values() if question.can_compare)
        raise ab.SetupError(f"--ab can compare {able}; choose of them with --only")
    options = _with_rounds(ab.OPTIONS, chosen)
    where = environment.describe()
    report, other = ab.measure(chosen.ab, questions, options)
    print(ab.render(report, questions, other))
    document = {"environment": where, "options": vars(options), **ab.as_json(report, questions, other)}
    _write(chosen.json or _default_path(where, f"-against-{other}-ab"), document | report.as_json())
    return 1 if report.has_failed else 0


def check(chosen: argparse.Namespace) -> int:
    """`--gate`. What fails is measured once more."""
    path = chosen.gate or gate.last_committed()
    document = gate.load(path)
    baseline = Report.from_json(document)
    questions = [question for question in QUESTIONS.values() if question.gate or question is floors.QUESTION]
    options = _with_rounds(replace(QUICK, budget_s=None), chosen)
    report = run(questions, options)
    results = gate.checks([row for question in questions for row in question.gate], report, baseline)
    again = gate.to_repeat([result for result in results if result.has_failed], questions)
    if again:
        print("  over the slack: measuring once more ...", file=sys.stderr, flush=True)
        repeated = run(again, options)
        second = gate.checks([result.row for result in results], repeated, baseline)
        results = [gate.better_of(*both) for both in zip(results, second, strict=True)]
    print(f"baseline: {path}")
    for line in gate.differences(environment.describe(), document["environment"]):
        print(f"another machine: {line}")
    print("\n".join([*map(str, results), *failure_lines(report)]))
    return 1 if report.has_failed or any(result.has_failed for result in results) else 0


def plot(path: Path | None) -> int:
    """`--plot`."""
    document = gate.load(path or gate.last_committed())
    for image in charts.draw_all(Report.from_json(document), document["environment"], IMAGES):
        print(image)
    return 0


def _questions(chosen: argparse.Namespace) -> list[Question]:
    return list(QUESTIONS.values()) if chosen.questions is None else list(chosen.questions)


def _with_rounds(options: Options, chosen: argparse.Namespace) -> Options:
    return options if chosen.rounds is None else replace(options, rounds=chosen.rounds, budget_s=None)


def _default_path(where: dict[str, Any], kind: str) -> Path:
    return RESULTS / f"{where['date'].replace(':', '')}-{where['commit']}{kind}.json"


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"figures of every round: {path}", file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the drivers and their processes are ended
    sys.exit(main())
