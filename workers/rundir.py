"""Where a pool keeps its socket and its shared memory.

    <base>/remotemedia-<uid>/<pool id>/            locked while the pool lives
        control.sock
        observe.sock                               for those who look at the pool
        worker-<pid>-<start time>-<where>          one empty file per live worker, all facts in its name
    /dev/shm/rm_<pool id>_pool                     locked while the pool lives; names the directory above
    /dev/shm/rm_<pool id>_iox/                     iceoryx2's root directory
    /dev/shm/rm_<pool id>_*                        iceoryx2's segments

A pool whose lock can be taken is dead, however it died: the kernel drops locks with the process. There are two locked
places because either can vanish alone (a container's /tmp is new after a restart while /dev/shm may be the host's). The
directory itself is locked, not a file in it, so that nothing lies between making it and locking it, and so that
systemd-tmpfiles leaves it alone.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.workers.private_dir import (
    DIR_FLAGS,
    SHM_DIR,
    candidate_bases,
    check_base,
    open_private,
    try_lock,
    user_dir,
)
from remotemedia.workers.running import OBSERVER_SOCKET
from remotemedia.workers.sweep import SweepReport, marker_path, process_identity, remove_pool, sweep

__all__ = ["PoolDir", "SweepReport", "sweep"]

_SOCKET = "control.sock"
_LONGEST_BELOW = f"{'0' * 10}/{_SOCKET}"
_ATTEMPTS = 100


class PoolDir:
    """The places of one pool: `path`, `socket_path`, `observer_path`, `shm_prefix`, `iox_root`. Ours alone (0700),
    removed by `close`.

    Also a context manager. Running workers are recorded (`record_worker`, `forget_worker`) for the sweep of others.
    """

    def __init__(self, path: Path, locks: list[int]) -> None:
        """`locks`: descriptors that hold the locks of this pool; use `create`."""
        self.path = path
        self.pool_id = path.name
        self.socket_path = path / _SOCKET
        self.observer_path = path / OBSERVER_SOCKET  # no longer a name than the other one's
        self.shm_prefix = f"rm_{self.pool_id}_"
        self.iox_root = SHM_DIR / f"{self.shm_prefix}iox"
        self._locks = locks
        self._guard = threading.Lock()
        _open_here.add(self)

    @classmethod
    def create(cls, runtime_dir: str | None = None) -> PoolDir:
        """Make the places of a new pool in the first base directory that can be used.

        Raises ConfigurationError that says for each candidate why it cannot be used.
        """
        refusals: list[str] = []
        for base in candidate_bases(runtime_dir):
            try:
                return _create_in(base)
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "error")
                place = f"{error.filename}: " if error.filename not in {None, str(base)} else ""
                refusals.append(f"  {base}: {name}, {place}{error.strerror}")
        raise ConfigurationError(
            "no directory can hold the pool's control socket and shared memory:\n"
            + "\n".join(refusals)
            + "\nSet REMOTEMEDIA_RUNTIME_DIR or PoolConfig(runtime_dir=...) to the absolute path of a directory "
            f"that you can write to, and make sure that {SHM_DIR} is writable."
        )

    def record_worker(self, pid: int) -> None:
        """Remember the process of a worker (a child that is not reaped yet), so that a sweep can end it if we die."""
        identity = process_identity(pid)
        if identity is not None:
            (self.path / f"worker-{pid}-{identity}").touch(mode=0o600)

    def forget_worker(self, pid: int) -> None:
        for record in self.path.glob(f"worker-{pid}-*"):
            record.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all of it. Idempotent; does nothing in a forked copy of the process. The workers must be gone."""
        with self._guard:
            locks, self._locks = self._locks, []
        if not locks:
            return
        try:
            remove_pool(self.pool_id, self.path)
        finally:
            for fd in locks:
                os.close(fd)
        if self.path.exists() or self.iox_root.exists():  # removing takes descriptors, and there are some now
            remove_pool(self.pool_id, self.path)

    def _drop_locks(self) -> None:
        self._guard = threading.Lock()
        for fd in self._locks:
            os.close(fd)
        self._locks = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PoolDir({str(self.path)!r})"


_open_here: weakref.WeakSet[PoolDir] = weakref.WeakSet()


def _in_forked_copy() -> None:
    """A copy must not keep a lock when the owner dies, nor remove anything when it closes."""
    for pool in list(_open_here):
        pool._drop_locks()


os.register_at_fork(after_in_child=_in_forked_copy)


def _create_in(base: Path) -> PoolDir:
    parent = user_dir(base)
    for _ in range(_ATTEMPTS):  # again when another pool's close() or a sweep took away what we had just made
        check_base(base, _LONGEST_BELOW)
        with suppress(FileExistsError):
            parent.mkdir(mode=0o700)
        pool_id = os.urandom(5).hex()
        try:
            with open_private(parent) as parent_fd:
                os.mkdir(pool_id, mode=0o700, dir_fd=parent_fd)
                fd = os.open(pool_id, DIR_FLAGS, dir_fd=parent_fd)
        except FileNotFoundError:
            continue
        pool = _furnish(parent / pool_id, fd)
        if pool is not None:
            return pool
    raise OSError(errno.EAGAIN, f"directories made there disappeared {_ATTEMPTS} times", str(parent))


def _furnish(path: Path, dir_fd: int) -> PoolDir | None:
    """Lock the new directory, make and lock the marker; None if a sweep was quicker."""
    pool: PoolDir | None = None
    locks = [dir_fd]
    try:
        if try_lock(dir_fd, path):
            marker = marker_path(path.name)
            locks.append(os.open(marker, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            if try_lock(locks[1], marker):
                os.write(locks[1], os.fsencode(path))
                (SHM_DIR / f"rm_{path.name}_iox").mkdir(mode=0o700)
                pool = PoolDir(path, locks)
        return pool
    finally:
        if pool is None:
            remove_pool(path.name, path)
            for fd in locks:
                os.close(fd)
