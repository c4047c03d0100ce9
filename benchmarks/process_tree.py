"""A process and its descendants: the CPU they used, the shared memory they mapped, and their end."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

SHARED_MEMORY = Path("/dev/shm")

KILL_TIMEOUT_S = 5.0

CPUCLOCK_SCHED = 2
"""Kernel's number for the clock that counts the precise CPU time of a process, ended threads included."""


def tree_of(pid: int) -> list[psutil.Process]:
    """The process and all its descendants; empty if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU time used so far, user and system, to the nanosecond (/proc/<pid>/stat counts in steps of 10 ms)."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(OSError):  # it has ended
            total += time.clock_gettime((~process.pid << 3) | CPUCLOCK_SCHED)
    return total


def pss_bytes(processes: Iterable[psutil.Process]) -> int:
    """Memory of the processes, each shared page counted once (PSS: a page belongs in parts to all who map it)."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += 1024 * int(line.split()[1])
    return total


def sleeps(processes: Iterable[psutil.Process]) -> int:
    """How often threads of the processes have gone to sleep so far, which is how often they were woken."""
    total = 0
    for process in processes:
        for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):  # the thread has ended
                for line in status.read_text().splitlines():
                    if line.startswith("voluntary_ctxt_switches:"):
                        total += int(line.split()[1])
    return total


def mapped_shared_memory(processes: Iterable[psutil.Process]) -> set[Path]:
    """Files in /dev/shm that the processes have mapped."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                _, _, path = line.partition(f"{SHARED_MEMORY}/")
                if path and not path.endswith(" (deleted)"):
                    found.add(SHARED_MEMORY / path)
    return found


@contextlib.contextmanager
def ended(pids: Iterable[int]) -> Iterator[Callable[[float], set[int]]]:
    """How to wait for the end of processes that need not be our children: the call waits up to so many seconds and
    returns those that still run. A process has ended when the kernel says so, whether its parent has noticed or not.
    """
    with contextlib.ExitStack() as stack:
        waiting: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                waiting[fd] = pid

        def wait(seconds: float) -> set[int]:
            end = time.monotonic() + seconds
            while waiting:
                ready, _, _ = select.select([*waiting], [], [], max(0.0, end - time.monotonic()))
                if not ready:
                    break
                for fd in ready:
                    del waiting[fd]
            return {*waiting.values()}

        yield wait


def end_all(processes: Sequence[psutil.Process], grace_s: float) -> list[psutil.Process]:
    """Wait `grace_s` seconds for the end of the processes; kill and return those that are still there then."""
    alive: list[psutil.Process]
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=KILL_TIMEOUT_S)
    return alive
