"""`remotemedia top` beside a running pool: as text, as JSON, and live in a terminal with keys."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager
from time import monotonic

import pytest

from remotemedia.cli.top_view import COLUMNS
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.running import find_pools
from tests.nodes import Add

DEADLINE_S = 30.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")


def command(*arguments):
    return [sys.executable, "-m", "remotemedia", *arguments]


def environment(**more):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


async def run(*arguments):
    """(exit code, stdout, stderr) of the command line in a process of its own, without a terminal."""
    return await asyncio.to_thread(_run, arguments)


def _run(arguments):
    done = subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, check=False, timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def pool_id(pool):
    return pool._parts.directory.pool_id


async def test_once_as_text_and_as_json():
    async with WorkerPool([Add(1, name="first"), Add(1, name="second", executor="inline")]) as pool:
        for value in range(20):
            await pool.process(value)
        # Not everybody's pools: others may run on this machine meanwhile.
        code, out, err = await run("top", pool_id(pool)[:9])
        assert (code, err) == (0, "")
        head, columns, first, second = out.splitlines()
        assert head.startswith(f"pool {pool_id(pool)}  pid {os.getpid()}  running  up ")
        assert all(column in columns for column in COLUMNS)
        assert first.split()[:4] == ["first", str(pool.snapshot(memory=False).workers[0].pid), "ready", "0"]
        assert second.split()[:4] == ["second", "-", "inline", "0"]
        code, out, err = await run("top", str(os.getpid()), "--json")
        assert (code, err) == (0, "")
        (facts,) = [found for found in json.loads(out) if found["pool_id"] == pool_id(pool)]
        assert [worker["frames"] for worker in facts["workers"]] == [20, 20]
        assert facts["workers"][0]["pss_bytes"] > 1_000_000
        assert facts["workers"][1]["pss_bytes"] is None
        assert facts["shm_bytes"] > 0
        code, out, err = await run("top", "zz")
        assert (code, out) == (2, "")
        assert err.startswith("error: there is no pool 'zz'; running: ")


@pytest.mark.slow
async def test_a_pool_whose_loop_is_blocked_does_not_answer():
    async with WorkerPool([Add(1)]) as pool:
        with subprocess.Popen(  # noqa: ASYNC220 - so that this loop is blocked
            command("top", pool_id(pool), "--once"), env=environment(), stdout=subprocess.PIPE, text=True
        ) as top:
            out = top.communicate(timeout=DEADLINE_S)[0]
        assert "no answer for" in out
        assert "the event loop of its process is blocked" in out
        assert await pool.process(1) == 2


class Terminal:
    """What a program prints on a terminal of 150 x 40, as text without the escape sequences."""

    def __init__(self, fd):
        self._fd, self.text = fd, ""

    def until(self, pattern):
        """Wait until what was printed since the last call matches; gives that."""
        give_up_at = monotonic() + DEADLINE_S
        while not re.search(pattern, self.text):
            ready, _, _ = select.select([self._fd], [], [], DEADLINE_S)
            in_time = ready and monotonic() < give_up_at
            assert in_time, f"{pattern!r} was not shown, but: {self.text[-4000:]}"
            self.text = ESCAPES.sub("", self.text + os.read(self._fd, 65_536).decode(errors="replace"))
        shown, self.text = self.text, ""
        return shown

    def press(self, keys):
        os.write(self._fd, keys)


@contextmanager
def in_a_terminal(*arguments):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 150, 0, 0))
    process = subprocess.Popen(
        command(*arguments), env=environment(TERM="xterm", COLUMNS="150", LINES="40"), stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def watch_and_press(pool_ident, pid):
    with in_a_terminal("top", pool_ident) as (terminal, process):
        terminal.until(rf"first +{pid} +ready")
        terminal.press(b"s")
        terminal.until("Thread MainThread")
        terminal.press(b"\x1b")
        terminal.press(b"\x1b[B")
        terminal.press(b"r")
        terminal.until("second' has no worker that can be replaced")
        terminal.press(b"k")
        terminal.press(b"r")
        terminal.until(r"first +\d+ +ready +1 ")
        terminal.press(b"p")
        terminal.until("paused")
        terminal.press(b"q")
        return process.wait(timeout=DEADLINE_S)


async def test_live_in_a_terminal():
    async with WorkerPool([Add(1, name="first"), Add(1, name="second", executor="inline")]) as pool:
        assert await pool.process(0) == 2
        worker = pool.snapshot(memory=False).workers[0]
        assert await asyncio.to_thread(watch_and_press, pool_id(pool), worker.pid) == 0
        assert await pool.process(1) == 3
        assert pool.snapshot(memory=False).workers[0].generation == 1


def interrupt_after(pool_ident, end_pool):
    with in_a_terminal("top", pool_ident) as (terminal, process):
        terminal.until("first")
        end_pool()
        terminal.until("no pool is running")
        process.send_signal(signal.SIGINT)
        terminal.until("interrupted")
        return process.wait(timeout=DEADLINE_S)


@pytest.mark.slow
def test_live_goes_on_when_the_pool_ends_and_ctrl_c_ends_it():
    pool = WorkerPool([Add(1, name="first")])
    pool.__enter__()
    try:
        assert interrupt_after(pool_id(pool), pool.close) == 130
    finally:
        pool.close()
    assert all(place.pool_id != pool_id(pool) for place in find_pools())
