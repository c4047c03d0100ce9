"""`--ab REF`: this tree against another commit, measured in pairs by the same harness.

The other commit gets a git worktree and a virtual environment of its own in a temporary directory; both are removed
afterwards. There the benchmarks of this tree drive its remotemedia. All processes are started anew for each round, in
alternating order, so that luck with where they come to lie in memory is part of the noise that the verdict knows.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Options
from benchmarks.driver_process import HERE, Installation
from benchmarks.questions import Question
from benchmarks.report import Key, Report
from benchmarks.summary import median, shown
from benchmarks.table import aligned, failure_lines
from benchmarks.verdict import Verdict, compare, rounds_needed

THIS = "this tree"
OPTIONS = Options(rounds=21, round_s=0.3, deadline_s=20.0, restarts_chains=True, is_quick=True)
MORE_IS_BETTER = frozenset({"frames_per_s"})
PACKAGE_FOLDERS = ("remotemedia", "workers", "ipc")


class SetupError(Exception):
    """The other commit could not be made ready; the text says what failed."""


def name_of(ref: str) -> str:
    """The short hash of the commit. Raises SetupError if there is no such commit."""
    return _run("git", "rev-parse", "--verify", "--short", f"{ref}^{{commit}}", failing=f"no commit {ref!r}")


@contextmanager
def installed(ref: str) -> Iterator[Installation]:
    """The commit, installed with its dependencies, and with this tree's benchmarks. Raises SetupError."""
    with tempfile.TemporaryDirectory(prefix="rmb-") as directory:
        tree, environment = Path(directory) / "tree", Path(directory) / "venv"
        _run("git", "worktree", "add", "--detach", str(tree), ref, failing=f"no worktree of {ref!r}")
        try:
            shutil.rmtree(tree / "benchmarks", ignore_errors=True)
            unwanted = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(HERE.directory / "benchmarks", tree / "benchmarks", ignore=unwanted)
            venv.create(environment, symlinks=True)
            python = str(environment / "bin" / "python")
            pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
            _run(*pip, "--editable", str(tree), failing=f"{ref!r} could not be installed")
            # As `make` does here: the first start must not be the one that compiles.
            folders = [str(tree / name) for name in PACKAGE_FOLDERS if (tree / name).is_dir()]
            _run(python, "-m", "compileall", "-q", *folders, failing="compileall")
            yield Installation(python, tree)
        finally:
            _run("git", "worktree", "remove", "--force", str(tree), failing="git worktree remove")


def measure(ref: str, questions: Sequence[Question], options: Options) -> tuple[Report, str]:
    """The figures of both versions, and the name of the other one. Raises SetupError."""
    other = name_of(ref)
    print(f"  installing {other} into a temporary directory ...", file=sys.stderr, flush=True)
    with installed(ref) as installation, Bench(options, versions={THIS: HERE, other: installation}) as bench:
        for question in questions:
            question.run(bench)
        return bench.report, other


def verdicts(report: Report, questions: Sequence[Question], other: str) -> dict[Key, Verdict]:
    """One for each series that both versions have, by the key of this tree's."""
    metrics = {(question.name, metric) for question in questions for metric in question.metrics}
    pairs = {
        key: (values, report.figures[key._replace(contestant=other)])
        for key, values in report.figures.items()
        if key.contestant == THIS
        and (key.question, key.metric) in metrics
        and key._replace(contestant=other) in report.figures
    }
    return {
        key: compare(new, old, key.metric in MORE_IS_BETTER, rows=len(pairs)) for key, (new, old) in pairs.items()
    }


def render(report: Report, questions: Sequence[Question], other: str) -> str:
    """The table of verdicts."""
    judged = verdicts(report, questions, other)
    rows = [["", THIS, other, "ratio", "interval", "verdict"]]
    for key, verdict in judged.items():
        before = median(report.figures[key._replace(contestant=other)])
        interval = f"{verdict.low:.3f} to {verdict.high:.3f}"
        name = f"{key.question} {key.case} {key.metric}"
        figures = [shown(median(report.figures[key])), shown(before)]
        rows.append([name, *figures, f"{verdict.ratio:.3f}", interval, str(verdict)])
    title = f"{THIS} against {other}: medians, and the median ratio of the pairs with its interval"
    lines = [title, *aligned(rows), ""]
    if any(verdict.word == "too few rounds" for verdict in judged.values()):
        lines += [f"{len(judged)} rows need at least {rounds_needed(len(judged))} rounds each for a verdict", ""]
    return "\n".join([*lines, *failure_lines(report)])


def as_json(report: Report, questions: Sequence[Question], other: str) -> dict[str, Any]:
    """For the result file: the verdicts beside the figures."""
    judged = verdicts(report, questions, other)
    return {"compared_with": other, "verdicts": [{**key._asdict(), **vars(v)} for key, v in judged.items()]}


def _run(*arguments: str, failing: str) -> str:
    done = subprocess.run(arguments, cwd=HERE.directory, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"{failing}: {' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout.strip()
