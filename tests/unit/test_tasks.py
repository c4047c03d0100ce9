"""A task that must come to its end does, whatever happens to those who wait for it."""

from __future__ import annotations

import asyncio

import pytest

from remotemedia.workers.tasks import finish


async def wait_for(gate: asyncio.Event, error: Exception | None = None) -> str:
    await gate.wait()
    if error is not None:
        raise error
    return "done"


async def test_result_and_error_are_those_of_the_task() -> None:
    gate = asyncio.Event()
    good, bad = asyncio.ensure_future(wait_for(gate)), asyncio.ensure_future(wait_for(gate, OSError("no")))
    waiting = [asyncio.ensure_future(finish(task)) for task in (good, good, bad)]
    gate.set()
    assert [await waiting[0], await waiting[1], await finish(good)] == ["done"] * 3
    with pytest.raises(OSError, match="no"):
        await waiting[2]


@pytest.mark.parametrize("error", [None, OSError("no")])
async def test_a_cancellation_goes_on_when_the_task_has_ended(error: Exception | None) -> None:
    gate = asyncio.Event()
    task = asyncio.ensure_future(wait_for(gate, error))
    waiting = asyncio.ensure_future(finish(task))
    for _ in range(3):
        await asyncio.wait([waiting], timeout=0.01)
        waiting.cancel()
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert caught.value.__cause__ is error
    assert task.done()


async def test_a_task_that_is_cancelled_itself_has_ended() -> None:
    task = asyncio.ensure_future(wait_for(asyncio.Event()))
    waiting = asyncio.ensure_future(finish(task))
    await asyncio.wait([waiting], timeout=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
