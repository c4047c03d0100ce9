"""Finding and removing what killed pools left: processes, shared memory, directories. rundir.py draws the layout."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from remotemedia.workers.private_dir import SHM_DIR, candidate_bases, check_base, open_private, try_lock, user_dir

KILL_WAIT_S = 5.0

_ID = re.compile(r"[0-9a-f]{10}")
_MARKER = re.compile(rf"rm_({_ID.pattern})_pool")
_WORKER = re.compile(r"worker-(\d+)-(\d+-\w+)")


@dataclass(frozen=True)
class SweepReport:
    """What a sweep removed: dead pools, their files in shared memory, and the bytes of memory those had occupied."""

    pools: int = 0
    files: int = 0
    bytes: int = 0

    def __add__(self, other: SweepReport) -> SweepReport:
        return SweepReport(self.pools + other.pools, self.files + other.files, self.bytes + other.bytes)


def marker_path(pool_id: str) -> Path:
    return SHM_DIR / f"rm_{pool_id}_pool"


def sweep(runtime_dir: str | None = None) -> SweepReport:
    """Remove what dead pools of this user left, ending their workers first; live pools are not touched.

    Blocks while workers of a dead pool are being killed (up to KILL_WAIT_S each; the pool of one that cannot be killed
    is left for the next sweep). Looks into all candidate base directories, or into `runtime_dir`, and in any case into
    /dev/shm. Raises nothing: what cannot be read or removed is left.
    """
    report = SweepReport()
    for base in candidate_bases(runtime_dir):
        with suppress(OSError):  # not a place that a pool could have used, or other pools live there
            for path in _pool_dirs(base):
                report += _sweep_locked_by(path, path.name)
            user_dir(base).rmdir()
    for marker, pool_id in markers():
        report += _sweep_locked_by(marker, pool_id)
    return report


def markers() -> list[tuple[Path, str]]:
    """The markers of this user's pools in /dev/shm, with the ids of the pools."""
    found = [(entry, _MARKER.fullmatch(entry.name)) for entry in _own_entries(SHM_DIR, "rm_*_pool")]
    return [(entry, match[1]) for entry, match in found if match is not None]


def open_lockable(path: Path) -> int:
    """A descriptor of a marker or directory whose lock shows that its pool lives. Raises OSError: it has gone."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _pool_dirs(base: Path) -> list[Path]:
    check_base(base, "")
    with open_private(user_dir(base)):
        return [path for path in user_dir(base).iterdir() if _ID.fullmatch(path.name)]


def _sweep_locked_by(lockable: Path, pool_id: str) -> SweepReport:
    """Remove the pool whose life is shown by the lock on `lockable`, its directory or its marker, if it is dead."""
    try:
        fd = open_lockable(lockable)
    except OSError:
        return SweepReport()  # somebody else was quicker
    try:
        if not try_lock(fd, lockable):
            return SweepReport()
        path = lockable if stat.S_ISDIR(os.fstat(fd).st_mode) else marked_dir(fd, pool_id)
        records = [] if path is None else list(path.glob("worker-*"))
        survivors = [record for record in records if not _kill_recorded(record)]
        return SweepReport() if survivors else remove_pool(pool_id, path)
    finally:
        os.close(fd)


def marked_dir(marker_fd: int, pool_id: str) -> Path | None:
    """The directory that a marker names, if it is there and ours: of a pool with a runtime_dir not known here."""
    path = Path(os.fsdecode(os.read(marker_fd, 4096)))
    with suppress(OSError, ValueError):
        if path.name == pool_id:
            with open_private(path):
                return path
    return None


# -- files -------------------------------------------------------------------------------------------------------------


def remove_pool(pool_id: str, path: Path | None) -> SweepReport:
    """Shared memory goes first, directory and marker last: whoever is killed here, or cannot remove all of it (too few
    file descriptors), leaves a trace for the next sweep.
    """
    entries = shared_memory_of(pool_id)
    files, size = measure(entries)
    for entry in entries:
        _delete(entry)
    if path is not None:
        _delete(path)
        with suppress(OSError):  # not empty: other pools live there
            path.parent.rmdir()
    if not _root_dir(pool_id).exists():
        _delete(marker_path(pool_id))
    return SweepReport(1, files, size)


def shared_memory_of(pool_id: str) -> list[Path]:
    """What a pool has in /dev/shm, beside its marker."""
    marker = marker_path(pool_id)
    return [entry for entry in _own_entries(SHM_DIR, f"rm_{pool_id}_*") if entry != marker]


def measure(entries: Iterable[Path]) -> tuple[int, int]:
    """How many files these are, contents of directories included, and the bytes of memory behind them."""
    files = size = 0
    for entry in entries:
        for item in _with_contents(entry):
            with suppress(OSError):  # it has just been removed
                found = item.lstat()
                files, size = files + stat.S_ISREG(found.st_mode), size + found.st_blocks * 512
    return files, size


def _root_dir(pool_id: str) -> Path:
    return SHM_DIR / f"rm_{pool_id}_iox"


def _own_entries(directory: Path, pattern: str) -> list[Path]:
    own: list[Path] = []
    with suppress(OSError):  # too few file descriptors even for a look
        for entry in directory.glob(pattern):
            with suppress(OSError):  # it has just been removed
                if entry.lstat().st_uid == os.geteuid():
                    own.append(entry)
    return own


def _with_contents(entry: Path) -> list[Path]:
    found = [entry]
    if _is_real_dir(entry):
        with suppress(OSError):  # another sweep is at work here, too
            found.extend(entry.rglob("*"))
    return found


def _is_real_dir(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _delete(path: Path) -> None:
    if _is_real_dir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


# -- processes ---------------------------------------------------------------------------------------------------------


def process_identity(pid: int) -> str | None:
    """What no later process of that number shares: its start time, and where both count (boot, pid namespace)."""
    try:
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
    return f"{start}-{boot}_{namespace}"


def _kill_recorded(record: Path) -> bool:
    """Kill the recorded worker, with its process group, if it still lives; False if it does not die."""
    match = _WORKER.fullmatch(record.name)
    if match is None:
        return True
    pid = int(match[1])
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        # Compared while the descriptor pins the process: from here on it cannot be another one of that number.
        if process_identity(pid) != match[2]:
            return True
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(OSError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(KILL_WAIT_S * 1000))
    finally:
        os.close(fd)
