"""What a benchmark question is; one file of this package asks one question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.report import Target


@dataclass(frozen=True, kw_only=True)
class Question:
    """`run` measures and puts figures under `name` into the report; the table shows `metrics`."""

    name: str
    title: str
    """What the cells of the table are, with units."""
    metrics: tuple[str, ...]
    run: Callable[[Bench], None]
    targets: tuple[Target, ...] = ()
