"""What `remotemedia top` shows, as text and as a screen. Pure: from snapshots to rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remotemedia.cli.output import size_text
from remotemedia.ipc.observer_messages import WorkerView
from remotemedia.watching import WatchedPool

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS = (
    "node", "pid", "state", "gen", "frames/s", "p50 ms", "p99 ms", "queue", "cpu %", "pss", "drops", "restarts",
    "last event",
)  # fmt: skip
_LEFT = {"node", "state", "queue", "last event"}
_BAR = 6
KEYS = "↑↓ select   s stacks   r restart   p pause   q quit"
NOTHING = "no pool is running: start one with WorkerPool(...) or `remotemedia run --executor multiprocess`"


@dataclass
class ScreenState:
    """What the person at the screen has done. `selected`: (pool id, worker id)."""

    selected: tuple[str, int] | None = None
    paused: bool = False
    message: str = ""
    stacks: str = ""


def heading(pool: WatchedPool) -> str:
    """One line about a pool."""
    view = pool.view
    if view is None:
        return f"pool {pool.pool_id}  {pool.problem or 'no answer yet'}"
    rate = view.workers[-1].fps if view.workers else 0.0
    parts = [
        f"pool {pool.pool_id}", f"pid {view.pid}", view.state, f"up {duration_text(view.uptime_s)}",
        f"{rate:.1f} frames/s", f"shm {size_text(pool.shm_bytes)}",
    ]  # fmt: skip
    if view.sessions:
        parts.append(f"{view.sessions} sessions")
    return "  ".join([*parts, *([pool.problem] if pool.problem else [])])


def cells(worker: WorkerView, pss: int | None) -> tuple[str, ...]:
    """One row of the table, by COLUMNS."""
    event = f"{worker.event} ({duration_text(worker.event_age_s)} ago)" if worker.event else ""
    return (
        worker.node,
        "-" if worker.pid is None else str(worker.pid),
        worker.state,
        str(worker.generation),
        f"{worker.fps:.1f}",
        f"{worker.p50_us / 1e3:.2f}",
        f"{worker.p99_us / 1e3:.2f}",
        f"{bar(worker.queue, worker.queue_frames)} {worker.queue}",
        "-" if worker.pid is None else f"{worker.cpu_percent:.0f}",
        "-" if pss is None else size_text(pss),
        str(worker.drops),
        str(worker.restarts),
        event,
    )


def bar(value: int, most: int, width: int = _BAR) -> str:
    """How full something is; one block at least if there is anything."""
    filled = min(width, -(-value * width // most)) if most else 0
    return "█" * filled + "░" * (width - filled)


def duration_text(seconds: float) -> str:
    """12 s, 3 min 20 s, 5 h 07 min, 12 d 3 h."""
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{whole} s"
    if hours == 0:
        return f"{minutes} min {whole % 60:02} s"
    return f"{hours} h {minutes % 60:02} min" if days == 0 else f"{days} d {hours % 24} h"


def plain_text(pools: Iterable[WatchedPool]) -> str:
    """All pools as aligned text."""
    blocks = []
    for pool in pools:
        rows = [COLUMNS, *(cells(w, pool.pss.get(w.pid)) for w in (pool.view.workers if pool.view else ()))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = ["  ".join(map(_aligned, COLUMNS, row, widths)).rstrip() for row in rows]
        blocks.append("\n".join([heading(pool), *(lines if pool.view else ())]))
    return "\n\n".join(blocks) or NOTHING


def _aligned(column: str, cell: str, width: int) -> str:
    return cell.ljust(width) if column in _LEFT else cell.rjust(width)


# -- the screen --------------------------------------------------------------------------------------------------------


def screen(pools: Sequence[WatchedPool], state: ScreenState, height: int = 40) -> RenderableType:
    """All pools with the selected row marked, the keys, and the stacks that were asked for."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    for pool in pools:
        parts.append(Text(heading(pool), style="bold red" if pool.problem else "bold", no_wrap=True))
        if pool.view is not None:
            parts.append(_table(pool, state))
        parts.append(Text(""))
    if not pools:
        parts += [Text(NOTHING), Text("")]
    if state.stacks:
        taken = sum(len(pool.view.workers) + 3 if pool.view else 2 for pool in pools)
        parts.append(Text(last_lines(state.stacks, max(6, height - taken - 4)), no_wrap=True, overflow="ellipsis"))
    footer = f"{'paused   ' if state.paused else ''}{KEYS}"
    parts.append(Text(f"{footer}   {state.message}" if state.message else footer, style="dim", no_wrap=True))
    return Group(*parts)


def last_lines(text: str, most: int) -> str:
    """The end of a text: where the innermost calls stand."""
    lines = text.splitlines()
    return "\n".join(lines if len(lines) <= most else [f"… {len(lines) - most + 1} lines above", *lines[1 - most :]])


def _table(pool: WatchedPool, state: ScreenState) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    assert pool.view is not None
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)  # the last column takes the rest
    for column in COLUMNS:
        table.add_column(
            column, justify="left" if column in _LEFT else "right", no_wrap=True,
            ratio=1 if column == "last event" else None, overflow="ellipsis",
        )  # fmt: skip
    for worker in pool.view.workers:
        row = cells(worker, pool.pss.get(worker.pid))  # as Text: names may look like markup
        is_selected = (pool.pool_id, worker.worker_id) == state.selected
        table.add_row(*map(Text, row), style="reverse" if is_selected else _style(worker))
    return table


def _style(worker: WorkerView) -> str:
    if worker.state not in {"ready", "inline"}:
        return "yellow"
    return "cyan" if worker.restarts or worker.errors else ""
