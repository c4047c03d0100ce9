"""A pool as it is now, read from shared memory and /proc: costs the workers nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from remotemedia.core import stats
from remotemedia.core.figures import WorkerFigures
from remotemedia.core.html import table
from remotemedia.workers.board import Board
from remotemedia.workers.diagnose import memory_bytes

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SHORTEST_S = 0.2
"""Rates are taken over at least so much time where there is as much."""


@dataclass(frozen=True, kw_only=True)
class WorkerSnapshot(WorkerFigures):
    __doc__ = WorkerFigures.__doc__

    def cells(self) -> tuple[str, ...]:
        """The main figures, rounded for people."""
        return (
            self.node,
            "" if self.pid is None else str(self.pid),
            self.state,
            str(self.generation),
            str(self.frames),
            f"{self.fps:.1f}",
            f"{self.p50_us / 1e3:.2f}",
            f"{self.p99_us / 1e3:.2f}",
            str(self.queue),
            f"{self.cpu_percent:.0f}",
            "" if self.pss_bytes is None else f"{self.pss_bytes / 1e6:.1f}",
        )

    def __str__(self) -> str:
        pid = "" if self.pid is None else f", pid {self.pid}"
        return (
            f"{self.node} ({self.state}{pid}, generation {self.generation}): {self.frames} frames, {self.fps:.1f}/s, "
            f"p50 {self.p50_us / 1e3:.2f} ms, p99 {self.p99_us / 1e3:.2f} ms, {self.queue} waiting"
        )


@dataclass(frozen=True, kw_only=True)
class PoolSnapshot:
    """The pool as it is now. `sessions`: how many are under way; `drops`: items of live sources that were dropped."""

    workers: tuple[WorkerSnapshot, ...]
    sessions: int = 0
    drops: int = 0

    def __str__(self) -> str:
        """One line per worker."""
        return "\n".join(map(str, self.workers))

    def _repr_html_(self) -> str:
        """For notebooks."""
        rate = self.workers[-1].fps if self.workers else 0.0
        heads = ("node", "pid", "state", "generation", "frames", "frames/s", "p50 ms", "p99 ms", "queue", "cpu %", "MB")
        return table(f"{rate:.1f} frames/s, {self.sessions} sessions", heads, (w.cells() for w in self.workers))


class _Reading(NamedTuple):
    time_s: float
    frames: int
    pid: int | None
    cpu_s: float


class Meter:
    """Makes the snapshots of one worker for one who looks; remembers the last reading, for rates."""

    def __init__(self, worker_id: int, node: str, board: Board) -> None:
        self._worker_id, self._node, self._board = worker_id, node, board
        self._since = _Reading(monotonic(), int(board.stats.values[stats.CALLS]), None, 0.0)

    @property
    def passed_on(self) -> int:
        """Number of what the stage has sent last, plus one."""
        # While it is at a frame it tells of nothing else, but it has sent all before that one.
        return max(int(self._board.stats.values[stats.PASSED_ON]), self._board.frame or 0)

    @property
    def _taken(self) -> int:
        """Number of what the stage has taken last, plus one."""
        frame = self._board.frame
        return max(int(self._board.stats.values[stats.TAKEN]), 0 if frame is None else frame + 1)

    def snapshot(
        self, *, pid: int | None, state: str, generation: int, given: int, pss: bool = True
    ) -> WorkerSnapshot:
        """`given`: number of the last input that its predecessors have passed on, plus one."""
        values, facts = self._board.stats.values, self._board.stats.as_dict(self._node)
        now = _Reading(monotonic(), facts["calls"], pid, _cpu_seconds(pid))
        before = self._since
        seconds = now.time_s - before.time_s
        cpu_before = before.cpu_s if before.pid == pid else 0.0
        if seconds >= _SHORTEST_S or before.pid != pid:
            self._since = now
        return WorkerSnapshot(
            node=self._node,
            worker_id=self._worker_id,
            pid=pid,
            state=state,
            generation=generation,
            restarts=facts["restarts"],
            frames=now.frames,
            fps=(now.frames - before.frames) / seconds if seconds else 0.0,
            p50_us=facts["p50_us"],
            p99_us=facts["p99_us"],
            queue=max(0, given - self._taken),
            errors=facts["errors"],
            drops=int(values[stats.SKIPPED]),
            bytes_in=facts["bytes_in"],
            bytes_out=facts["bytes_out"],
            copies=facts["copies"],
            cpu_percent=100 * (now.cpu_s - cpu_before) / seconds if seconds else 0.0,
            pss_bytes=memory_bytes(pid) if pss and pid is not None else None,
        )


def _cpu_seconds(pid: int | None) -> float:
    """Processor time of a process so far; 0 if it is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() if pid is not None else []
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0
