"""What the tests of hanging workers share: impatient settings, and looks at the process and at the log."""

from __future__ import annotations

from typing import Any

import pytest

from remotemedia.config import PoolConfig, RestartPolicy, Timeouts
from remotemedia.core.exceptions import WorkerUnresponsive
from remotemedia.workers.parts import Parts
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.supervisor import Supervisor

WARN_S, KILL_S = 0.4, 1.2


def config(**timeouts: Any) -> PoolConfig:
    """Warns after 0.4 s and kills after 1.2 s, unless told otherwise; no restarts, so that the error is seen."""
    hasty = {"heartbeat_s": 0.05, "unresponsive_warn_s": WARN_S, "unresponsive_s": KILL_S, **timeouts}
    return PoolConfig(timeouts=Timeouts(**hasty), restart=RestartPolicy.never())


async def unresponsive(pool: WorkerPool, value: Any) -> WorkerUnresponsive:
    """The error that the call with `value` ends in."""
    with pytest.raises(WorkerUnresponsive) as caught:
        await pool.process(value)
    return caught.value


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the rounds of the pool have logged."""
    return [record.getMessage() for record in caplog.records if record.name == "remotemedia.rounds"]


def pid_of(pool: WorkerPool, index: int) -> int:
    pid = pool.snapshot().workers[index].pid
    assert pid is not None
    return pid


def parts_of(pool: WorkerPool) -> Parts:
    assert pool._parts is not None
    return pool._parts


def supervisor_of(pool: WorkerPool, index: int) -> Supervisor:
    """Of the worker's present process."""
    return parts_of(pool).slots[index].supervisor
