"""A worker is killed while it has nothing to do."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from fault_nodes import AsyncPass, Pass
from fault_tools import NO_RESTART, Place, check_fields, soon, until

from remotemedia.core.exceptions import PoolClosed, WorkerDied
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool


async def until_broken(pool: WorkerPool) -> WorkerDied:
    """Waits until the pool knows of the death; the error that everybody gets from then on."""

    async def poll() -> WorkerDied:
        while True:
            try:
                await pool.process(0)
            except WorkerDied as error:
                return error

    return await asyncio.wait_for(poll(), 30)


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_every_caller_gets_the_death_of_an_idle_worker(victim: int, place: Place, loop_kind: str) -> None:
    async with WorkerPool([Pass(name="a"), AsyncPass(name="b"), Pass(name="c")], config=NO_RESTART) as pool:
        assert await pool.process(1) == 1
        worker = pool.snapshot().workers[victim]
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        error = await until_broken(pool)
        check_fields(error, worker.node, victim, [worker.pid])
        assert (error.signal, error.exit_code) == ("SIGKILL", None)
        assert error.likely_cause
        assert error.suggestion
        assert error.story[0] == "spawned"
        assert "exited (SIGKILL)" in error.story
        with pytest.raises(WorkerDied) as again:
            await pool.process(2)
        assert again.value is error
    with pytest.raises(PoolClosed):
        await pool.process(3)


async def test_an_idle_worker_was_working_on_no_frame(place: Place) -> None:
    async with WorkerPool([Pass(name="only")], config=NO_RESTART) as pool:
        assert await pool.process(1) == 1
        stream = pool.stream(waits_for_ever())
        waiting = asyncio.ensure_future(anext(stream))
        await until_idle(pool)
        os.kill(pool.snapshot().workers[0].pid or 0, signal.SIGKILL)
        with pytest.raises(WorkerDied) as caught:
            await asyncio.wait_for(waiting, 30)
        assert caught.value.frame is None
        assert "no frame was being processed" in str(caught.value)


async def until_idle(pool: WorkerPool) -> None:
    """Until the first worker has said on its board, in shared memory, that it is between frames."""
    parts = pool._parts
    assert parts is not None
    await soon(lambda: parts.fabric.boards[0].frame is None, "the first worker to be idle")


async def waits_for_ever():
    await asyncio.get_running_loop().create_future()
    yield 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGRTMIN + 1])
async def test_the_signal_is_named(number: int, place: Place) -> None:
    async with WorkerPool([Pass(name="only")], config=NO_RESTART) as pool:
        os.kill(pool.snapshot().workers[0].pid or 0, number)
        error = await until_broken(pool)
        name = signal.Signals(number).name if number < signal.SIGRTMIN else "SIGRTMIN+1"
        assert error.signal == name
        assert name in str(error)


async def test_all_workers_killed_at_once(place: Place) -> None:
    nodes: list[Node] = [Pass(name=f"n{i}") for i in range(4)]
    async with WorkerPool(nodes, config=NO_RESTART) as pool:
        pids = [worker.pid or 0 for worker in pool.snapshot().workers]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        error = await until_broken(pool)
        assert error.pid in pids
    until(lambda: not place.processes(), "no worker")


async def test_a_stopped_process_that_is_killed(place: Place) -> None:
    async with WorkerPool([Pass(name="only")], config=NO_RESTART) as pool:
        pid = pool.snapshot().workers[0].pid or 0
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        assert (await until_broken(pool)).signal == "SIGKILL"
