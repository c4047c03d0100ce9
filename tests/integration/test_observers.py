"""Looking at a running pool from outside: snapshots, stacks of workers that answer and of those that hang, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import PoolClosed
from remotemedia.core.node import Node
from remotemedia.ipc.observer_client import ObserverClient
from remotemedia.ipc.observer_messages import Done, GetSnapshot, GetStacks, Refused, RestartWorker, StacksText
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.running import find_pools
from tests.nodes import Add


class Deep(Node):
    """Sleeps in a function whose name is to be found, until the file named by the input exists."""

    def process(self, path: str) -> str:
        self.wait_for_the_file(path)
        return path

    def wait_for_the_file(self, path: str) -> None:
        while not Path(path).exists():
            time.sleep(0.01)


def place_of(pool: WorkerPool):
    return next(place for place in find_pools() if pool._parts is not None and place.path == pool._parts.directory.path)


async def ask(pool: WorkerPool, *requests):
    def call():
        with ObserverClient(place_of(pool).observer_path, timeout_s=60) as client:
            return [client.call(request) for request in requests]

    return await asyncio.to_thread(call)


async def test_a_pool_is_found_and_tells_what_it_does(loop_kind):
    nodes = [Add(1, name="a"), Add(2, name="b", executor="inline"), Add(3, name="c")]
    async with WorkerPool(nodes) as pool:
        place = place_of(pool)
        assert place.alive
        files, nbytes = place.shared_memory()
        assert files > 0
        assert nbytes > 0
        for value in range(10):
            await pool.process(value)
        (view,) = await ask(pool, GetSnapshot())
        assert (view.pool_id, view.pid, view.state, view.sessions) == (place.pool_id, os.getpid(), "running", 0)
        assert view.uptime_s > 0
        assert [(w.node, w.state, w.frames, w.generation) for w in view.workers] == [
            ("a", "ready", 10, 0), ("b", "inline", 10, 0), ("c", "ready", 10, 0),
        ]  # fmt: skip
        ours = pool.snapshot(memory=False).workers
        assert [w.pid for w in view.workers] == [w.pid for w in ours]
        assert [w.event for w in view.workers] == ["ready", "", "ready"]
        assert all(w.pss_bytes is None for w in view.workers)
    assert place.pool_id not in [other.pool_id for other in find_pools()]


async def test_rates_are_since_the_last_look_of_the_same_observer():
    async with WorkerPool([Add(1, name="a")]) as pool:
        for value in range(50):
            await pool.process(value)

        def look():
            with ObserverClient(place_of(pool).observer_path) as client:
                first = client.call(GetSnapshot())
                asyncio.run_coroutine_threadsafe(pool.process(1), loop).result()
                second = client.call(GetSnapshot())
                return first.workers[0], second.workers[0]

        loop = asyncio.get_running_loop()
        first, second = await asyncio.to_thread(look)
        assert first.fps == 0.0  # nothing came since it began to look, though much before
        assert (first.frames, second.frames) == (50, 51)
        assert second.fps > 0
        assert pool.snapshot(memory=False).workers[0].fps > 0  # the pool's own look goes back to the start


async def test_a_restart_that_is_asked_for_loses_nothing():
    async with WorkerPool([Add(1, name="a"), Add(1, name="b", executor="inline")]) as pool:
        assert await pool.process(0) == 2
        done, inline, unknown = await ask(
            pool, RestartWorker(node="a"), RestartWorker(node="b"), RestartWorker(node="aa")
        )
        assert isinstance(done, Done)
        assert inline.reason == "the node 'b' has no worker that can be replaced"
        assert unknown.reason.startswith("there is no node 'aa' in this pool; ")
        assert await pool.process(1) == 3
        await pool._parts.slots[0].replaced()
        (view,) = await ask(pool, GetSnapshot())
        worker = view.workers[0]
        assert (worker.generation, worker.restarts) == (1, 1)
        assert worker.frames >= 2  # what was not out yet has been done again
        assert worker.event.startswith(("restarted", "ready"))


async def test_stacks_show_where_a_worker_is(tmp_path, loop_kind):
    async with WorkerPool([Deep(name="deep"), Add("", name="here", executor="inline")]) as pool:
        work = asyncio.ensure_future(pool.process(str(tmp_path / "go")))
        while pool._parts.fabric.boards[0].frame is None:  # noqa: ASYNC110 - a word in shared memory tells nobody
            await asyncio.sleep(0)
        stacks, here, unknown = await ask(pool, GetStacks(node="deep"), GetStacks(node="here"), GetStacks(node="no"))
        assert isinstance(stacks, StacksText)
        assert stacks.text.startswith("Thread MainThread:")
        assert "in wait_for_the_file" in stacks.text
        assert "remotemedia-control" not in stacks.text  # the thread that answers
        assert "in test_stacks_show_where_a_worker_is" in here.text or "Thread MainThread" in here.text
        assert isinstance(unknown, Refused)
        (tmp_path / "go").touch()
        assert await work == str(tmp_path / "go")


@pytest.mark.slow
async def test_stacks_of_a_stopped_worker_are_refused_with_the_reason():
    async with WorkerPool([Add(1, name="a")]) as pool:
        await pool.process(0)
        pid = pool.snapshot(memory=False).workers[0].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            first, second = await asyncio.gather(ask(pool, GetStacks(node="a")), ask(pool, GetStacks(node="a")))
        finally:
            os.kill(pid, signal.SIGCONT)
        for (reply,) in (first, second):
            assert isinstance(reply, Refused)
            assert "process state T: stopped by a signal" in reply.reason
        assert await pool.process(1) == 2


class HoldsTheGil(Node):
    """Keeps the GIL in native code for some seconds."""

    def process(self, pattern: str) -> bool:
        import re

        return re.fullmatch(r"(a|a)*b", pattern) is None  # exponential, and the matcher never gives the GIL back


@pytest.mark.slow
async def test_stacks_of_a_worker_that_holds_the_gil_come_by_signal():
    async with WorkerPool([HoldsTheGil(name="busy")], config=PoolConfig()) as pool:
        work = asyncio.ensure_future(pool.process("a" * 64))
        while pool._parts.fabric.boards[0].frame is None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        (reply,) = await ask(pool, GetStacks(node="busy"))
        assert isinstance(reply, StacksText)
        assert reply.text.startswith("The interpreter does not answer (process state R")
        assert "in process" in reply.text
        os.kill(pool.snapshot(memory=False).workers[0].pid, signal.SIGKILL)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_pool_that_is_closed_while_somebody_waits_ends_the_connection():
    async with WorkerPool([Add(1, name="a")]) as pool:
        client = ObserverClient(place_of(pool).observer_path)
        await asyncio.to_thread(client.call, GetSnapshot())
        client.ask(GetStacks(node="a"))
    with client, pytest.raises(PoolClosed):
        list(iter(client.receive, None))


def test_a_pool_in_a_thread_of_its_own_answers_while_nobody_calls_it():
    with WorkerPool([Add(1, name="a")]) as pool:
        assert pool.run(1) == 2
        with ObserverClient(place_of(pool).observer_path) as client:
            assert client.call(GetSnapshot()).workers[0].frames == 1
