"""Which pools of this user run on this machine, and which have died and left something. Looks only; sweep.py removes.

Every pool has a marker in /dev/shm, locked while it lives, which names its directory (see rundir.py).
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from remotemedia.workers.private_dir import SHM_DIR
from remotemedia.workers.sweep import _MARKER, _marked_dir, _own_entries, _with_contents, marker_path

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
        files = size = 0
        for entry in _own_entries(SHM_DIR, f"rm_{self.pool_id}_*"):
            for item in _with_contents(entry) if entry != marker_path(self.pool_id) else ():
                with suppress(OSError):  # it has just been removed
                    found = item.lstat()
                    files, size = files + stat.S_ISREG(found.st_mode), size + found.st_blocks * 512
        return files, size


def find_pools() -> list[PoolPlace]:
    """All pools of this user that have a marker, by id. Raises nothing: what cannot be read is left out."""
    places = []
    for marker in _own_entries(SHM_DIR, "rm_*_pool"):
        match = _MARKER.fullmatch(marker.name)
        if match is None:
            continue
        try:
            fd = os.open(marker, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # closed meanwhile
        try:
            places.append(PoolPlace(match[1], _marked_dir(fd, match[1]), alive=_is_locked(fd)))
        finally:
            os.close(fd)
    return sorted(places, key=lambda place: place.pool_id)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back when `fd` is closed
    except BlockingIOError:
        return True
    return False
