"""What a program and its workers take at one moment: memory, descriptors, threads, shared memory; and which way that
goes over time. Linux.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remotemedia.ipc.budget import most_bytes
from remotemedia.testing.leaks import descendants, own_shared_memory
from remotemedia.workers.private_dir import SHM_DIR

_BLOCK = 512  # st_blocks counts these, whatever the file system's block size is


def shared_bytes(prefix: str) -> int:
    """Memory behind the files in /dev/shm whose names begin with `prefix`, in bytes."""
    total = 0
    for entry in SHM_DIR.iterdir():
        if entry.name.startswith(prefix):
            with suppress(OSError):  # it has just been removed
                total += entry.lstat().st_blocks * _BLOCK
    return total


def memfd_bytes() -> int:
    """Memory behind the memfds of this process (the ledgers of its pools), in bytes."""
    found: dict[int, int] = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this very listing
            if str(entry.readlink()).startswith("/memfd:"):
                facts = entry.stat()
                found[facts.st_ino] = facts.st_blocks * _BLOCK
    return sum(found.values())


def pool_prefix(pool: Any) -> str:
    """How the names of a started pool's files in /dev/shm begin."""
    return str(pool._parts.directory.shm_prefix)


def pool_budget(pool: Any, max_frame_bytes: int) -> int:
    """The most shared memory that a pool with frames of up to `max_frame_bytes` may ever take, its ledger included."""
    plan, config = pool._plan, pool._config
    receivers = [route.shared.receivers for route in plan.routes.values() if route.shared is not None]
    retain = config.restart.max_restarts > 0
    ledger = os.fstat(pool._parts.fabric.ledger.fd).st_size
    return most_bytes(config.channel, receivers, max_frame_bytes, retain=retain) + ledger


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """One reading. PSS is the memory of a process, with what it shares divided among those who share it."""

    own_pss: int
    """Of this process, in bytes."""
    tree_pss: int
    """Of this process and all its descendants, in bytes."""
    descriptors: int
    """Of this process."""
    threads: int
    """Of this process."""
    children: int
    shm_files: int
    shm_bytes: int
    """Of the pools of this process and its descendants."""

    @classmethod
    def read(cls) -> Gauges:
        """Read all of them, now. Processes that end meanwhile count for nothing."""
        children = descendants()
        own = _pss("self")
        files = own_shared_memory()
        return cls(
            own_pss=own,
            tree_pss=own + sum(_pss(str(pid)) for pid in children),
            descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
            children=len(children),
            shm_files=len(files),
            shm_bytes=sum(files.values()),
        )


def _pss(pid: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


# -- over time ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The line that fits the readings of one gauge best (least squares)."""

    name: str
    first: float
    """Where the line begins."""
    slope: float
    """Per unit of the abscissa: a second, or a cycle."""
    growth: float
    """From the beginning of the line to its end."""
    tolerance: float
    """How much growth, or shrinking, of the whole line is taken for noise."""

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.tolerance

    @property
    def verdict(self) -> str:
        return "flat" if self.is_flat else "growing"


def trend(name: str, places: Sequence[float], values: Sequence[float], tolerance: float) -> Trend:
    """Fit a line through (place, value). Raises ValueError for fewer than two places."""
    count = len(places)
    middle, mean = sum(places) / max(count, 1), sum(values) / max(count, 1)
    spread = sum((place - middle) ** 2 for place in places)
    if not spread:
        raise ValueError(f"{name}: a trend needs readings at two places at least")
    slope = sum((p - middle) * (v - mean) for p, v in zip(places, values, strict=True)) / spread
    span = max(places) - min(places)
    return Trend(
        name=name,
        first=mean - slope * (middle - min(places)),
        slope=slope,
        growth=slope * span,
        tolerance=tolerance,
    )


def trends(places: Sequence[float], readings: Iterable[Gauges], tolerances: dict[str, float]) -> list[Trend]:
    """One trend for each gauge that `tolerances` names."""
    kept = list(readings)
    return [
        trend(name, places, [getattr(reading, name) for reading in kept], tolerance)
        for name, tolerance in tolerances.items()
    ]
