"""What the programs of this package show while they run, and the tables they end with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self, TextIO

_LINE_S = 1.0


def say(text: str) -> None:
    """A line of the program's result, to stdout."""
    print(text, flush=True)  # noqa: T201 - printing is what this is for


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows of cells as aligned text, the first row being the heads; all but the first column to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    )


def megabytes(nbytes: float) -> str:
    """Bytes as MB, with one decimal."""
    return f"{nbytes / 1e6:.1f} MB"


class Meter:
    """How far a program is: a bar on a terminal if rich is installed, else a line each second; to stderr.

    with Meter("chaos", total=1000) as meter:
        meter.show(17, "3 kills")
    """

    def __init__(self, what: str, total: float, stream: TextIO | None = None) -> None:
        self._what, self._total, self._stream = what, total, stream or sys.stderr
        self._next_at = monotonic() + _LINE_S
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            try:
                self._open_bar()
            except ImportError:
                self._bar = None
        return self

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn(self._what), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[text]}"))
        self._bar = Progress(*columns, console=Console(file=self._stream), auto_refresh=False, transient=True)
        self._task = self._bar.add_task(self._what, total=self._total, text="")
        self._bar.start()

    def show(self, done: float, text: str) -> None:
        """Show that `done` of `total` is done. To be called several times a second."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text, refresh=True)
        elif monotonic() >= self._next_at:
            self._next_at = monotonic() + _LINE_S
            self._stream.write(f"{self._what} {min(done / self._total, 1):4.0%}  {text}\n")
            self._stream.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
