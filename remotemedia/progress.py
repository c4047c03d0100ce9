"""Live numbers of a run: a table on a terminal, now and then a plain line elsewhere, or a callable of yours."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.executors.base import Execution
from remotemedia.log import get_logger

Metrics = list[dict[str, Any]]
_REFRESH_S = 0.25
_PLAIN_S = 5.0
_RATE_S = 1.0  # rates are averaged over at least this long, else they flicker
_log = get_logger("remotemedia.progress")


class View(Protocol):
    """Something that shows metrics."""

    def show(self, metrics: Metrics, rates: dict[str, float], elapsed_s: float) -> None: ...

    def close(self, metrics: Metrics | None, rates: dict[str, float], elapsed_s: float) -> None:
        """The last numbers (None if the run never began), with the rates over the whole run."""


class Progress:
    """Shows the metrics of an execution four times a second until the block is left.

    `progress`: True (a table per node on a terminal, if rich is installed, else a plain line every 5 s; to stderr), a
    callable (called with `execution.metrics()`, and once more at the end), False or None (nothing). What a view or the
    callable raises is logged once and ends the display, never the run.

        with Progress(True, graph) as progress:
            async with execution:
                progress.attach(execution)
    """

    def __init__(
        self, progress: bool | Callable[[Metrics], object] | None, graph: Graph, *, stream: TextIO | None = None
    ) -> None:
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise ConfigurationError(f"progress={progress!r}: expected True, False, None or a callable")
        self._choice, self._graph, self._stream = progress, graph, stream
        self._view: View | None = None
        self._execution: Execution | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._started = monotonic()
        self._rates = _Rates(self._started)
        if callable(self._choice):
            self._view = _Callback(self._choice)
        elif self._choice:
            self._view = _terminal_or_plain(self._stream or sys.stderr, self._graph)
        return self

    def attach(self, execution: Execution) -> None:
        """Begin to show `execution`; call it in the event loop that runs it."""
        if self._view is not None:
            self._execution, self._started = execution, monotonic()
            self._rates = _Rates(self._started)
            self._tick()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._guarded(self._close)
        self._view = self._execution = None

    def _tick(self) -> None:
        self._guarded(self._show)
        if self._view is not None:
            self._timer = asyncio.get_running_loop().call_later(_REFRESH_S, self._tick)

    def _show(self, view: View) -> None:
        if self._execution is not None:
            metrics, now = self._execution.metrics(), monotonic()
            view.show(metrics, self._rates.update(metrics, now), now - self._started)

    def _close(self, view: View) -> None:
        metrics = None if self._execution is None else self._execution.metrics()
        elapsed = monotonic() - self._started
        view.close(metrics, {m["node_id"]: m["calls"] / max(elapsed, 1e-9) for m in metrics or ()}, elapsed)

    def _guarded(self, act: Callable[[View], None]) -> None:
        view = self._view
        if view is None:
            return
        try:
            act(view)
        except Exception as error:  # noqa: BLE001 - a display must not break the run
            self._view = None
            with suppress(Exception):  # gives the terminal back, if it still can
                view.close(None, {}, 0.0)
            _log.warning("the progress display failed and was switched off", exc_info=error)


class _Rates:
    """Calls per second of each node, over the last second or so."""

    def __init__(self, now: float) -> None:
        self._since, self._calls, self._rates = now, dict[str, int](), dict[str, float]()

    def update(self, metrics: Metrics, now: float) -> dict[str, float]:
        elapsed = now - self._since
        if elapsed >= _RATE_S or not self._calls:
            calls = {m["node_id"]: m["calls"] for m in metrics}
            self._rates = {
                node_id: (count - self._calls.get(node_id, 0)) / elapsed if elapsed > 0 else 0.0
                for node_id, count in calls.items()
            }
            self._since, self._calls = now, calls
        return self._rates


class _Callback:
    def __init__(self, function: Callable[[Metrics], object]) -> None:
        self._function = function

    def show(self, metrics: Metrics, rates: dict[str, float], elapsed_s: float) -> None:  # noqa: ARG002 - View
        self._function(metrics)

    def close(self, metrics: Metrics | None, rates: dict[str, float], elapsed_s: float) -> None:  # noqa: ARG002 - View
        if metrics is not None:
            self._function(metrics)


class _PlainLines:
    """`  12 s | decode 361 frames 30/s p99 4.1 ms | …` every few seconds, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._next_s = stream, _PLAIN_S

    def show(self, metrics: Metrics, rates: dict[str, float], elapsed_s: float) -> None:
        if elapsed_s >= self._next_s:
            self._next_s = elapsed_s + _PLAIN_S
            self._write(metrics, rates, elapsed_s)

    def close(self, metrics: Metrics | None, rates: dict[str, float], elapsed_s: float) -> None:
        if metrics is not None:
            self._write(metrics, rates, elapsed_s)

    def _write(self, metrics: Metrics, rates: dict[str, float], elapsed_s: float) -> None:
        parts = [f"{elapsed_s:5.1f} s"]
        for m in metrics:
            restarts = f" restarts {m['restarts']}" if m["restarts"] else ""
            rate = rates.get(m["node_id"], 0.0)
            parts.append(f"{m['node_id']} {m['calls']} frames {rate:.0f}/s p99 {m['p99_us'] / 1e3:.1f} ms{restarts}")
        self._stream.write(" | ".join(parts) + "\n")
        self._stream.flush()


def _terminal_or_plain(stream: TextIO, graph: Graph) -> View:
    if not stream.isatty():
        return _PlainLines(stream)
    try:
        return _Table(stream, graph)
    except ImportError:
        return _PlainLines(stream)


class _Table:
    """A table that is redrawn in place, by rich."""

    _COLUMNS = ("frames", "per s", "p50 ms", "p99 ms", "copies", "restarts")

    def __init__(self, stream: TextIO, graph: Graph) -> None:
        from rich.console import Console
        from rich.live import Live

        self._order = {graph.ids[index]: place for place, index in enumerate(graph.order)}
        console = Console(file=stream)
        # Without a refresh thread of its own; stdout is left alone when it goes somewhere else.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._live.start()

    def show(self, metrics: Metrics, rates: dict[str, float], elapsed_s: float) -> None:
        from rich.table import Table

        table = Table(box=None, header_style="dim")
        table.add_column(f"{elapsed_s:.1f} s", style="bold")
        for column in self._COLUMNS:
            table.add_column(column, justify="right")
        for m in sorted(metrics, key=lambda m: self._order.get(m["node_id"], len(self._order))):
            style = "yellow" if m["restarts"] or m["errors"] else None
            rate = rates.get(m["node_id"], 0.0)
            numbers = (m["calls"], f"{rate:.1f}", f"{m['p50_us'] / 1e3:.2f}", f"{m['p99_us'] / 1e3:.2f}")
            table.add_row(m["node_id"], *map(str, (*numbers, m["copies"], m["restarts"])), style=style)
        self._live.update(table, refresh=True)

    def close(self, metrics: Metrics | None, rates: dict[str, float], elapsed_s: float) -> None:
        try:
            if metrics is not None:
                self.show(metrics, rates, elapsed_s)
        finally:
            self._live.stop()
