"""What a benchmark question is; one file of this package asks one question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.report import Key, Target


@dataclass(frozen=True)
class Row:
    """A figure that must not get worse, and the floor of the same run that it is compared with."""

    figure: Key
    floor: Key
    scale: float = 1.0
    """Makes the figure, or 1 / figure, a time in the unit of the floor."""
    is_rate: bool = False
    """More is better: 1 / figure is a time."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """`run` measures and puts figures under `name` into the report; the table shows `metrics`."""

    name: str
    title: str
    """What the cells of the table are, with units."""
    metrics: tuple[str, ...]
    run: Callable[[Bench], None]
    targets: tuple[Target, ...] = ()
    gate: tuple[Row, ...] = ()
    """What `--gate` compares with an earlier run; the quick set must measure it."""
    share: float = 1.0
    """Its part of the time of a run that has a budget, compared with the others': about what a first round takes in
    seconds, and more where more rounds pay."""
    can_compare: bool = False
    """Whether it can race two versions (`--ab`): it asks `Bench.contestants` who takes part."""

    def targets_of(self, is_quick: bool) -> tuple[Target, ...]:
        """Those that the quick set, or the whole one, can judge."""
        return tuple(target for target in self.targets if target.is_quick or not is_quick)
