"""Limits are in force before anything of the node runs, each worker has its own, and what cannot be is an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fault_nodes import Pass
from fault_tools import Place

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.core.exceptions import ConfigurationError, WorkerStartError
from remotemedia.workers.pool import WorkerPool

CPU = min(os.sched_getaffinity(0))


def facts() -> dict[str, Any]:
    threads = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    return {
        "cpus": os.sched_getaffinity(0),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "depth": os.environ.get("REMOTEMEDIA_DEPTH"),
        "oom_score": int(Path("/proc/self/oom_score_adj").read_text()),
        "threads": {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads},
    }


class Tells(Pass):
    """Adds to the list it is given what its process was allowed when it was unpickled."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.facts = facts()

    def process(self, data: Any) -> Any:
        return [*data, self.facts]


class Bound(Tells):
    worker_limits = WorkerLimits(nice=os.getpriority(os.PRIO_PROCESS, 0) + 2)


async def test_each_worker_has_its_own(place: Place) -> None:
    here = facts()
    nice = here["nice"] + 1
    environment = {"CUDA_VISIBLE_DEVICES": "7", "REMOTEMEDIA_DEPTH": "0"}
    limits = {"named": WorkerLimits(cpu_affinity=(CPU,), nice=nice, environment=environment)}
    nodes = [Tells(name="free"), Bound(name="own"), Tells(name="named")]
    async with WorkerPool(nodes, config=PoolConfig(limits=limits)) as pool:
        free, own, named = await pool.process([])
    assert (free["cpus"], free["nice"], free["device"]) == (here["cpus"], here["nice"], here["device"])
    assert (own["cpus"], own["nice"]) == (here["cpus"], here["nice"] + 2)
    assert (named["cpus"], named["nice"], named["device"]) == ({CPU}, nice, "7")
    assert named["threads"] == {nice}  # those of libraries as well
    assert {worker["depth"] for worker in (free, own, named)} == {"1"}  # ours to set
    assert {worker["oom_score"] for worker in (free, own, named)} == {min(here["oom_score"] + 300, 1000)}
    assert facts() == here


async def test_a_processor_that_does_not_exist(place: Place) -> None:
    limits = WorkerLimits(cpu_affinity=(60_000,))
    pool = WorkerPool([Pass(name="far")], config=PoolConfig(limits=limits))
    with pytest.raises(WorkerStartError) as caught:
        await pool.start()
    assert type(caught.value) is WorkerStartError
    assert caught.value.node == "far"
    assert "could not apply its WorkerLimits: cpu_affinity=(60000,): Invalid argument" in str(caught.value)


async def test_a_node_that_does_not_exist_starts_nothing(place: Place) -> None:
    pool = WorkerPool([Pass(name="here")], config=PoolConfig(limits={"hree": WorkerLimits()}))
    with pytest.raises(ConfigurationError, match="did you mean 'here'"):
        await pool.start()
    assert place.pool_ids() == []
    assert place.processes() == []
