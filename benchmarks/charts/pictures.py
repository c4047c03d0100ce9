"""Which pictures there are, and what of a result each of them shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import floors, growth, w1_roundtrip, w2_streaming, w3_start, w4_idle, w5_recovery, w6_orphans
from benchmarks.charts import bars, lines
from benchmarks.charts.bars import Column
from benchmarks.charts.lines import Panel
from benchmarks.charts.svg import Picture
from benchmarks.peers import OURS
from benchmarks.report import NOT_RECOVERED, Key, Report
from benchmarks.summary import median

Series = Mapping[str, Sequence[float]]


def draw_all(report: Report, environment: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the pictures for which the result has figures; returns their files."""
    rounds = max((len(values) for values in report.figures.values()), default=0)
    footnote = (
        "medians of up to {rounds} rounds, thin lines from the least to the greatest; every output checked\n"
        "{cpu_model}, {cores} cores, Python {python}, commit {commit}, {date:.10}; repeat with: make bench"
    ).format(**environment, rounds=rounds)
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in PICTURES.items():
        picture = draw(report, footnote)
        if picture is not None:
            path = directory / f"{name}.svg"
            path.write_text(str(picture))
            written.append(path)
    return written


def series(report: Report, question: str, case: str, metric: str, factor: float = 1.0) -> dict[str, list[float]]:
    """Every round's figure of each contestant, times `factor`."""
    return {
        key.contestant: [factor * value for value in values]
        for key, values in report.figures.items()
        if (key.question, key.case, key.metric) == (question, case, metric)
    }


def ranked(values: Series, best_first: bool = True) -> dict[str, Sequence[float]]:
    """By their medians, least first."""
    return dict(sorted(values.items(), key=lambda item: median(item[1]), reverse=not best_first))


def round_trip(report: Report, footnote: str) -> Picture | None:
    columns = []
    for case in ("4 KB", "1 MB", "6.2 MB"):
        values = series(report, w1_roundtrip.NAME, case, "median_us")
        floor = values.pop(w1_roundtrip.FLOOR, None)
        if values:
            line = ("bare wake-up", median(floor)) if floor else None
            columns.append(Column(title=case, unit="µs", values=ranked(values), is_log=True, floor=line))
    return _bars(
        columns, footnote, "One frame there and back",
        "one frame in flight through one stage process that adds 1 to every byte; shorter is better",
    )  # fmt: skip


def streaming(report: Report, footnote: str) -> Picture | None:
    columns = []
    for case in w2_streaming.CASES:
        values = series(report, w2_streaming.NAME, case, "frames_per_s")
        if values:
            title = case.replace("6.2 MB ", "")
            columns.append(Column(title=title, unit="/s", values=ranked(values, best_first=False), is_log=True))
    return _bars(
        columns, footnote, "Frames per second through three stages",
        "8 frames in flight; the last two columns: 6.2 MB, each stage returns a fresh array, or its input; "
        "longer is better",
    )  # fmt: skip


def cost(report: Report, footnote: str) -> Picture | None:
    columns = []
    for case in w2_streaming.SIZE_CASES:
        values = series(report, w2_streaming.NAME, case, "cpu_s_per_1000", factor=1e3)
        if values:
            copy = report.median_of(Key(floors.NAME, case, floors.COPY, "median_us"))
            line = ("one copy", copy) if copy else None
            title = f"CPU per frame, {case}"
            columns.append(Column(title=title, unit="µs", values=ranked(values), is_log=True, floor=line))
    memory = series(report, w2_streaming.NAME, "6.2 MB", "pss_mb")
    if memory:
        columns.append(Column(title="memory, 6.2 MB", unit="MB", values=ranked(memory)))
    return _bars(
        columns, footnote, "What a frame costs",
        "CPU time of all processes, producer and consumer included, and their memory; shorter is better",
    )  # fmt: skip


def start(report: Report, footnote: str) -> Picture | None:
    wanted = [
        *((f"start, {case}", "ms", w3_start.NAME, case, "first_result_ms") for case in w3_start.CASES),
        ("idle, 4 stages", "%", w4_idle.NAME, w4_idle.CASE, "idle_percent"),
        ("memory, idle", "MB", w4_idle.NAME, w4_idle.CASE, "pss_mb"),
    ]
    columns = [
        Column(title=title, unit=unit, values=ranked(values))
        for title, unit, question, case, metric in wanted
        if (values := series(report, question, case, metric))
    ]
    return _bars(
        columns, footnote, "Start, and doing nothing",
        "until the first result is there; % of one core and memory of all processes; shorter is better",
    )  # fmt: skip


def recovery(report: Report, footnote: str) -> Picture | None:
    words = {
        failure.contestant: "never"
        for failure in report.failures
        if failure.question == w5_recovery.NAME and failure.kind == NOT_RECOVERED
    }
    columns = [
        Column(title=title, unit="ms", values=ranked(values), words=words)
        for title, metric in (("next result", "next_result_ms"), ("full rate again", "full_rate_ms"))
        if (values := series(report, w5_recovery.NAME, w5_recovery.CASES[0], metric))
    ]
    columns += [
        Column(title=title, unit="", values=ranked(values))
        for title, metric in (("alive after 2 s", "alive"), ("shm after restart", "shm_files_next"))
        if (values := series(report, w6_orphans.NAME, w6_orphans.CASE, metric))
    ]
    return _bars(
        columns, footnote, "kill -9",
        "left: of a stage in mid-stream, 4 KB frames, nothing lost, doubled or reordered; right: of the main process",
    )  # fmt: skip


def flat(report: Report, footnote: str) -> Picture | None:
    panels = []
    for title, unit, metric in (("CPU per frame and hop", "µs", "cpu_us_per_hop"), ("memory", "MB", "pss_mb")):
        for load, cases in (("stages", growth.STAGES), ("sessions", growth.SESSIONS), ("frames", growth.FRAMES)):
            points = {
                float(number): report.figures[key]
                for case, number in cases.items()
                if (key := Key(growth.NAME, case, OURS, metric)) in report.figures
            }
            if len(points) > 1:
                panels.append(Panel(title=title, unit=unit, load=load, points=points))
    if not panels:
        return None
    return lines.draw(
        panels, columns=3, footnote=footnote, title="Growth",
        subtitle="4 KB frames, memory of all processes; flat lines are good "
        "(stages are processes: each has memory of its own)",
    )  # fmt: skip


def _bars(columns: Sequence[Column], footnote: str, title: str, subtitle: str) -> Picture | None:
    return bars.draw(columns, title=title, subtitle=subtitle, footnote=footnote) if columns else None


PICTURES = {
    "round-trip": round_trip,
    "streaming": streaming,
    "cost": cost,
    "start": start,
    "recovery": recovery,
    "growth": flat,
}
