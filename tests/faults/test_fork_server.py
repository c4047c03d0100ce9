"""The fork server: its workers are like any other, and neither its life nor its death leaves anything behind."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import re
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_nodes import Pass
from fault_tools import Place, Script, collect, is_running, soon

from remotemedia.config import PoolConfig, RestartPolicy, WorkerLimits
from remotemedia.core.exceptions import WorkerDied
from remotemedia.core.node import Node
from remotemedia.workers import fork_server
from remotemedia.workers.fork_server import keep_fork_server
from remotemedia.workers.parts import Parts
from remotemedia.workers.pool import WorkerPool

RunScript = Callable[..., Script]
SPAWN = PoolConfig(start="spawn")


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pools of this test do not use the server that is kept for all tests."""
    monkeypatch.setattr(fork_server, "_shared", {})
    yield
    assert fork_server._shared == {}


class Asks(Node):
    """Calls what it is given."""

    def process(self, data: Any) -> Any:
        return data()


def server_of(pool: WorkerPool) -> int | None:
    parts = pool._parts
    assert isinstance(parts, Parts)
    return parts.launcher.server_pid


def is_gone(pid: int | None) -> bool:
    """Ended, and reaped."""
    return not Path(f"/proc/{pid}").exists()


# -- a worker is a worker ----------------------------------------------------------------------------------------------


def facts() -> dict[str, Any]:
    """What a process has from those that started it."""
    names = ("Umask", "SigBlk", "SigIgn", "SigCgt", "Uid", "Gid", "Groups", "CapEff", "Cpus_allowed", "NoNewPrivs")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "environment": dict(os.environ),
        "directory": Path.cwd(),
        "sys.path": sys.path,
        "own group": os.getpgrp() == os.getpid(),
        "session": os.getsid(0),
        "comm": Path("/proc/self/comm").read_text(),
        "limits": Path("/proc/self/limits").read_text(),
        "oom_score": Path("/proc/self/oom_score_adj").read_text(),
        "stdin": os.read(0, 1),
        "descriptors": sorted(descriptors()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "status": {name: status[name].strip() for name in names},
        "flags": str(sys.flags),
        "buffered": (sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stdout.encoding),
    }


def descriptors() -> Iterator[str]:
    """The kinds of all open descriptors."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if entry.is_symlink():
            yield re.sub(r":\[.*|/dev/shm/.*[_.]|\d+", "", str(entry.readlink()))


async def test_a_forked_worker_has_what_a_spawned_one_has(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also what has changed in the coordinator since the server was started."""
    monkeypatch.setenv("REMOTEMEDIA_TEST_WORD", os.fsdecode(b"caf\xe9"))
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with WorkerPool([Asks()]) as forked, WorkerPool([Asks()], config=SPAWN) as spawned:
        assert await forked.process(os.getppid) == server_of(forked)
        assert await spawned.process(os.getppid) == os.getpid()
        expected, found = await spawned.process(facts), await forked.process(facts)
    assert {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]} == {}


def draws() -> tuple[Any, ...]:
    name = next(tempfile._get_candidate_names())  # type: ignore[attr-defined]
    numbers = np.random.random(), np.random.default_rng().random()  # noqa: NPY002 - it is what many nodes use
    return random.random(), *numbers, uuid.uuid4(), uuid.uuid1(), name


def multiplied() -> float:
    """Large enough for several threads."""
    matrix = np.arange(360_000.0).reshape(600, 600) % 7
    return float((matrix @ matrix).sum())


async def test_workers_draw_different_numbers_and_compute_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even if the server has made the generators already, as it does with some versions of numpy."""
    (tmp_path / "sitecustomize.py").write_text("import numpy.random, random, tempfile, uuid\nnumpy.random.random()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with WorkerPool([Asks()]) as one, WorkerPool([Asks()]) as other:
        pools = (one, other)
        assert server_of(one) == server_of(other)
        for drawn in zip(*[await pool.process(draws) for pool in pools], strict=True):
            assert drawn[0] != drawn[1]
        assert [await pool.process(multiplied) for pool in pools] == [multiplied()] * 2


async def test_what_must_be_there_before_the_imports_is_started_without(place: Place) -> None:
    limits = {"env": WorkerLimits(environment={"A": "1"}), "cpu": WorkerLimits(cpu_affinity=(0,))}
    nodes = [Tells("env"), Tells("cpu"), Tells("nice", worker_limits=WorkerLimits(nice=os.nice(0) + 1))]
    async with WorkerPool(nodes, config=PoolConfig(limits=limits)) as pool:
        assert await pool.process(()) == (os.getpid(), os.getpid(), server_of(pool))


class Tells(Node):
    """Adds the pid of its process's parent."""

    def __init__(self, name: str, worker_limits: WorkerLimits | None = None) -> None:
        super().__init__(name)
        self.worker_limits = worker_limits

    def process(self, data: Any) -> Any:
        return (*data, os.getppid())


# -- the life of a server ----------------------------------------------------------------------------------------------


async def test_pools_share_a_server_which_leaves_with_the_last(place: Place, own_server: None) -> None:
    async with WorkerPool([Pass()]) as first:
        server = server_of(first)
        assert server is not None
        async with WorkerPool([Pass()]) as second:
            assert server_of(second) == server
        assert is_running(server)
        assert await first.process(1) == 1
    assert is_gone(server)


async def test_a_server_can_be_kept(place: Place, own_server: None) -> None:
    with keep_fork_server(), keep_fork_server():
        servers = []
        for _ in range(2):
            async with WorkerPool([Pass()]) as pool:
                servers.append(server_of(pool))
        assert servers[0] == servers[1]
        assert is_running(servers[0] or 0)
    assert is_gone(servers[0])


@pytest.mark.parametrize("change", ["umask", "variable"])
async def test_what_only_a_start_passes_on_needs_another_server(
    change: str, place: Place, own_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with keep_fork_server():
        (kept,) = fork_server._shared.values()
        before = os.umask(0o027) if change == "umask" else None
        try:
            monkeypatch.setenv("OMP_NUM_THREADS" if change == "variable" else "HOME", "1")
            async with WorkerPool([Asks()]) as pool:
                assert server_of(pool) != kept.pid
                assert await pool.process(os.getppid) == server_of(pool)
        finally:
            if before is not None:
                os.umask(before)


def test_a_server_outlives_the_thread_that_started_it(place: Place, own_server: None) -> None:
    """The kernel's death signal comes at the end of that thread."""
    kept: list[fork_server.ForkServer] = []
    thread = threading.Thread(target=lambda: kept.append(fork_server.use(PoolConfig())))
    thread.start()
    thread.join()

    for _ in range(2):
        with WorkerPool([Asks()]) as pool:  # its loop's thread ends as well
            assert pool.run(os.getppid) == server_of(pool) == kept[0].pid
    fork_server.leave(kept[0])


async def test_who_ends_a_service_does_not_end_its_server_first(place: Place, own_server: None) -> None:
    async with WorkerPool([Pass()], config=PoolConfig(restart=RestartPolicy())) as pool:
        server = server_of(pool) or 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(server, number)
        os.kill(pool.snapshot().workers[0].pid or 0, signal.SIGKILL)
        assert await pool.process(1) == 1
        assert is_running(server)


async def test_a_server_that_cannot_be_started_is_done_without(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_more_processes(config: PoolConfig) -> fork_server.ForkServer:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(fork_server, "use", no_more_processes)
    async with WorkerPool([Asks()]) as pool:
        assert await pool.process(os.getppid) == os.getpid()
    assert "the fork server could not be started, workers are started without" in caplog.text


async def test_a_server_with_threads_must_not_fork(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They would be missing in its copies, with whatever they hold locked for ever."""
    waits = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    (tmp_path / "sitecustomize.py").write_text(waits)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with WorkerPool([Asks()]) as pool:
        assert await pool.process(os.getppid) == os.getpid()
    assert "must not fork: something that it has imported runs threads (rm-fork-server, " in caplog.text


# -- its death ---------------------------------------------------------------------------------------------------------


async def test_its_death_is_that_of_its_workers_and_nothing_is_lost(
    place: Place, own_server: None, loop_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "remotemedia.supervisor")
    async with WorkerPool([Pass(name="a"), Pass(name="b"), Asks()], config=PoolConfig(warm_spares=1)) as pool:
        server = server_of(pool) or 0
        os.kill(server, signal.SIGKILL)
        assert await pool.process(int) == 0  # whoever did it, before or after
        await soon(lambda: [w.generation for w in pool.snapshot().workers] == [1, 1, 1], "all to be replaced")
        assert await pool.process(os.getppid) == os.getpid()
        assert server_of(pool) is None
        async with WorkerPool([Asks()]) as next_pool:
            assert server_of(next_pool) not in {None, server}
            assert await next_pool.process(os.getppid) == server_of(next_pool)
    assert f"the fork server (pid {server}) has ended: workers of this pool are started without" in caplog.text


async def test_in_the_middle_of_a_stream(place: Place, own_server: None) -> None:
    async with WorkerPool([Pass(name="a"), Pass(name="b")]) as pool:
        outputs: list[Any] = []
        stream = asyncio.create_task(collect(pool.stream(range(3000)), outputs))
        await soon(lambda: len(outputs) > 100, "frames under way")
        os.kill(server_of(pool) or 0, signal.SIGKILL)
        await stream
    assert outputs == list(range(3000))


async def test_without_restarts_it_is_a_clear_error(place: Place, own_server: None) -> None:
    async with WorkerPool([Pass()], config=PoolConfig(restart=RestartPolicy.never())) as pool:
        outputs: list[Any] = []
        stream = asyncio.create_task(collect(pool.stream(itertools.count()), outputs))
        await soon(lambda: outputs, "frames under way")
        os.kill(server_of(pool) or 0, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="its fork server was killed") as caught:
            await stream
    assert "exit status unknown (its fork server has ended)" in " ".join(caught.value.story)


# -- the host ----------------------------------------------------------------------------------------------------------


def test_a_host_that_forks_while_it_keeps_a_server(place: Place, run_script: RunScript) -> None:
    """The copy has servers of its own, and the original's ends although the copy still runs."""
    script = run_script("""
    import asyncio, os, signal
    from fault_nodes import *
    from remotemedia.workers import fork_server
    from remotemedia.workers.pool import WorkerPool

    async def use():
        async with WorkerPool([Pass()]) as pool:
            assert await pool.process(1) == 1
            return pool._parts.launcher.server_pid

    with fork_server.keep_fork_server():
        kept = asyncio.run(use())
        ready, begin = os.pipe()
        if not (copy := os.fork()):
            os.close(begin)
            assert fork_server._shared == {}
            assert asyncio.run(use()) != kept
            os.read(ready, 1)
            os._exit(0)
        os.close(ready)
        assert asyncio.run(use()) == kept
    print("running" if os.path.exists(f"/proc/{kept}") else "gone", flush=True)
    os.close(begin)
    print("copy", os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))
    """)
    assert script.expect_success() == ["gone", "copy 0"]
    assert "Warning" not in script.stderr
    place.expect_nothing_left()
