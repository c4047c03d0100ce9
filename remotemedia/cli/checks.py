"""What `remotemedia doctor` looks at. Each check is a function of plain facts, beside one that gathers them."""

from __future__ import annotations

import errno
import importlib
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from remotemedia._version import __version__
from remotemedia.cli.container import container_checks
from remotemedia.cli.output import size_text
from remotemedia.cli.version import library_versions

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report. `remedy`: what to do, "" if nothing is to be done."""

    name: str
    status: Status
    text: str
    remedy: str = ""


_MIB = 2**20
_LITTLE_SHM, _TOO_LITTLE_SHM = 256 * _MIB, 16 * _MIB
_FEW_FILES, _TOO_FEW_FILES = 1024, 128
"""A pool of n workers takes 37 + 8 n descriptors in the coordinator."""
_FEW_PROCESSES = 256
_MODULES = {
    "numpy": "numpy",
    "iceoryx2": "iceoryx2",
    "pyzmq": "zmq",
    "cloudpickle": "cloudpickle",
    "msgspec": "msgspec",
    "psutil": "psutil",
    "structlog": "structlog",
}


def all_checks() -> list[Check]:
    """Every check of this machine, in the order in which they are shown."""
    return list(_all())


def _all() -> Iterator[Check]:
    yield check_python(sys.version_info[:2], platform.system(), platform.machine())
    yield from check_libraries(library_versions())
    yield from _shared_memory()
    yield from _pools()
    yield _runtime_directory()
    yield from check_limits(resource.getrlimit)
    yield check_kernel("pidfd", lambda: os.close(os.pidfd_open(os.getpid())), "Linux 5.3 or later")
    yield check_kernel("memfd", _make_memfd, "Linux 3.17 or later")
    yield check_kernel("eventfd", lambda: os.close(os.eventfd(0)), "a kernel with eventfd")
    yield check_processors(len(os.sched_getaffinity(0)), os.cpu_count() or 1)
    yield from (Check(*line) for line in container_checks())


# -- software --------------------------------------------------------------------------------------------------------


def check_python(version: tuple[int, ...], system: str, machine: str) -> Check:
    """The interpreter and the platform."""
    text = f"{__version__} on Python {platform.python_version()}, {system} {machine}"
    if version < (3, 11):
        return Check("remotemedia", "fail", text, "use Python 3.11 or later")
    if system != "Linux":
        return Check("remotemedia", "fail", text, 'worker processes need Linux; executor="inline" works here')
    return Check("remotemedia", "ok", text)


def check_libraries(
    versions: dict[str, str], load: Callable[[str], object] = importlib.import_module
) -> Iterator[Check]:
    """Every library that is needed loads; of those that are not, the missing ones are named."""
    broken = []
    for name, module in _MODULES.items():
        try:
            load(module)
        except Exception as error:  # noqa: BLE001 - a broken native library may raise anything
            broken.append(name)
            yield Check("libraries", "fail", f"{name}: {error}", f"pip install --force-reinstall {name}")
    if not broken:
        yield Check("libraries", "ok", ", ".join(f"{name} {versions.get(name, '?')}" for name in _MODULES))
    extras = {"cli": ("rich", "shtab"), "media": ("av",), "metrics": ("prometheus-client",)}
    missing = [extra for extra, names in extras.items() if any(name not in versions for name in names)]
    text = f"not installed: {', '.join(missing)}" if missing else "all installed"
    remedy = f"if you need them: pip install 'remotemedia[{','.join(missing)}]'" if missing else ""
    yield Check("extras", "ok", text, remedy)


# -- shared memory and pools -----------------------------------------------------------------------------------------


def _shared_memory() -> Iterator[Check]:
    shm = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives on Linux
    try:
        facts = os.statvfs(shm)
        writable = os.access(shm, os.W_OK | os.X_OK)
    except OSError as error:
        yield Check("shared memory", "fail", f"{shm}: {error.strerror}", "mount a tmpfs at /dev/shm")
        return
    yield check_shared_memory(facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize, writable=writable)


def check_shared_memory(size: int, free: int, *, writable: bool) -> Check:
    """Size and room of /dev/shm, in bytes."""
    text = f"{size_text(size)} in /dev/shm, {size_text(free)} free"
    larger = "docker run --shm-size=1g; Kubernetes: an emptyDir with medium Memory at /dev/shm"
    if not writable:
        return Check("shared memory", "fail", f"{text}, and is not writable for this user", "chmod 1777 /dev/shm")
    if free < _TOO_LITTLE_SHM:
        return Check("shared memory", "fail", text, f"remotemedia clean; or enlarge it: {larger}")
    if size <= 64 * _MIB:
        return Check("shared memory", "warn", f"{text} (a container's default)", larger)
    if free < _LITTLE_SHM:
        return Check("shared memory", "warn", text, f"large frames may not fit; remotemedia clean, or {larger}")
    return Check("shared memory", "ok", text)


def _pools() -> Iterator[Check]:
    from remotemedia.workers.running import find_pools

    places = find_pools()
    dead = [place for place in places if not place.alive]
    alive = len(places) - len(dead)
    yield Check("running pools", "ok", f"{alive}", "see them at work: remotemedia top" if alive else "")
    yield check_leftovers(len(dead), sum(place.shared_memory()[1] for place in dead))


def check_leftovers(pools: int, nbytes: int) -> Check:
    """What pools whose coordinator was killed have left."""
    if pools:
        return Check("leftovers", "warn", f"of {pools} dead pools, {size_text(nbytes)} of memory", "remotemedia clean")
    return Check("leftovers", "ok", "none")


def _runtime_directory() -> Check:
    from remotemedia.workers.private_dir import candidate_bases, check_base
    from remotemedia.workers.rundir import _LONGEST_BELOW

    refusals = []
    for base in candidate_bases():
        try:
            check_base(base, _LONGEST_BELOW)
            if not os.access(base, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable")
        except OSError as error:
            refusals.append(f"{base}: {error.strerror}")
            continue
        return Check("runtime files", "ok", f"{base}")
    remedy = "set REMOTEMEDIA_RUNTIME_DIR to a short absolute path of a directory that you own"
    return Check("runtime files", "fail", "; ".join(refusals), remedy)


# -- limits and kernel -----------------------------------------------------------------------------------------------


def check_limits(getrlimit: Callable[[int], tuple[int, int]]) -> Iterator[Check]:
    """File descriptors, processes, locked memory."""
    soft, hard = getrlimit(resource.RLIMIT_NOFILE)
    text = f"{_limit_text(soft)} file descriptors (hard limit {_limit_text(hard)})"
    if 0 <= soft < _FEW_FILES:
        status: Status = "fail" if soft < _TOO_FEW_FILES else "warn"
        yield Check("ulimit -n", status, f"{text}; a pool of n workers takes 37 + 8 n", "ulimit -n 4096")
    else:
        yield Check("ulimit -n", "ok", text)
    soft, _ = getrlimit(resource.RLIMIT_NPROC)
    if 0 <= soft < _FEW_PROCESSES and os.geteuid() != 0:  # it does not hold for root
        text = f"{soft} processes and threads; a worker has about 5, and libraries start more"
        yield Check("ulimit -u", "warn", text, "ulimit -u 4096")
    else:
        yield Check("ulimit -u", "ok", f"{_limit_text(soft)} processes and threads")
    soft, _ = getrlimit(resource.RLIMIT_MEMLOCK)
    text = "any amount of" if soft == resource.RLIM_INFINITY else size_text(soft)
    yield Check("ulimit -l", "ok", f"{text} locked memory; none is needed")


def _limit_text(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def check_kernel(name: str, attempt: Callable[[], object], needs: str) -> Check:
    """A system call that may be missing, or forbidden by a container's filter."""
    try:
        attempt()
    except (OSError, AttributeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        forbidden = getattr(error, "errno", None) in {errno.EPERM, errno.EACCES}
        remedy = f"the container's seccomp profile forbids {name}: allow it" if forbidden else f"needs {needs}"
        return Check(name, "fail", why, remedy)
    return Check(name, "ok", "works")


def _make_memfd() -> None:
    os.close(os.memfd_create("doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))


def check_processors(usable: int, present: int) -> Check:
    """How many may be used of those that are there."""
    text = f"{usable} of {present} usable" if usable != present else f"{usable}"
    if usable == 1:
        return Check("processors", "warn", text, 'worker processes take turns on one: executor="inline" may be as fast')
    return Check("processors", "ok", text)

