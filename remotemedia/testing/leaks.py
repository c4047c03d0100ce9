"""What a piece of code leaves behind: processes, file descriptors, threads, shared memory, runtime directories. Linux.

    before = Snapshot.take()
    ...
    assert_no_leaks(before)
"""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from remotemedia.workers.private_dir import SHM_DIR, candidate_bases, user_dir

_PROC = Path("/proc")
_POLL_S = 0.02

# Pools, iceoryx2 used without a pool's settings, and multiprocessing's shared memory and semaphores.
_PREFIXES = ("rm_", "iox2_", "psm_", "sem.")

# Threads that a library starts once for the life of the process, by the name that it gives them.
_PROCESS_WIDE_THREADS = ("libuv-worker",)


@dataclass(frozen=True)
class Snapshot:
    """What this process, and the pools it made, hold at one moment: in each field, keys and their descriptions."""

    processes: dict[str, str]
    descriptors: dict[str, str]
    threads: dict[str, str]
    shared_memory: dict[str, str]
    runtime_directories: dict[str, str]

    @classmethod
    def take(cls) -> Snapshot:
        foreign = _pools_of_others()
        return cls(
            processes=_processes(),
            descriptors=_descriptors(),
            threads=_threads(),
            shared_memory=_shared_memory(foreign),
            runtime_directories=_runtime_directories(foreign),
        )

    def since(self, before: Snapshot) -> list[str]:
        """One line for each thing that is here now and was not there before.

        Shared memory that a process outside of our family has mapped is that process's business.
        """
        new = [
            (field.name, key, text)
            for field in fields(self)
            for key, text in getattr(self, field.name).items()
            if key not in getattr(before, field.name)
        ]
        foreign = _shared_memory_of_others() if any(kind == "shared_memory" for kind, _, _ in new) else set()
        return [f"{kind.replace('_', ' ')}: {text}" for kind, key, text in new if key not in foreign]


def assert_no_leaks(before: Snapshot, *, deadline_s: float = 5.0) -> None:
    """Raise AssertionError with a list of everything that exists now and did not at `before`.

    What is on its way out (a thread that ends, a process that dies) gets `deadline_s` seconds. Garbage is collected
    before each look, so that only what is really held counts: also what such a thread held until then.
    """
    give_up_at = time.monotonic() + deadline_s
    gc.collect()
    while left := Snapshot.take().since(before):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"left behind ({len(left)}):\n  " + "\n  ".join(left))
        time.sleep(_POLL_S)
        gc.collect()


# -- processes ---------------------------------------------------------------------------------------------------------


class _Process(NamedTuple):
    state: str
    parent: int
    session: int
    start: str


def _process_table() -> dict[int, _Process]:
    table = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has just ended
                columns = (entry / "stat").read_text().rpartition(")")[2].split()
                table[int(entry.name)] = _Process(columns[0], int(columns[1]), int(columns[3]), columns[19])
    return table


def _descendants(table: dict[int, _Process]) -> set[int]:
    found: set[int] = set()
    parents = {os.getpid()}
    while parents:
        parents = {pid for pid, process in table.items() if process.parent in parents}
        found |= parents
    return found


def descendants() -> set[int]:
    """Pids of this process's children, their children, and so on."""
    return _descendants(_process_table())


def _ancestors(table: dict[int, _Process]) -> set[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid in table and (pid := table[pid].parent) not in found:
        found.add(pid)
    return found


def _processes() -> dict[str, str]:
    """Our descendants, and processes of our session that lost their parent: children of children that were killed.

    Who adopts those is outside of our session, or an ancestor of ours: in a container the first process leads the
    session that everything runs in.
    """
    table = _process_table()
    ours = _descendants(table)
    ancestors = _ancestors(table)
    own_session = os.getsid(0)
    found = {}
    for pid, process in table.items():
        parent = table.get(process.parent)
        orphan = parent is None or parent.session != own_session or process.parent in ancestors
        adopted = process.session == own_session and orphan and pid not in {os.getpid(), *ancestors}
        if pid in ours or (adopted and pid != own_session and "remotemedia" in _command(pid)):
            # Numbers come back: the start time makes the key.
            found[f"{pid} {process.start}"] = f"pid {pid} (state {process.state}) {_command(pid)}"
    return found


def _command(pid: int) -> str:
    with suppress(OSError):
        line = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return line[:200]
    return ""


# -- this process ------------------------------------------------------------------------------------------------------


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the descriptor of this very listing
            target = str(entry.readlink())
            found[f"{entry.name} {target}"] = f"fd {entry.name} → {target}{_socket_path(target)}"
    return found


def _socket_path(target: str) -> str:
    if not target.startswith("socket:["):
        return ""
    inode = target[len("socket:[") : -1]
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[6] == inode:
            return f" (unix {' '.join(columns[7:]) or 'unnamed'})"
    return ""


def _threads() -> dict[str, str]:
    """Those without a name of their own by their count: OpenBLAS ends its own at a fork, and has others afterwards."""
    python = {thread.native_id: thread for thread in threading.enumerate()}
    own_name = Path("/proc/self/comm").read_text().strip()
    found = {}
    nameless = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            name = (task / "comm").read_text().strip()
            thread = python.get(int(task.name))
            if thread is not None:
                found[task.name] = repr(thread)
            elif name == own_name:
                nameless += 1
                found[f"nameless {nameless}"] = f"{name!r}, not Python's"
            elif not name.startswith(_PROCESS_WIDE_THREADS):
                found[task.name] = f"{name!r}, not Python's"
    return found


# -- files -------------------------------------------------------------------------------------------------------------


def _shared_memory(foreign: set[str]) -> dict[str, str]:
    found = {}
    for entry in SHM_DIR.iterdir():
        with suppress(OSError):  # it has just been removed
            facts = entry.lstat()
            ours = facts.st_uid == os.geteuid() and entry.name.startswith(_PREFIXES)
            if ours and _pool_of(entry) not in foreign:
                found[f"{facts.st_ino}"] = f"{entry} ({facts.st_blocks * 512} bytes)"
    return found


def own_shared_memory() -> dict[Path, int]:
    """Files of this process's and its descendants' pools in /dev/shm, and the bytes of memory behind each."""
    foreign = _pools_of_others()
    found = {}
    for entry in SHM_DIR.glob("rm_*"):
        with suppress(OSError):  # it has just been removed
            if _pool_of(entry) not in foreign:
                found[entry] = entry.lstat().st_blocks * 512
    return found


def _shared_memory_of_others() -> set[str]:
    """Inodes in /dev/shm that processes other than this one and its descendants have mapped.

    By inode, because a POSIX semaphore is made under another name than it has later.
    """
    table = _process_table()
    in_shm = re.compile(rf" (\d+) +{SHM_DIR}/")
    found: set[str] = set()
    for pid in table.keys() - _descendants(table) - {os.getpid()}:
        with suppress(OSError):  # it has just ended, or belongs to somebody else
            found.update(in_shm.findall((_PROC / str(pid) / "maps").read_text()))
    return found


def _runtime_directories(foreign: set[str]) -> dict[str, str]:
    return {str(path): str(path) for path in _pool_directories() if path.name not in foreign}


def _pool_directories() -> list[Path]:
    found: list[Path] = []
    for base in candidate_bases():
        with suppress(OSError):  # there is none
            found += user_dir(base).iterdir()
    return found


def _pool_of(entry: Path) -> str:
    return entry.name.split("_")[1] if entry.name.startswith("rm_") else entry.name


def _pools_of_others() -> set[str]:
    """Ids of pools whose lock is held by a process that is neither this one nor a descendant: parallel test runs."""
    ours = _descendants(_process_table()) | {os.getpid()}
    holders = _lock_holders()
    foreign = set()
    for path in [*_pool_directories(), *SHM_DIR.glob("rm_*_pool")]:
        with suppress(OSError):
            if holders.get(path.lstat().st_ino, os.getpid()) not in ours:
                foreign.add(_pool_of(path))
    return foreign


def _lock_holders() -> dict[int, int]:
    """inode → pid of the process that took a flock on it."""
    lines = [line.split() for line in (_PROC / "locks").read_text().splitlines()]
    return {int(columns[5].split(":")[2]): int(columns[4]) for columns in lines if columns[1] == "FLOCK"}
