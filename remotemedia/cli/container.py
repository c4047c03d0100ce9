"""Traps of containers and control groups, for `remotemedia doctor`: (name, status, text, remedy) each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from remotemedia.cli.output import size_text
from remotemedia.workers.diagnose import MemoryGroup

Line = tuple[str, Literal["ok", "warn", "fail"], str, str]

_INITS = {
    "init", "systemd", "tini", "tini-static", "docker-init", "catatonit", "dumb-init", "s6-svscan", "runit", "pause",
}  # fmt: skip
_MARKS = ("/.dockerenv", "/run/.containerenv")
_FEW_PIDS = 64
_LITTLE_MEMORY = 512 * 2**20
_NEARLY_FULL = 0.9


def container_checks() -> Iterator[Line]:
    """Of this machine."""
    yield check_init(inside=is_container(), first=_read("/proc/1/comm"), own_pid=os.getpid())
    memory = MemoryGroup()
    memory.sample()
    facts = memory.facts()
    yield check_memory(facts.limit_bytes if facts else None, facts.used_bytes if facts else None)
    folder = cgroup_folder(_read("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    if folder is None:
        return
    yield check_pids(_number(folder / "pids.max"), _number(folder / "pids.current"))
    yield check_quota(_read(str(folder / "cpu.max")), len(os.sched_getaffinity(0)))


def is_container(marks: tuple[str, ...] = _MARKS) -> bool:
    """Whether this looks like a container."""
    return any(Path(mark).exists() for mark in marks) or bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def check_init(*, inside: bool, first: str, own_pid: int) -> Line:
    """Orphans of killed processes are reaped by process 1; a program that is no init does not, and ignores SIGTERM."""
    if own_pid == 1:
        return "process 1", "warn", "this process is process 1", "docker run --init; Compose: init: true"
    if not inside:
        return "process 1", "ok", f"{first or 'unknown'}; not in a container", ""
    if first in _INITS:
        return "process 1", "ok", f"{first}, in a container", ""
    text = f"{first or 'unknown'}, in a container, is no init: it may not reap what is orphaned nor pass SIGTERM on"
    remedy = "docker run --init; Compose: init: true; Kubernetes: shareProcessNamespace, or tini in the image"
    return "process 1", "warn", text, remedy


def check_memory(limit: int | None, used: int | None) -> Line:
    """The control group's memory; what lies in /dev/shm counts."""
    name = "memory limit"
    if limit is None:
        return name, "ok", "none", ""
    text = f"{size_text(limit)}, {size_text(used or 0)} used; shared memory counts"
    if limit < _LITTLE_MEMORY or (used or 0) > _NEARLY_FULL * limit:
        return name, "warn", text, "workers may be killed for memory: raise the container's limit (docker run -m 4g)"
    return name, "ok", text, ""


def check_pids(limit: int | None, used: int | None) -> Line:
    """The control group's processes and threads."""
    name = "process limit"
    if limit is None:
        return name, "ok", "none", ""
    text = f"{limit} processes and threads, {used or 0} used"
    if limit - (used or 0) < _FEW_PIDS:
        return name, "warn", text, "workers may not start: raise it (docker run --pids-limit 4096)"
    return name, "ok", text, ""


def check_quota(cpu_max: str, processors: int) -> Line:
    """The control group's processor time, as cpu.max says it: "max 100000" or "<quota> <period>", in µs."""
    quota, _, period = cpu_max.partition(" ")
    if not quota.isdecimal() or not period.isdecimal():
        return "processor quota", "ok", "none", ""
    share = int(quota) / int(period)
    text = f"{share:.1f} processors of {processors}"
    if share < processors:
        remedy = "libraries start a thread per processor they see: WorkerLimits(cpu_affinity=), or OMP_NUM_THREADS"
        return "processor quota", "warn", text, remedy
    return "processor quota", "ok", text, ""


def cgroup_folder(membership: str, root: Path) -> Path | None:
    """The folder of our control group, version 2; None where there is none (version 1, or not mounted)."""
    for line in membership.splitlines():
        number, _, path = line.partition("::")
        if number == "0":
            # In a container the path may be the host's, while the mount shows our own group at its top.
            for folder in (root / path.lstrip("/"), root):
                if (folder / "pids.max").exists() or (folder / "cpu.max").exists():
                    return folder
    return None


def _number(path: Path) -> int | None:
    text = _read(str(path))
    return int(text) if text.isdecimal() else None  # or "max"


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""
