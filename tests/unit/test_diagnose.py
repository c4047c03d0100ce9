"""What the kernel says of a process and of the memory: real processes, and files as kernels write them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from remotemedia.workers.diagnose import (
    MemoryGroup,
    OomFacts,
    ProcessFacts,
    catches,
    explain,
    memory_bytes,
    own_bytes,
    parse_catches,
    parse_facts,
    parse_oom_kills,
    parse_pss,
    process_facts,
)

STAT = "42 (a) (b) R) D 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 123 1000 10 18446744073709551615"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def test_a_name_with_brackets_and_a_sleep_in_the_kernel() -> None:
    facts = parse_facts(STAT, "nfs_wait\n")
    tick = os.sysconf("SC_CLK_TCK")
    assert facts == ProcessFacts(state="D", cpu_s=300 / tick, wchan="nfs_wait")
    assert parse_facts(STAT, "0").wchan == ""


def test_a_process_that_is_stopped(sleeper: subprocess.Popen[bytes]) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    facts = process_facts(sleeper.pid)
    assert facts is not None
    assert facts.state == "T"


def test_this_process() -> None:
    facts = process_facts(os.getpid())
    assert facts is not None
    assert facts.state == "R"
    assert facts.cpu_s > 0
    block = bytearray(os.urandom(1)) * (64 * 2**20)
    for measure in (memory_bytes, own_bytes):
        assert (measure(os.getpid()) or 0) > len(block)
    del block


def test_a_process_that_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    assert process_facts(sleeper.pid) is None
    assert memory_bytes(sleeper.pid) is None
    assert own_bytes(sleeper.pid) is None


@pytest.mark.parametrize(
    ("facts", "beats", "cpu_s", "said"),
    [
        (ProcessFacts(state="R", cpu_s=9.0), False, 4.8, ["running", "4.8 s of processor time in 5.0 s", "GIL"]),
        (ProcessFacts(state="R", cpu_s=9.0), True, 0.1, ["running"]),
        (ProcessFacts(state="S", cpu_s=9.0, wchan="futex_wait"), False, 4.9, ["running", "GIL"]),
        (ProcessFacts(state="S", cpu_s=9.0, wchan="futex_wait"), False, 0.0, ["asleep in futex_wait", "GIL"]),
        (ProcessFacts(state="S", cpu_s=9.0, wchan="ep_poll"), True, 0.0, ["asleep in ep_poll"]),
        (ProcessFacts(state="D", cpu_s=9.0, wchan="nfs"), False, 0.0, ["uninterruptible", "in nfs"]),
        (ProcessFacts(state="T", cpu_s=9.0), False, 0.0, ["stopped by a signal", "writes no stacks"]),
        (ProcessFacts(state="t", cpu_s=9.0), False, 0.0, ["debugger", "clock stands still"]),
        (ProcessFacts(state="S", cpu_s=9.0, wchan="do_freezer_trap"), False, 0.0, ["frozen", "control group"]),
        (ProcessFacts(state="I", cpu_s=9.0), False, 0.0, ["process state I"]),
    ],
)
def test_states_in_words(facts: ProcessFacts, beats: bool, cpu_s: float, said: list[str]) -> None:
    text = explain(facts, beats=beats, cpu_s=cpu_s, over_s=5.0)
    for part in said:
        assert part in text
    assert ("GIL" in text) == ("GIL" in said)
    assert "{" not in text


def test_who_catches_a_signal(sleeper: subprocess.Popen[bytes]) -> None:
    assert not catches(sleeper.pid, signal.SIGUSR2)
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    assert catches(os.getpid(), signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    assert not catches(os.getpid(), signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, before)
    assert parse_catches("Name:\tx\nSigCgt:\t0000000000000800\n", 12)
    assert not parse_catches("Name:\tx\nSigCgt:\t0000000000000400\n", 12)
    assert not parse_catches("Name:\tx\n", 12)
    sleeper.kill()
    sleeper.wait()
    assert not catches(sleeper.pid, signal.SIGUSR2)


def test_pss() -> None:
    text = "00400000-7ffd ---p 00000000 00:00 0  [rollup]\nRss:  900 kB\nPss:       \t 512 kB\nPss_Anon:  400 kB\n"
    assert parse_pss(text) == 512 * 1024
    with pytest.raises(ValueError):
        parse_pss("Rss: 1 kB\n")


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 9\n", 1),
        ("oom_kill_disable 0\nunder_oom 1\noom_kill 3\n", 3),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
        ("oom_kill\n", None),
        ("", None),
    ],
)
def test_counts_of_the_oom_killer(text: str, kills: int | None) -> None:
    assert parse_oom_kills(text) == kills


def write_group(folder: Path, version: int, kills: int, limit: str = "1000", used: str = "900") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.events", "memory.max", "memory.current")
    if version == 1:
        names = ("memory.oom_control", "memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, text in zip(names, (f"oom 5\noom_kill {kills}", limit, used), strict=True):
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("version", "membership", "folder"),
    [
        (2, "0::/user/pool.scope", "user/pool.scope"),
        (2, "0::/docker/0123", "."),  # the host's path, while the mount shows our own group at its top
        (1, "7:cpu,cpuacct:/x\n4:memory:/jobs/1\n0::/", "memory/jobs/1"),
        (1, "4:hugetlb,memory:/docker/0123\n0::/", "memory"),
    ],
)
def test_where_our_memory_is_counted(version: int, membership: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(membership + "\n")
    root = tmp_path / "root"
    write_group(root / folder, version, kills=3)
    group = MemoryGroup(tmp_path / "cgroup", root)
    assert group.facts() is None  # nothing to compare with
    group.sample()
    assert group.facts() == OomFacts(before=3, now=3, limit_bytes=1000, used_bytes=900)
    write_group(root / folder, version, kills=4, limit="max" if version == 2 else str(2**63 - 4096))
    group.sample()  # came between the kill and the question
    assert group.facts() == OomFacts(before=3, now=4, limit_bytes=None, used_bytes=900)
    group.sample()
    assert group.facts() == OomFacts(before=4, now=4, limit_bytes=None, used_bytes=900)


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n3:memory:/a\n")
    for membership in (tmp_path / "cgroup", tmp_path / "missing"):
        group = MemoryGroup(membership, tmp_path / "nowhere")
        group.sample()
        assert group.facts() is None


def test_the_real_ones_can_be_read() -> None:
    group = MemoryGroup()
    group.sample()
    facts = group.facts()
    assert facts is None or facts.now >= facts.before >= 0
