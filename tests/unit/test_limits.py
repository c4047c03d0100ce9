"""Whose limits are whose, and memory that is measured in a thread."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from remotemedia.config import MIB, PoolConfig, WorkerLimits
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.workers import limits
from remotemedia.workers.limits import MemorySampler, limits_of, memory_reason

FOR_ALL, BY_ID, OWN = WorkerLimits(nice=1), WorkerLimits(nice=2), WorkerLimits(nice=3)


class Careful(Node):
    worker_limits = OWN


def graph() -> Graph:
    return Graph.chain([Node(name="plain"), Careful(name="own"), Careful(name="named")])


def test_none_are_given() -> None:
    assert limits_of(graph(), PoolConfig()) == (WorkerLimits(), OWN, OWN)


def test_for_all() -> None:
    assert limits_of(graph(), PoolConfig(limits=FOR_ALL)) == (FOR_ALL, OWN, OWN)


def test_by_id_comes_before_the_nodes_own() -> None:
    assert limits_of(graph(), PoolConfig(limits={"named": BY_ID})) == (WorkerLimits(), OWN, BY_ID)


def test_an_instance_may_have_its_own() -> None:
    node = Node(name="plain")
    node.worker_limits = OWN
    assert limits_of(Graph.chain([node]), PoolConfig(limits=FOR_ALL)) == (OWN,)


def test_an_id_that_no_node_has() -> None:
    with pytest.raises(ConfigurationError, match=r"no node 'nmaed', only plain, own, named; did you mean 'named'\?"):
        limits_of(graph(), PoolConfig(limits={"nmaed": BY_ID}))


def test_a_nodes_own_limits_that_are_none() -> None:
    node = Node(name="odd")
    node.worker_limits = {"nice": 3}
    with pytest.raises(ConfigurationError, match="'odd' must be a WorkerLimits"):
        limits_of(Graph.chain([node]), PoolConfig())


@pytest.mark.parametrize(
    ("nbytes", "level"),
    [(0, "fine"), (80 * MIB - 1, "fine"), (80 * MIB, "high"), (100 * MIB - 1, "high"), (100 * MIB, "limit")],
)
def test_levels_of_memory(nbytes: int, level: str) -> None:
    said, text = memory_reason(nbytes, WorkerLimits(memory_limit_bytes=100 * MIB))
    assert said == level
    assert ("100.0 MiB" in text) == (level != "fine")
    assert memory_reason(nbytes, WorkerLimits()) == ("fine", "")


async def test_memory_is_measured_beside_the_loop(loop_kind: str) -> None:
    samples: asyncio.Queue[tuple[int, int, int]] = asyncio.Queue()
    sampler = MemorySampler(asyncio.get_running_loop(), lambda *sample: samples.put_nowait(sample))
    sampler.request([])
    assert "remotemedia-memory" not in {thread.name for thread in threading.enumerate()}
    sampler.request([(7, os.getpid()), (8, 2**22 + 1)])  # beyond the largest process number there can be
    sampler.request([(9, os.getpid())])
    worker_id, pid, nbytes = await samples.get()
    assert (worker_id, pid) == (7, os.getpid())
    assert nbytes > MIB
    sampler.close()
    sampler.close()
    assert "remotemedia-memory" not in {thread.name for thread in threading.enumerate()}


async def test_what_is_measured_too_late_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is closed while the thread measures."""
    measuring, go_on = threading.Event(), threading.Event()

    def slow(pid: int) -> int:
        measuring.set()
        go_on.wait()
        return 1

    monkeypatch.setattr(limits, "memory_bytes", slow)
    loop = asyncio.new_event_loop()
    sampler = MemorySampler(loop, lambda *sample: pytest.fail("the loop is closed"))
    sampler.request([(1, os.getpid())])
    assert await asyncio.to_thread(measuring.wait)
    loop.close()
    go_on.set()
    sampler.close()
