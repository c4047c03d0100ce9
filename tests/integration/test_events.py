"""What a pool tells of itself: events, and snapshots."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from remotemedia import events
from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.exceptions import WorkerDied
from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import Gate
from tests.nodes import Add


async def test_the_life_of_a_pool(loop_kind: str) -> None:
    pool = WorkerPool([Add(1, name="a"), Add(2, name="b"), Add(3, name="c", executor="inline")])
    heard, called = pool.events(), []

    def broken(event: events.Event) -> None:
        called.append(type(event))
        raise RuntimeError("a sink that fails")

    pool.on_event(broken)
    async with pool:
        pids = [worker.pid for worker in pool.snapshot().workers]
        assert await pool.process(0) == 6
    found = [event async for event in heard]
    for kind in (events.Started, events.Ready):
        assert {(e.node, e.worker_id, e.pid) for e in found if type(e) is kind} == {
            ("a", 0, pids[0]),
            ("b", 1, pids[1]),
        }
    assert [type(event) for event in found] == called
    assert type(found[-1]) is events.Closed
    assert len(found) == 5
    assert [event.time_s for event in found] == sorted(event.time_s for event in found)


async def test_a_death_is_told() -> None:
    config = PoolConfig(restart=RestartPolicy.never())
    async with WorkerPool([Add(1), Add(2, name="victim")], config=config) as pool:
        heard = pool.events()
        pid = pool.snapshot().workers[1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        event = await anext(heard)
        assert isinstance(event, events.Died)
        assert (event.node, event.pid) == ("victim", pid)
        assert "SIGKILL" in event.reason
        with pytest.raises(WorkerDied):
            await pool.process(1)


@pytest.mark.parametrize("place", ["multiprocess", "inline"])
async def test_a_snapshot_shows_where_inputs_queue(place: str, tmp_path: Path) -> None:
    """Before a stage that is at work on one input."""
    os.mkfifo(tmp_path / "x")
    async with WorkerPool([Add("", name="first", executor=place), Gate(str(tmp_path))]) as pool:
        assert await pool.process("") == ""
        assert pool.snapshot(memory=False).workers[0].fps > 0
        calls = [asyncio.ensure_future(pool.process("x")), *(asyncio.ensure_future(pool.process("")) for _ in range(5))]
        waits = tmp_path / "x.waits"
        while not (waits.exists() and pool.snapshot(memory=False).workers[1].queue == 5):  # noqa: ASYNC110
            await asyncio.sleep(0)
        first, gate = pool.snapshot().workers
        assert (first.queue, first.frames, gate.frames) == (0, 7, 1)
        assert (gate.restarts, gate.generation, gate.drops) == (0, 0, 0)
        assert gate.pss_bytes is not None
        assert gate.pss_bytes > 1 << 20
        assert gate.cpu_percent >= 0
        assert (first.pss_bytes is None) == (place == "inline")
        await asyncio.to_thread((tmp_path / "x").write_bytes, b"")
        results: list[Any] = await asyncio.gather(*calls)
        assert results == ["x", *[""] * 5]
        assert [worker.queue for worker in pool.snapshot().workers] == [0, 0]


def test_an_event_says_in_words_what_has_happened() -> None:
    assert events.Died().words == "died"
    assert events.FrameSkipped(frame=3).words == "frame skipped"
