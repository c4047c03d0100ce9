"""Stopping workers that do not want to, and the order in which they clean up."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fault_nodes import (
    Action,
    AsyncPass,
    Diary,
    Faulty,
    FaultyCoroutine,
    Pass,
    WithHelper,
    exit_3,
    hang_for_ever,
    hang_in_python,
    hang_with_the_gil,
    kill,
    value_error,
)
from fault_tools import NO_RESTART, Place, chain, is_running, soon, until

from remotemedia.config import PoolConfig, Timeouts
from remotemedia.core.exceptions import RemoteMediaError
from remotemedia.testing.leaks import Snapshot
from remotemedia.workers.pool import WorkerPool

IMPATIENT = PoolConfig(timeouts=Timeouts(stop_s=0.5))


@pytest.mark.parametrize("action", [hang_for_ever, hang_in_python, hang_with_the_gil])
async def test_a_hang_in_cleanup_is_killed_and_said(
    action: Action, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool(chain(Faulty(action, phase="cleanup"), 1), config=IMPATIENT) as pool:
        assert await pool.process(1) == 1
    assert pool.snapshot().workers[1].state == "exited"
    text = "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    assert "'faulty'" in text
    assert "was killed" in text
    assert f"in {action.__name__}" in text  # where it hung


async def test_a_hang_in_process_is_killed_when_the_pool_closes(place: Place, tmp_path: Path) -> None:
    pool = WorkerPool([Faulty(hang_for_ever, at=1)], config=IMPATIENT)
    await pool.start()
    call = asyncio.ensure_future(pool.process(1))
    await until_working(pool)
    await pool.aclose()
    with pytest.raises(RemoteMediaError):
        await call


async def until_working(pool: WorkerPool) -> None:
    """Until the first worker has begun a frame; told by its board, in shared memory."""
    parts = pool._parts
    assert parts is not None
    await soon(lambda: parts.fabric.boards[0].frame is not None, "the first worker to work")


def ignore_all_polite_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    hang_for_ever()


async def test_ignored_signals_do_not_help_it(place: Place) -> None:
    async with WorkerPool([Faulty(ignore_all_polite_signals, phase="cleanup")], config=IMPATIENT) as pool:
        assert await pool.process(1) == 1


async def test_a_worker_that_is_stopped_by_a_signal_is_closed_all_the_same(place: Place) -> None:
    async with WorkerPool([Pass()], config=IMPATIENT) as pool:
        assert await pool.process(1) == 1
        os.kill(pool.snapshot().workers[0].pid or 0, signal.SIGSTOP)


@pytest.mark.parametrize("kind", [Faulty, FaultyCoroutine])
async def test_cleanup_that_raises_is_reported_and_hides_nothing(kind: type[Faulty], place: Place) -> None:
    nodes = [Pass(), kind(value_error, phase="cleanup"), Faulty(value_error, "cleanup", name="in")]
    pool = WorkerPool(nodes, places=("multiprocess", "multiprocess", "inline"))
    async with pool:
        assert await pool.process(1) == 1
    assert sorted(error.node for error in pool.cleanup_errors) == ["faulty", "in"]
    assert all("not this one" in str(error) for error in pool.cleanup_errors)
    with pytest.raises(KeyError):
        async with WorkerPool([Faulty(value_error, phase="cleanup")]):
            raise KeyError("the caller's own")


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def speechless_error() -> None:
    raise SpeechlessError


async def test_cleanup_that_raises_what_cannot_be_told(place: Place) -> None:
    async with WorkerPool([Faulty(speechless_error, phase="cleanup")]) as pool:
        assert await pool.process(1) == 1
    (error,) = pool.cleanup_errors
    assert "SpeechlessError" in str(error)


@pytest.mark.parametrize("action", [kill, exit_3])
async def test_a_death_in_cleanup(action: Action, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async with WorkerPool([Faulty(action, phase="cleanup")]) as pool:
        assert await pool.process(1) == 1
    assert any("'faulty'" in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


@pytest.mark.parametrize("failing", [False, True])
async def test_every_node_is_cleaned_up_once(failing: bool, place: Place, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    nodes = [*(Diary(str(diary), name) for name in "abcd"), Faulty(value_error)]
    async with WorkerPool(nodes, places=("multiprocess", "inline") * 2 + ("multiprocess",)) as pool:
        outputs = pool.stream(range(5 if failing else 2))
        with pytest.raises(RemoteMediaError) if failing else nullcontext():
            assert [output async for output in outputs] == [0, 1]
    lines = diary.read_text().split("\n")[:-1]
    assert sorted(lines) == sorted(f"{name} {what}" for name in "abcd" for what in ("initialize", "cleanup"))
    inline = [line for line in lines if line[0] in "bd"]
    assert inline == ["b initialize", "d initialize", "d cleanup", "b cleanup"]


async def test_helpers_of_a_worker_go_with_it(place: Place) -> None:
    async with WorkerPool([WithHelper()]) as pool:
        helper = await pool.process(0)
        assert is_running(helper)
    until(lambda: not is_running(helper), "the helper to be gone")


async def test_helpers_of_a_killed_worker_go_with_it(place: Place) -> None:
    async with WorkerPool([WithHelper()], config=NO_RESTART) as pool:
        helper = await pool.process(0)
        os.kill(pool.snapshot().workers[0].pid or 0, signal.SIGKILL)
        until(lambda: not is_running(pool.snapshot().workers[0].pid or 0), "the worker to be gone")
        await asyncio.sleep(0)
    until(lambda: not is_running(helper), "the helper to be gone")


async def test_close_twice_and_from_many_tasks(place: Place, loop_kind: str) -> None:
    pool = WorkerPool([Pass(), AsyncPass()])
    await pool.start()
    await asyncio.gather(*(pool.aclose() for _ in range(5)))
    await pool.aclose()


async def test_close_while_calls_wait(place: Place) -> None:
    pool = WorkerPool([Pass(name="p"), Faulty(hang_for_ever, at=1)], config=IMPATIENT)
    await pool.start()
    calls: list[Any] = [asyncio.ensure_future(pool.process(1)) for _ in range(100)]
    await asyncio.sleep(0)
    await pool.aclose()
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
    assert {type(result).__name__ for result in results} == {"PoolClosed"}


async def test_close_needs_no_garbage_collector(place: Place) -> None:
    """For what it holds of the shared memory: descriptors and mappings."""

    async def use() -> None:
        async with WorkerPool([Pass(), AsyncPass()]) as pool:
            assert await pool.process(1) == 1
            assert [output async for output in pool.stream(range(3))] == [0, 1, 2]

    await use()
    gc.collect()
    gc.disable()
    try:
        before = Snapshot.take()
        await use()
        await soon(lambda: not any("/dev/shm/" in line for line in Snapshot.take().since(before)), "nothing is left")
    finally:
        gc.enable()
