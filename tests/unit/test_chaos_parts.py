"""The parts of the chaos run and the soak: do they see what they are there to see?"""

from __future__ import annotations

import asyncio
import io
import mmap
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from remotemedia.config import ChannelConfig
from remotemedia.ipc.budget import least_bytes, most_bytes
from remotemedia.testing import chaos_nodes
from remotemedia.testing.comparison import Trace, differences, digest
from remotemedia.testing.gauges import Gauges, trend, trends
from remotemedia.testing.killer import FREEZE, KILL, PAUSE, SEGV, Blow, Killer, blows
from remotemedia.testing.meter import Meter, table

# -- frames and nodes --------------------------------------------------------------------------------------------------


def test_frames_are_the_same_in_every_run_and_say_their_number() -> None:
    frames = [chaos_nodes.frame(3, number) for number in range(300)]
    again = [chaos_nodes.frame(3, number) for number in range(300)]
    assert [digest(frame) for frame in frames] == [digest(frame) for frame in again]
    assert len({digest(frame) for frame in frames}) == 300
    assert [chaos_nodes.label(frame) for frame in frames] == [(number, 0) for number in range(300)]
    assert digest(chaos_nodes.frame(4, 0)) != digest(frames[0])


def test_frames_are_of_every_kind_and_size() -> None:
    frames = [chaos_nodes.frame(3, number) for number in range(300)]
    assert {type(frame) for frame in frames} == {np.ndarray, dict, bytes}
    arrays = [frame for frame in frames if isinstance(frame, np.ndarray)]
    assert len({array.dtype for array in arrays}) == 8
    assert {array.ndim for array in arrays} == {1, 2}
    sizes = [array.nbytes for array in arrays]
    assert min(sizes) < 128
    assert 500_000 < max(sizes) <= chaos_nodes.LARGEST_BYTES


def test_a_lost_frame_or_a_double_one_changes_every_output_after_it() -> None:
    def checks(numbers: list[int]) -> list[int]:
        seal = chaos_nodes.Seal()
        return [seal.process(chaos_nodes.frame(1, number))[2] for number in numbers]

    right = checks([0, 1, 2, 3, 4])
    assert checks([0, 1, 3, 4])[2:] != right[3:]
    assert checks([0, 1, 2, 2, 3, 4])[4:] != right[3:]
    assert checks([0, 2, 1, 3, 4])[3:] != right[3:]


def test_state_goes_into_a_snapshot_and_comes_back() -> None:
    first, second = chaos_nodes.Tally(), chaos_nodes.Tally()
    for number in range(5):
        first.process(chaos_nodes.frame(1, number))
    second.restore_state(memoryview(first.snapshot_state()))
    assert first.process(b"x" * 64) == second.process(b"x" * 64)


# -- comparison --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(4, "f4"), np.array([0, 0, 0, -0.0], "f4")),
        (np.zeros(4, "f4"), np.zeros(2, "f8")),
        (np.zeros((2, 2), "f4"), np.zeros(4, "f4")),
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([1], (1,)),
        (b"1", "1"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_a_digest_tells_bits_types_shapes_and_order_apart(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)
    assert digest(one) == digest(one)


def traces(text: str) -> list[Trace]:
    """A letter is a label, an upper case one the same label with another digest."""
    return [Trace(letter.lower(), letter.encode()) for letter in text]


@pytest.mark.parametrize(
    ("got", "lines"),
    [
        ("abcde", []),
        ("abde", ["missing: 1 outputs, the first c", "first difference at output 2"]),
        ("abcd", ["missing: 1 outputs, the first e", "first difference at output 4: expected e (65), got nothing"]),
        ("abccde", ["delivered more often than once: 1 outputs, the first c", "first difference at output 3"]),
        ("abdce", ["all outputs are there, in another order", "first difference at output 2"]),
        ("abCde", ["with other bits: 1 outputs, the first c", "first difference at output 2"]),
    ],
)
def test_the_comparison_says_what_differs(got: str, lines: list[str]) -> None:
    found = differences(traces("abcde"), traces(got))
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


# -- killer ------------------------------------------------------------------------------------------------------------


def test_the_script_of_a_seed_is_always_the_same_and_has_everything_in_it() -> None:
    script = list(islice(blows(5, 4), 300))
    assert script == list(islice(blows(5, 4), 300))
    assert script != list(islice(blows(6, 4), 300))
    assert {blow.kind for blow in script} == {KILL, SEGV, PAUSE, FREEZE}
    assert {blow.victims for blow in script} == {1, 2, 99}
    first = Counter(min(range(4), key=blow.order.__getitem__) for blow in script)
    assert min(first[worker] for worker in range(4)) > 40  # nobody is spared


class FakePool:
    """Processes that sleep, as a pool's snapshot shows its workers."""

    def __init__(self, states: list[str]) -> None:
        self.processes = [subprocess.Popen(["sleep", "1000"]) for _ in states]
        self.states = states

    def snapshot(self) -> Any:
        workers = [
            SimpleNamespace(node=f"n{i}", worker_id=i, pid=process.pid, state=state)
            for i, (process, state) in enumerate(zip(self.processes, self.states, strict=True))
        ]
        return SimpleNamespace(workers=workers)


@pytest.fixture
def pool() -> Iterator[FakePool]:
    fake = FakePool(["ready", "loading", "ready"])
    yield fake
    for process in fake.processes:
        process.kill()
        process.wait(30)


def blow(kind: str, victims: int = 1, standstill_s: float = 0.0) -> Blow:
    return Blow(kind=kind, victims=victims, order=(0.5, 0.1, 0.9), standstill_s=standstill_s)


async def test_only_workers_that_are_ready_are_hit_and_none_twice(pool: FakePool) -> None:
    killer = Killer(pool, 0, 1.0)
    killer.strike(blow(KILL))
    assert pool.processes[0].wait(30) == -signal.SIGKILL
    killer.strike(blow(SEGV))
    assert pool.processes[2].wait(30) == -signal.SIGSEGV
    killer.strike(blow(KILL))
    assert (killer.missed, killer.deaths) == (1, Counter(n0=1, n2=1))
    assert killer.dealt == Counter({("n0", KILL): 1, ("n2", SEGV): 1})
    assert pool.processes[1].poll() is None


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.01)


async def until_state(pid: int, state: str) -> None:
    await until(lambda: state_of(pid) == state)


async def test_a_frozen_worker_is_killed_and_a_paused_one_goes_on(pool: FakePool) -> None:
    killer = Killer(pool, 0, 1.0)
    killer.strike(blow(FREEZE))
    await until(lambda: pool.processes[0].poll() is not None)
    assert pool.processes[0].returncode == -signal.SIGKILL
    # Long enough for it to stop: a SIGCONT that comes before takes the SIGSTOP back.
    killer.strike(blow(PAUSE, standstill_s=1.0))
    await until(lambda: os.waitid(os.P_PID, pool.processes[2].pid, os.WCONTINUED | os.WNOHANG) is not None)
    assert killer.deaths == Counter(n0=1)


async def test_a_paused_worker_dies_of_the_crash_that_comes_meanwhile(pool: FakePool) -> None:
    killer = Killer(pool, 0, 1.0)
    killer.strike(blow(PAUSE, standstill_s=3600.0))
    await until_state(pool.processes[0].pid, "T")
    killer.strike(blow(SEGV))
    await until(lambda: pool.processes[0].poll() is not None)
    assert pool.processes[0].returncode == -signal.SIGSEGV
    for waker in killer._wakers:
        waker.cancel()


async def test_a_killer_that_is_called_off_leaves_nobody_stopped(pool: FakePool) -> None:
    killer = Killer(pool, 0, 3600.0)
    running = asyncio.ensure_future(killer.run())
    await asyncio.sleep(0)
    killer.strike(blow(PAUSE, victims=99, standstill_s=3600.0))
    killer.strike(blow(FREEZE, victims=99, standstill_s=3600.0))
    await until_state(pool.processes[0].pid, "T")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until_state(pool.processes[0].pid, "S")
    await until_state(pool.processes[2].pid, "S")
    assert not killer.deaths


# -- gauges ------------------------------------------------------------------------------------------------------------


def test_a_trend_is_the_line_through_the_readings() -> None:
    grows = trend("x", [0, 1, 2, 3], [10, 12, 14, 16], tolerance=5)
    assert (grows.first, grows.slope, grows.growth) == (10, 2, 6)
    assert (grows.verdict, grows.is_flat) == ("growing", False)
    noisy = trend("x", [5, 6, 7, 8], [1, -1, -1, 1], tolerance=0.5)
    assert (noisy.slope, noisy.verdict) == (0, "flat")
    assert trend("x", [0, 10], [100, 0], tolerance=0).is_flat  # what shrinks leaks nothing
    with pytest.raises(ValueError, match="two places"):
        trend("x", [1, 1], [1, 2], tolerance=1)


def test_gauges_notice_what_is_taken(tmp_path: Path) -> None:
    before = Gauges.read()
    files = [(tmp_path / str(i)).open("w") for i in range(5)]
    # An array could get memory that the process has already.
    memory = mmap.mmap(-1, 30_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(memory, np.uint8)[:] = 1
    child = subprocess.Popen(["sleep", "1000"])
    try:
        during = Gauges.read()
    finally:
        child.kill()
        child.wait(30)
        for file in files:
            file.close()
    assert during.descriptors == before.descriptors + 5
    assert during.children == before.children + 1
    assert during.own_pss > before.own_pss + len(memory) * 0.9
    assert during.tree_pss >= during.own_pss
    lines = {line.name: line for line in trends([0, 1], [before, during], {"descriptors": 2, "children": 2})}
    assert (lines["descriptors"].verdict, lines["children"].verdict) == ("growing", "flat")


def test_the_most_that_channels_take() -> None:
    config = ChannelConfig(queue_frames=4, slot_bytes=65536)
    small = most_bytes(config, [1], 1000, retain=False)
    assert small > least_bytes(config, [1], retain=False)
    assert most_bytes(config, [1, 1], 1000, retain=False) == 2 * small
    assert most_bytes(config, [1], 1 << 20, retain=False) > 14 * (1 << 20)  # 4 + 8 + 2 slots, each with such a frame
    assert most_bytes(config, [1], 1 << 20, retain=True) > 2 * most_bytes(config, [1], 1 << 20, retain=False)
    limited = ChannelConfig(queue_frames=4, slot_bytes=65536, max_frame_bytes=65536)
    assert most_bytes(limited, [1], 1 << 30, retain=False) == most_bytes(config, [1], 65536, retain=False)


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_tables_are_aligned() -> None:
    assert table([("node", "n"), ("a", 100), ("long name", 7)]) == (
        "node         n\na          100\nlong name    7"
    )


def test_a_meter_without_a_terminal_writes_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("remotemedia.testing.meter.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Meter("run", 10, stream) as meter:
        for step in range(5):
            now[0] = step * 0.4
            meter.show(step, f"{step} done")
    assert stream.getvalue() == "run  30%  3 done\n"


def test_a_meter_on_a_terminal_draws_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Meter("run", 10, stream) as meter:
        meter.show(5, "half done")
    assert "half done" in stream.getvalue()
    assert "━" in stream.getvalue()
