"""A short chaos run, and that the run notices what it is there to notice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remotemedia.config import PoolConfig, RestartPolicy, Timeouts
from remotemedia.core.exceptions import NodeError
from remotemedia.testing import chaos, chaos_nodes
from remotemedia.testing.chaos import Chaos, Result, report, run
from remotemedia.testing.comparison import Trace


@pytest.mark.timeout(180)
async def test_a_pool_whose_workers_are_killed_gives_what_an_undisturbed_run_gives() -> None:
    result = await run(Chaos(seed=1, seconds=5.0))
    assert result.held, report(result)
    assert sum(result.deaths.values()) > 0
    assert sum(worker.generation for worker in result.workers) > 0


async def test_without_blows_nothing_is_noticed() -> None:
    result = await run(Chaos(seed=2, frames=100, every_s=3600.0, largest_bytes=10_000))
    assert result.held, report(result)
    assert (result.frames, len(result.outputs)) == (100, 301)
    assert 0 < result.peak_bytes <= result.budget_bytes
    assert "held: every output once, in order, bit for bit" in report(result)


def altered(how: str, outputs: list[Trace]) -> list[Trace]:
    if how == "lost":
        return outputs[:50] + outputs[51:]
    if how == "twice":
        return outputs[:50] + outputs[49:]
    if how == "swapped":
        return [*outputs[:50], outputs[51], outputs[50], *outputs[52:]]
    return [*outputs[:50], Trace(outputs[50].label, bytes(16)), *outputs[51:]]


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("lost", "missing: 1 outputs"),
        ("twice", "delivered more often than once: 1 outputs"),
        ("swapped", "in another order"),
        ("bits", "with other bits: 1 outputs"),
    ],
)
async def test_one_wrong_output_is_noticed(how: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def disturbed(settings: Chaos, result: Result, _: Any) -> None:
        result.frames = settings.frames or 0
        result.outputs = altered(how, await chaos._undisturbed(settings, result.frames))

    monkeypatch.setattr(chaos, "_disturbed", disturbed)
    result = await run(Chaos(seed=3, frames=60, largest_bytes=1000))
    assert not result.held
    assert complaint in report(result)
    assert "first difference at output 50" in report(result)


async def test_a_pool_that_stands_still_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(chaos_nodes.Tally):
        async def process(self, data: Any) -> Any:
            await asyncio.Event().wait()

    config = PoolConfig(restart=RestartPolicy(), timeouts=Timeouts(stop_s=0.5))
    monkeypatch.setattr(Chaos, "config", lambda _: config)
    monkeypatch.setattr(chaos_nodes, "Tally", Stuck)
    monkeypatch.setattr(chaos, "_undisturbed", lambda *_: nothing())
    result = await run(Chaos(seed=4, frames=60, every_s=3600.0, stall_s=0.5, largest_bytes=1000))
    assert not result.held
    assert "FAILED: no output for 0.5 s" in report(result)


async def nothing() -> list[Trace]:
    return []


async def test_a_pool_that_fails_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def disturbed(settings: Chaos, result: Result, _: Any) -> None:
        result.frames = settings.frames or 0
        result.outputs = (await chaos._undisturbed(settings, result.frames))[:10]
        raise NodeError("tally", "broken")

    monkeypatch.setattr(chaos, "_disturbed", disturbed)
    result = await run(Chaos(seed=5, frames=60, largest_bytes=1000))
    assert not result.held
    assert "FAILED: NodeError" in report(result)
    assert "only the first 10 of 181 outputs came; those were right" in report(result)
