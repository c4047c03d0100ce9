"""The system has no process, no memory or no descriptor for another worker: the error names the limit, and what was
started is undone.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from fault_nodes import Faulty, Pass, kill
from fault_tools import Place

from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import WorkerStartError
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.process import WorkerProcess

SPAWN = PoolConfig(start="spawn")


def refuse_from(nth: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th process, and all after it, cannot be started."""
    spawn, started = WorkerProcess.spawn, [0]

    def refusing(*args: Any, **options: Any) -> WorkerProcess:
        started[0] += 1
        if started[0] >= nth:
            raise OSError(number, os.strerror(number))
        return spawn(*args, **options)

    monkeypatch.setattr(WorkerProcess, "spawn", refusing)


@pytest.mark.parametrize(
    ("number", "limit"),
    [
        (errno.EAGAIN, "ulimit -u"),
        (errno.ENOMEM, "memory"),
        (errno.EMFILE, "ulimit -n"),
    ],
    ids=["no more processes", "no memory", "no descriptors"],
)
async def test_while_the_pool_starts(number: int, limit: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_from(2, number, monkeypatch)
    with pytest.raises(WorkerStartError) as caught:
        await WorkerPool([Pass("first"), Pass("second"), Pass("third")], config=SPAWN).start()
    error = caught.value
    assert (error.node, error.worker_id, error.pid) == ("second", 1, None)
    assert limit in error.suggestion
    for part in (os.strerror(number), limit):
        assert part in str(error)
    assert isinstance(error.__cause__, OSError)


async def test_for_the_next_generation(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the end of the pool: everybody who waits hears why."""
    async with WorkerPool([Pass("first"), Faulty(kill, at=1)], config=SPAWN) as pool:
        assert await pool.process(0) == 0
        refuse_from(1, errno.EAGAIN, monkeypatch)
        with pytest.raises(WorkerStartError, match="ulimit -u") as caught:
            await pool.process(1)
        assert (caught.value.node, caught.value.generation) == ("faulty", 1)
