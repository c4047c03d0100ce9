"""A host that reaps every child itself, or has none reaped: exit statuses are lost, nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fault_tools import Place, Script

RunScript = Callable[..., Script]

REAPS = """
import os, threading, time
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)
threading.Thread(target=reap, daemon=True).start()
"""
IGNORES = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
"""
HANDLES = """
import os, signal
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
"""
HOST = """
import asyncio, os, signal
from fault_nodes import *
from fault_tools import NO_RESTART
from remotemedia.config import PoolConfig, Timeouts
from remotemedia.core.exceptions import WorkerDied, WorkerStartTimeout, NodeProcessError
from remotemedia.workers.pool import WorkerPool

async def works():
    async with WorkerPool([Pass(), AsyncPass()]) as pool:
        assert [output async for output in pool.stream(range(50))] == list(range(50))

async def dies():
    async with WorkerPool([Pass(), Faulty(kill, at=3)], config=NO_RESTART) as pool:
        try:
            [output async for output in pool.stream(range(50))]
        except WorkerDied as error:
            assert (error.node, error.frame) == ("faulty", 3), error
            assert error.signal in ("SIGKILL", None), error
            assert error.signal or "reaped elsewhere" in str(error), error

async def dies_early():
    try:
        await WorkerPool([Pass(), FaultyOnLoad(kill)]).start()
    except WorkerDied as error:
        assert error.node == "faulty"

async def hangs():
    try:
        config = PoolConfig(timeouts=Timeouts(initialize_s=0.5))
        await WorkerPool([Faulty(hang_for_ever, "initialize")], config=config).start()
    except WorkerStartTimeout as error:
        assert "hang_for_ever" in error.stacks

for scenario in (works, dies, dies_early, hangs, works):
    asyncio.run(scenario())
print("done")
"""


@pytest.mark.parametrize(
    "host", [REAPS, IGNORES, HANDLES], ids=["waits for any child", "ignores SIGCHLD", "handles SIGCHLD"]
)
def test_children_that_vanish(host: str, place: Place, run_script: RunScript) -> None:
    script = run_script(host + HOST)
    assert script.expect_success() == ["done"]
    assert "Traceback" not in script.stderr
    place.expect_nothing_left()
