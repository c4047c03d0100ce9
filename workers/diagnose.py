"""Why is a worker slow, or dead? What the kernel knows: /proc of its process, and the memory control group."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UNLIMITED = 2**60
"""cgroup v1 writes "no limit" as a huge number."""
_BUSY = 0.5
"""A process that used this part of a processor since it fell silent is running, whatever it does at this instant."""


_HELD = {
    "T": "stopped by a signal (SIGSTOP, or SIGTSTP): SIGCONT lets it go on. A stopped process writes no stacks",
    "t": "held by a debugger or tracer: the clock stands still meanwhile",
    "D": "in uninterruptible sleep{where}: a device, a network file system, or swapping",
}

# -- one process -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ProcessFacts:
    """What /proc says of a process. `state`: its letter ("R", "S", "D", "T", "t", "Z"); `cpu_s`: processor time of all
    its threads so far; `wchan`: the kernel function in which its first thread sleeps, "" if unknown.
    """

    state: str
    cpu_s: float
    wchan: str = ""


@dataclass(frozen=True, kw_only=True)
class Hang:
    """A worker that is given up: for how long it did what, and what its process was doing. `frame`: the frame it took
    too long for, None if it gave no sign of life at all.
    """

    waited_s: float
    process_state: str
    explanation: str
    frame: int | None = None


def process_facts(pid: int) -> ProcessFacts | None:
    """What the process does now; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        wchan = ""
        with suppress(PermissionError):
            wchan = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return None
    return parse_facts(stat, wchan)


def parse_facts(stat: str, wchan: str) -> ProcessFacts:
    """From the texts of /proc/<pid>/stat and /proc/<pid>/wchan."""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return ProcessFacts(state=fields[0], cpu_s=cpu_s, wchan="" if wchan.strip() == "0" else wchan.strip())


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler of its own for a signal; else the signal may be its end."""
    try:
        return parse_catches(Path(f"/proc/{pid}/status").read_text(), number)
    except OSError:
        return False


def parse_catches(status: str, number: int) -> bool:
    """From the text of /proc/<pid>/status."""
    for line in status.splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def explain(facts: ProcessFacts, *, beats: bool, cpu_s: float = 0.0, over_s: float = 0.0) -> str:
    """What the state means. `beats`: its interpreter runs, only the frame takes long; `cpu_s`: the processor time that
    it has used in the last `over_s` seconds.
    """
    where = f" in {facts.wchan}" if facts.wchan else ""
    if "freez" in facts.wchan or "refrigerator" in facts.wchan:
        return f"frozen{where}: the freezer of its control group holds it"
    if facts.state in _HELD:
        return _HELD[facts.state].format(where=where)
    busy = f", with {cpu_s:.1f} s of processor time in {over_s:.1f} s" if over_s > 0 else ""
    if facts.state == "R" or (over_s > 0 and cpu_s > _BUSY * over_s):
        return f"running{busy}" + ("" if beats else "; the GIL is probably held by native code")
    if facts.state == "S":
        return f"asleep{where}" + ("" if beats else "; native code probably waits there without giving the GIL back")
    return f"in process state {facts.state}{where}"


def memory_bytes(pid: int) -> int | None:
    """The process's PSS; its own resident memory where the kernel does not tell that; None if it is gone.

    Takes time in proportion to the memory (milliseconds per GB): not for an event loop.
    """
    try:
        return parse_pss(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except (OSError, ValueError):
        return own_bytes(pid)


def parse_pss(smaps_rollup: str) -> int:
    """From the text of /proc/<pid>/smaps_rollup. Raises ValueError if it is not there."""
    for line in smaps_rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss in smaps_rollup")


def own_bytes(pid: int) -> int | None:
    """Resident memory that is the process's alone, without shared memory and files; cheap. None if it is gone."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


# -- the memory control group ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OomFacts:
    """The kernel's OOM killer in our control group: how many processes it had killed `before` and `now`; the group's
    limit and what it uses now, in bytes, None where there is none or it is not told.
    """

    before: int
    now: int
    limit_bytes: int | None = None
    used_bytes: int | None = None


class _Files(NamedTuple):
    """What a version of control groups calls its files."""

    events: str
    limit: str
    used: str


_V1 = _Files("memory.oom_control", "memory.limit_in_bytes", "memory.usage_in_bytes")
_V2 = _Files("memory.events", "memory.max", "memory.current")


class MemoryGroup:
    """The control group that bounds our memory and that of our workers, version 1 or 2."""

    def __init__(self, membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> None:
        self._folder, self._files = _find_group(membership, root)
        self._samples: deque[int] = deque(maxlen=2)

    def sample(self) -> None:
        """Remember how many the OOM killer has killed by now; to be called now and then."""
        kills = self._kills()
        if kills is not None:
            self._samples.append(kills)

    def facts(self) -> OomFacts | None:
        """What has changed since the sample before the last one: the death that is asked about may have come just
        before that. None: the kernel does not tell.
        """
        now = self._kills()
        if now is None or not self._samples:
            return None
        limit, used = self._bytes(self._files.limit), self._bytes(self._files.used)
        return OomFacts(before=self._samples[0], now=now, limit_bytes=limit, used_bytes=used)

    def _kills(self) -> int | None:
        text = self._read(self._files.events)
        return None if text is None else parse_oom_kills(text)

    def _bytes(self, name: str) -> int | None:
        text = (self._read(name) or "").strip()
        return int(text) if text.isdecimal() and int(text) < _UNLIMITED else None

    def _read(self, name: str) -> str | None:
        if self._folder is None:
            return None
        try:
            return (self._folder / name).read_text()
        except OSError:
            return None


def parse_oom_kills(text: str) -> int | None:
    """`oom_kill` from memory.events (v2) or memory.oom_control (v1)."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.strip().isdecimal():
            return int(number)
    return None


def _find_group(membership: Path, root: Path) -> tuple[Path | None, _Files]:
    """The folder of our memory control group, and what its files are called."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None, _V2
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mount, files = (root / "memory", _V1) if controllers else (root, _V2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # In a container the path may be the host's, while the mount shows our own group at its top.
        for folder in (mount / path.lstrip("/"), mount):
            if (folder / files.events).exists():
                return folder, files
    return None, _V2
