"""A node that leaks: a warning at four fifths of its limit, and at the limit it is to be replaced, once."""

from __future__ import annotations

from typing import Any

import pytest
from fault_nodes import Pass
from fault_tools import Place, soon
from watching import pid_of, supervisor_of, told

from remotemedia.config import MIB, PoolConfig, WorkerLimits
from remotemedia.workers import rounds
from remotemedia.workers.diagnose import memory_bytes
from remotemedia.workers.pool import WorkerPool

STEP = 10 * MIB


class Leaks(Pass):
    """Keeps 10 MiB for each frame."""

    def initialize(self) -> None:
        self.kept: list[bytes] = []

    def process(self, data: Any) -> Any:
        self.kept.append(b"x" * STEP)
        return data


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Which worker was to be replaced, and why."""
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr(WorkerPool, "_on_limit", lambda pool, worker_id, reason: asked.append((worker_id, reason)))
    return asked


async def test_it_is_warned_of_and_then_replaced(
    place: Place, asked: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounds, "SAMPLE_S", 0.05)
    limit = 300 * MIB
    limits = {"leaks": WorkerLimits(memory_limit_bytes=limit)}
    async with WorkerPool([Pass(), Leaks(name="leaks")], config=PoolConfig(limits=limits)) as pool:
        pid = pid_of(pool, 1)

        async def grow(to: float) -> None:
            while (memory_bytes(pid) or 0) < to:
                assert await pool.process(1) == 1

        await grow(0.85 * limit)
        await soon(lambda: told(caplog), "a warning")
        (warning,) = told(caplog)
        assert "'leaks'" in warning
        assert "memory_limit_bytes is 300.0 MiB" in warning
        assert asked == []
        await grow(limit)
        await soon(lambda: asked, "the wish to replace it")
        await grow(limit + 3 * STEP)
        ((worker_id, reason),) = asked
        assert worker_id == 1
        assert "MiB of memory (PSS), memory_limit_bytes is 300.0 MiB" in reason
        assert len(told(caplog)) == 2


async def test_a_worker_that_has_had_its_frames_is_replaced(place: Place, asked: list[tuple[int, str]]) -> None:
    limits = {"few": WorkerLimits(max_frames_per_worker=20)}
    async with WorkerPool([Pass(name="many"), Pass(name="few")], config=PoolConfig(limits=limits)) as pool:
        supervisor = supervisor_of(pool, 1)
        assert [output async for output in pool.stream(range(19))] == list(range(19))
        watch = supervisor.watch
        assert watch is not None
        await soon(lambda: watch._signs.calls == 19, "a look at it")
        assert (supervisor.frames, asked) == (19, [])
        assert await pool.process(1) == 1
        await soon(lambda: asked, "the wish to replace it")
    assert asked == [(1, "has had 20 frames, max_frames_per_worker is 20")]
