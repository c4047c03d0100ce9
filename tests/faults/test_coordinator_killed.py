"""The coordinator is killed: no worker outlives it by much, nodes clean up, and the next pool removes the rest."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_nodes import Pass
from fault_tools import Place, Script, files_of, is_running, until

from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.sweep import sweep

ORPHANED_S = 10.0
"""Workers promise to end 2 s after their coordinator; a busy machine may be slow to show it."""

HOST = """
import asyncio, itertools, sys
from fault_nodes import *
from remotemedia.config import PoolConfig
from remotemedia.workers.pool import WorkerPool

async def main():
    async with WorkerPool([{nodes}], config=PoolConfig(start="{start}")) as pool:
        print("workers", *(worker.pid for worker in pool.snapshot().workers), flush=True)
        {body}

asyncio.run(main())
"""
IDLE = """
        await asyncio.Event().wait()"""
LOADED = """
        async for output in pool.stream(itertools.count()):
            if output == 100:
                print("loaded", flush=True)"""
CALLED = """
        calls = asyncio.gather(*(pool.process(i) for i in range(3)))
        print("helper", await pool.process(-1), flush=True)
        await calls"""


def host(nodes: str, body: str, start: str = "fork_server") -> str:
    return HOST.format(nodes=nodes, body=body, start=start)


BOTH_STARTS = pytest.mark.parametrize("start", ["fork_server", "spawn"])


def expect_orphans_gone(place: Place) -> None:
    until(lambda: not place.processes(), "no process", ORPHANED_S)


def expect_orphans_gone_then_sweep(place: Place) -> None:
    expect_orphans_gone(place)
    sweep(str(place.path))


async def expect_swept(place: Place, pool_ids: list[str]) -> None:
    """The next pool removes what the dead one has left, before it starts."""
    async with WorkerPool([Pass()]) as pool:
        assert not set(pool_ids) & set(place.pool_ids())
        assert [name for pool_id in pool_ids for name in files_of(pool_id)] == []
        assert await pool.process(1) == 1


RunScript = Callable[..., Script]


async def test_while_the_pool_is_idle(place: Place, run_script: RunScript, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    nodes = f"Diary({str(diary)!r}, 'a'), AsyncPass(), Diary({str(diary)!r}, 'b')"
    script = run_script(host(nodes, IDLE))
    workers = script.pids()
    pool_ids = place.pool_ids()
    assert len(pool_ids) == 1
    script.kill_and_reap()
    expect_orphans_gone(place)
    until(lambda: not any(is_running(pid) for pid in workers), "the workers to be dead with all their threads")
    told = sorted(diary.read_text().split("\n")[:-1])
    assert told == ["a cleanup", "a initialize", "b cleanup", "b initialize"]
    await expect_swept(place, pool_ids)


async def test_under_load(place: Place, run_script: RunScript, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    script = run_script(host(f"Pass(), Diary({str(diary)!r}, 'a'), AsyncPass()", LOADED))
    script.said("loaded")
    pool_ids = place.pool_ids()
    script.kill_and_reap()
    expect_orphans_gone(place)
    assert diary.read_text() == "a initialize\na cleanup\n"
    await expect_swept(place, pool_ids)


async def test_a_killed_coordinator_that_is_not_reaped_yet(place: Place, run_script: RunScript) -> None:
    script = run_script(host("Pass(), Pass()", IDLE))
    workers = script.pids()
    pool_ids = place.pool_ids()
    script.send(signal.SIGKILL)
    until(lambda: not any(is_running(pid) for pid in workers), "no worker", ORPHANED_S)
    dead = os.WEXITED | os.WNOWAIT | os.WNOHANG  # with all its threads; and left for others to reap
    until(lambda: os.waitid(os.P_PID, script.pid, dead) is not None, "a dead coordinator", ORPHANED_S)
    await expect_swept(place, pool_ids)


@pytest.mark.parametrize("action", ["hang_for_ever", "hang_in_python", "hang_with_the_gil"])
@pytest.mark.parametrize("phase", ["process", "cleanup"])
def test_whatever_its_nodes_are_doing(action: str, phase: str, place: Place, run_script: RunScript) -> None:
    body = CALLED if phase == "process" else IDLE
    script = run_script(host(f"Pass(), Faulty({action}, {phase!r}, at=2)", body))
    script.pids()
    if phase == "process":
        script.said("helper")
    script.kill_and_reap()
    expect_orphans_gone_then_sweep(place)


@pytest.mark.parametrize("action", ["hang_for_ever", "hang_with_the_gil"])
@pytest.mark.parametrize("node", ["FaultyOnLoad({0})", "Faulty({0}, 'initialize')"])
def test_during_the_start(action: str, node: str, place: Place, run_script: RunScript) -> None:
    script = run_script(host(f"Pass(), {node.format(action)}, Pass()", IDLE))
    until(lambda: len(place.workers()) == 3, "three workers")
    until(lambda: files_of(place.pool_ids()[0]), "shared memory")
    script.kill_and_reap()
    expect_orphans_gone_then_sweep(place)


@BOTH_STARTS
def test_at_the_first_moment_of_the_start(start: str, place: Place, run_script: RunScript) -> None:
    """Before a worker, or the fork server, has said anything, and before it has asked for a death signal."""
    script = run_script(host("Pass(), Pass(), Pass()", IDLE, start))
    until(place.workers, "a worker")
    script.kill_and_reap()
    expect_orphans_gone_then_sweep(place)


def test_helpers_of_nodes_die_too(place: Place, run_script: RunScript) -> None:
    script = run_script(host("WithHelper()", CALLED + IDLE))
    (helper,) = map(int, script.said("helper"))
    assert is_running(helper)
    script.kill_and_reap()
    expect_orphans_gone_then_sweep(place)
    assert not is_running(helper)


@BOTH_STARTS
def test_a_forked_copy_of_the_coordinator_keeps_no_worker_alive(
    start: str, place: Place, run_script: RunScript
) -> None:
    """The copy holds the other ends of all pipes: the workers must notice by other means."""
    copy = """
        if not (copy := os.fork()):
            import signal
            signal.pause()
        print("copy", copy, flush=True)""" + IDLE
    script = run_script(host("Pass(), Faulty(hang_with_the_gil, at=2)", copy, start))
    workers = script.pids()
    (copy_pid,) = map(int, script.said("copy"))
    script.kill_and_reap()
    until(lambda: not any(is_running(pid) for pid in workers), "no worker", ORPHANED_S)
    os.kill(copy_pid, signal.SIGKILL)
    expect_orphans_gone_then_sweep(place)


async def test_workers_that_somehow_survived_are_ended_by_the_sweep(place: Place, run_script: RunScript) -> None:
    script = run_script(host("Pass(), WithHelper()", IDLE))
    script.pids()
    pool_ids = place.pool_ids()
    for pid in set(place.processes()) - {script.pid}:
        os.kill(pid, signal.SIGSTOP)  # neither end of file nor signal can reach them now, nor the fork server
    script.kill_and_reap()
    await expect_swept(place, pool_ids)  # or another pool of this user was quicker
    until(lambda: not place.processes(), "no process")
