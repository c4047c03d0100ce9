"""The pool's timer, with workers that show what a test wants them to show, and processes that are real."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from remotemedia.config import Timeouts, WorkerLimits
from remotemedia.core.exceptions import WorkerIdentity
from remotemedia.workers import rounds
from remotemedia.workers.diagnose import Hang, MemoryGroup
from remotemedia.workers.rounds import Notice, Rounds
from remotemedia.workers.watch import Signs, Watch

HASTY = Timeouts(heartbeat_s=0.02, unresponsive_warn_s=0.1, unresponsive_s=0.3)
NO_LIMITS = WorkerLimits()


class FakeWorker:
    """Shows the signs it is told to show."""

    def __init__(self, pid: int, limits: WorkerLimits, timeouts: Timeouts) -> None:
        self.worker_id, self.pid, self.limits = 3, pid, limits
        self.own_bytes: int | None = None
        self.told: set[str] = set()
        self.frames = 0
        self.frame: int | None = None
        self.beats_by_itself = True
        self.beats = 0
        self.watch: Watch | None = Watch(timeouts, self.signs(), asyncio.get_running_loop().time())
        self.stacks = 0
        self.hangs: list[Hang] = []

    @property
    def identity(self) -> WorkerIdentity:
        return WorkerIdentity(node="cam", worker_id=3, pid=self.pid)

    def signs(self) -> Signs:
        self.beats += self.beats_by_itself
        return Signs(self.beats, self.frame, self.frames, waits=False)

    def dump_stacks(self, *, tell: bool = False) -> bool:
        self.stacks += tell
        return True

    def give_up(self, hang: Hang) -> None:
        self.hangs.append(hang)
        self.watch = None


class Scene:
    """Rounds over one worker, and what they told."""

    def __init__(self, pid: int, timeouts: Timeouts, limits: WorkerLimits) -> None:
        self.worker = FakeWorker(pid, limits, timeouts)
        self.notices: list[Notice] = []
        self.limits: list[tuple[int, str]] = []
        self.rounds = Rounds(
            lambda: [self.worker],
            timeouts,
            MemoryGroup(),
            asyncio.get_running_loop(),
            on_notice=self.notices.append,
            on_limit=lambda *told: self.limits.append(told),
            on_round=lambda: None,
        )

    @property
    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():  # noqa: ASYNC110 - what it waits for is no event of anybody's
            await asyncio.sleep(0.005)


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def zombie() -> Iterator[int]:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def block(seconds: float) -> None:
    time.sleep(seconds)


MakeScene = Callable[..., Scene]


@pytest.fixture
async def scene(sleeper: int) -> AsyncIterator[MakeScene]:
    scenes: list[Scene] = []

    def make(timeouts: Timeouts = HASTY, limits: WorkerLimits = NO_LIMITS, pid: int = sleeper) -> Scene:
        scenes.append(Scene(pid, timeouts, limits))
        return scenes[-1]

    yield make
    for made in scenes:
        made.rounds.close()
        made.rounds.close()


async def test_a_silent_worker_is_told_of_then_given_up(scene: MakeScene, loop_kind: str) -> None:
    made = scene()
    made.worker.beats_by_itself = False
    await made.until(lambda: made.worker.hangs)
    assert made.kinds == ["stalled"]
    assert made.worker.stacks == 1
    (hang,) = made.worker.hangs
    assert (hang.process_state, hang.frame) == ("S", None)
    assert hang.waited_s >= HASTY.unresponsive_s
    assert "GIL" in hang.explanation
    (stalled,) = made.notices
    assert stalled.worker == made.worker.identity
    assert stalled.figures["process_state"] == "S"


async def test_a_stopped_worker_is_not_asked_for_its_stacks_and_may_come_back(scene: MakeScene, sleeper: int) -> None:
    made = scene(Timeouts(heartbeat_s=0.02, unresponsive_warn_s=0.1))
    stop(sleeper)
    made.worker.beats_by_itself = False
    await made.until(lambda: made.kinds == ["stalled"])
    assert "process state T: stopped" in made.notices[0].text
    made.worker.beats_by_itself = True
    await made.until(lambda: made.kinds == ["stalled", "recovered"])
    assert (made.worker.stacks, made.worker.hangs) == (0, [])


async def test_a_process_that_has_just_ended_is_left_to_its_supervisor(scene: MakeScene, zombie: int) -> None:
    made = scene(pid=zombie)
    made.worker.beats_by_itself = False
    watch = made.worker.watch
    assert watch is not None
    await made.until(lambda: watch.silent_s > HASTY.unresponsive_s * 2)
    assert (made.notices, made.worker.hangs) == ([], [])


async def test_a_frame_that_takes_too_long(scene: MakeScene) -> None:
    made = scene(Timeouts(frame_timeout_s=0.1))
    made.worker.frame = 17
    await made.until(lambda: made.worker.hangs)
    (hang,) = made.worker.hangs
    assert hang.frame == 17
    assert hang.waited_s >= 0.1
    assert made.notices == []


async def test_a_slow_frame_is_told_of_with_its_stacks_and_goes_on(scene: MakeScene) -> None:
    made = scene(Timeouts(frame_warn_s=0.1))
    made.worker.frame = 17
    await made.until(lambda: made.notices)
    made.worker.frame = 18
    await made.until(lambda: len(made.notices) > 1)
    assert made.kinds == ["slow", "slow"]
    assert "working on frame 17 for" in made.notices[0].text
    assert "working on frame 18 for" in made.notices[1].text
    assert made.notices[0].figures["silent_s"] >= 0.1
    assert (made.worker.stacks, made.worker.hangs) == (2, [])


async def test_a_loop_that_was_blocked_is_told_of_once_and_nobody_is_given_up(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_BLOCKED_S", 0.2)
    made = scene(Timeouts(heartbeat_s=0.02, unresponsive_warn_s=0.1, unresponsive_s=0.6))
    made.worker.beats_by_itself = False
    for count in range(3):
        made.worker.beats += 1
        await made.until(lambda: made.worker.watch is not None and made.worker.watch.silent_s > 0)
        block(0.8)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert made.worker.hangs == [], count
    (notice,) = [notice for notice in made.notices if notice.kind == "loop_blocked"]
    assert notice.figures["blocked_s"] > 0.2
    await made.until(lambda: made.worker.hangs)  # the grace is one period, not for ever


async def test_the_number_of_frames_is_told_of_once(scene: MakeScene) -> None:
    made = scene(limits=WorkerLimits(max_frames_per_worker=10))
    made.worker.frames = 9
    first = made.worker.beats
    await made.until(lambda: made.worker.beats > first + 3)
    assert made.limits == []
    made.worker.frames = 12
    await made.until(lambda: made.limits)
    first = made.worker.beats
    await made.until(lambda: made.worker.beats > first + 3)
    assert made.limits == [(3, "has had 12 frames, max_frames_per_worker is 10")]
    assert made.kinds == ["limit_reached"]


async def test_memory_is_told_of_at_four_fifths_and_at_the_limit(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "SAMPLE_S", 0.02)
    sizes = iter([50, 80, 85, 100, 120, *[130] * 10_000])
    monkeypatch.setattr("remotemedia.workers.limits.memory_bytes", lambda pid: next(sizes) * 2**20)
    made = scene(limits=WorkerLimits(memory_limit_bytes=100 * 2**20))
    await made.until(lambda: made.limits)
    before = made.worker.beats
    await made.until(lambda: made.worker.beats > before + 3)
    assert made.kinds == ["memory_high", "limit_reached"]
    assert made.notices[0].figures["pss_bytes"] == 80 * 2**20
    assert made.limits == [(3, "uses 100.0 MiB of memory (PSS), memory_limit_bytes is 100.0 MiB")]
    assert made.worker.own_bytes is not None


async def test_a_worker_that_is_not_ready_is_left_alone(scene: MakeScene) -> None:
    made = scene(limits=WorkerLimits(max_frames_per_worker=1))
    made.worker.watch = None
    made.worker.frames, made.worker.beats_by_itself = 5, False
    loop = asyncio.get_running_loop()
    end = loop.time() + HASTY.unresponsive_s * 2
    await made.until(lambda: loop.time() > end)
    assert (made.notices, made.limits, made.worker.hangs) == ([], [], [])
