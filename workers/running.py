"""Which pools of this user run on this machine, and which have died and left something. Looks only; sweep.py removes.

Every pool has a marker in /dev/shm, locked while it lives, which names its directory (see rundir.py).
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from remotemedia.workers.sweep import marked_dir, markers, measure, open_lockable, shared_memory_of

OBSERVER_SOCKET = "observe.sock"


@dataclass(frozen=True)
class PoolPlace:
    """One pool. `path`: its directory, None if that is gone; `alive`: whether its coordinator is."""

    pool_id: str
    path: Path | None
    alive: bool

    @property
    def observer_path(self) -> Path | None:
        """The socket that answers observers."""
        return None if self.path is None else self.path / OBSERVER_SOCKET

    def shared_memory(self) -> tuple[int, int]:
        """Its files in /dev/shm: how many, and the bytes of memory behind them."""
        return measure(shared_memory_of(self.pool_id))


def find_pools() -> list[PoolPlace]:
    """All pools of this user that have a marker, by id. Raises nothing: what cannot be read is left out."""
    places = []
    for marker, pool_id in markers():
        try:
            fd = open_lockable(marker)
        except OSError:
            continue  # closed meanwhile
        try:
            places.append(PoolPlace(pool_id, marked_dir(fd, pool_id), alive=_is_locked(fd)))
        finally:
            os.close(fd)
    return sorted(places, key=lambda place: place.pool_id)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back when `fd` is closed
    except BlockingIOError:
        return True
    return False
