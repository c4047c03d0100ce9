"""A worker that the kernel kills for want of memory; the kernel's files are faked, the kill is real."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from fault_nodes import Pass
from fault_tools import Place, soon
from watching import config, parts_of, pid_of, supervisor_of

from remotemedia.core.exceptions import WorkerDied
from remotemedia.workers.diagnose import MemoryGroup
from remotemedia.workers.pool import WorkerPool


@pytest.mark.parametrize("kills", [5, 6])
async def test_the_death_is_told_from_a_kill_by_somebody(kills: int, place: Place, tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("0::/\n")
    (tmp_path / "memory.max").write_text(f"{256 * 2**20}\n")
    (tmp_path / "memory.current").write_text(f"{64 * 2**20}\n")
    (tmp_path / "memory.events").write_text("oom 5\noom_kill 5\n")
    group = MemoryGroup(tmp_path / "membership", tmp_path)
    group.sample()
    async with WorkerPool([Pass(name="big"), Pass(name="small")], config=config()) as pool:
        parts_of(pool)._memory = group
        supervisor = supervisor_of(pool, 0)
        await soon(lambda: supervisor.own_bytes, "a look at its memory")
        (tmp_path / "memory.events").write_text(f"oom {kills}\noom_kill {kills}\n")
        os.kill(pid_of(pool, 0), signal.SIGKILL)
        await soon(lambda: pool.snapshot().workers[0].state == "exited", "the end of the worker")
        with pytest.raises(WorkerDied) as caught:
            await pool.process(1)
    cause = caught.value.likely_cause
    if kills == 5:
        assert "not the kernel's out-of-memory killer" in cause
        return
    assert "the kernel's OOM killer" in cause
    assert "rose from 5 to 6; the limit of the control group is 256.0 MiB, 64.0 MiB of it are in use now" in cause
    assert "this worker used" in cause
    assert "big " in cause.partition("largest workers")[2]
