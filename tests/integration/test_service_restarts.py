"""Sessions and control messages while workers are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from remotemedia import events
from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import Gate
from tests.nodes import Add

PATIENT = PoolConfig(restart=RestartPolicy(max_restarts=20, backoff_s=(0.01, 0.1)))


class Whose(Node):
    """(name of the session that it works for, input): from the state that it is given."""

    def process(self, data: Any) -> Any:
        return (self._session_id, data)

    def flush(self) -> Any:
        return (self._session_id, "end")


@pytest.mark.parametrize("victim", [0, 1])
async def test_sessions_go_on_through_a_restart(victim: int) -> None:
    async with WorkerPool([Add(0), Whose()], config=PATIENT) as pool:
        heard = pool.events()

        async def use(name: str) -> None:
            async with pool.session(name) as session:
                for value in range(150):
                    await session.send(value)
                    if value >= 5:
                        assert await session.receive() == (name, value - 5)
                await session.finish()
                rest = [output async for output in session]
                assert rest == [*((name, value) for value in range(145, 150)), (name, "end")]

        users = [asyncio.ensure_future(use(f"caller-{n}")) for n in range(6)]
        for _ in range(3):
            pid = pool.snapshot(memory=False).workers[victim].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            async for event in heard:
                if isinstance(event, events.Ready):
                    break
        await asyncio.gather(*users)
        assert pool.snapshot(memory=False).workers[victim].generation >= 3
        async with pool.session("caller-0") as session:
            await session.send(1)
            assert await session.receive() == ("caller-0", 1)


class Tuned(Gate):
    """Gives what it was told last; waits at the gate before it takes a message in."""

    told: Any = None

    def process(self, data: Any) -> Any:
        return (self.told, self.restart_count)

    def on_control(self, message: Any) -> None:
        if self.restart_count == 0:
            super().process("x")
        self.told = message


async def test_a_message_that_killed_worker_has_not_answered_is_sent_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    async with WorkerPool([Tuned(str(tmp_path))], config=PATIENT) as pool:
        told = asyncio.ensure_future(pool.send_control("gate", 7))
        while not (tmp_path / "x.waits").exists():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0)
        pid = pool.snapshot(memory=False).workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await told
        assert await pool.process(0) == (7, 1)
