"""What is tried on a Ray cluster of several nodes on this machine: `python -m tests.cluster.scenarios NAME`.

Each runs in a process of its own, with a cluster of its own: Ray keeps threads and descriptors in a process that has
joined it, and starts and ends processes when it likes. So what is left behind is seen by the test, whose process has
nothing to do with Ray, when all this has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

import remotemedia
from remotemedia import (
    ConfigurationError,
    Node,
    NodeInitializeError,
    NodeProcessError,
    Pipeline,
    PoolConfig,
    RestartLimitExceeded,
    RestartPolicy,
    SerializationError,
    WorkerDied,
    WorkerStartError,
    execute_pipeline,
    execute_pipeline_with_input,
)
from remotemedia.executors import RunOptions, open_execution
from remotemedia.executors.ray.execution import RayExecution
from remotemedia.manifest import to_graph
from remotemedia.workers import sweep
from tests.nodes import (
    Add,
    AsyncAdd,
    AsyncCount,
    AsyncRepeat,
    Count,
    FailAt,
    Hold,
    Keep,
    Repeat,
    RunningPairs,
    Tag,
)

STORE_BYTES = 100 * 2**20


class Machines:
    """Ray nodes with one processor each, known by their labels."""

    def __init__(self, labels: tuple[str, ...] | None) -> None:
        """None: there are none."""
        self.nodes: dict[str, Any] = {}
        if labels is not None:
            self._start(labels)

    def _start(self, labels: tuple[str, ...]) -> None:
        self.cluster = Cluster()
        common = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
        self.nodes = {"head": self.cluster.add_node(include_dashboard=False, **common)}
        for index, label in enumerate(labels):
            self.nodes[f"{label}{index}"] = self.cluster.add_node(
                labels={"host": label}, node_name=f"{label}{index}", **common
            )
        self.cluster.wait_for_nodes()
        ray.init(address=self.cluster.address, log_to_driver=False)

    def close(self) -> None:
        ray.shutdown()
        if self.nodes:
            self.cluster.shutdown()
        sweep.sweep(None)  # what killed pools have left, as the next pool of the user would


def at(host: str | None, *nodes: Node) -> list[Node]:
    """These nodes, on that host; None: in this process."""
    for node in nodes:
        if host is None:
            node.executor = "inline"
        else:
            node.placement = Node(host=host).placement
    return list(nodes)


class Blur(Node):
    """Large frames: each travels through an object store. Says who has made it."""

    def process(self, data: Any) -> Any:
        number, frame, makers = data
        return (number, frame + 1, (*makers, os.getpid()))


class Numbered(Node):
    """Each input twice, as large arrays that are made of it, but for every fifth."""

    def process(self, data: Any) -> Iterator[Any]:
        if data % 5:
            for index in range(2):
                yield np.full(100_000, 10 * data + index, np.int64)


class Total(Node):
    def process(self, data: Any) -> Any:
        return int(data[0]), int(data.sum())


class CannotBegin(Node):
    def initialize(self) -> None:
        raise OSError("no such model")

    def process(self, data: Any) -> Any:
        return data


def execution(nodes: list[Node], **settings: Any) -> RayExecution:
    found = open_execution(to_graph(nodes), "ray", RunOptions(config=PoolConfig(**settings), own_outputs=True))
    assert isinstance(found, RayExecution)
    return found


def host_pids(running: RayExecution) -> list[int]:
    return [member._facts.pid for member in running._members if member._facts is not None]


# -- the same as elsewhere ---------------------------------------------------------------------------------------------


def chains() -> Iterator[tuple[Callable[[], list[Node]], int]]:
    """Pipelines, and into how many islands they are cut."""

    def every_kind() -> list[Node]:
        return [*at("a", Add(1), Keep(2)), *at("b", Repeat(2), AsyncRepeat(1)), *at("a", RunningPairs(), Hold(), Tag())]

    yield every_kind, 3
    yield lambda: [Add(1), AsyncAdd(2), Repeat(3)], 1
    yield lambda: [*at("a", Repeat(2), Hold("h1")), *at(None, Tag()), *at("b", Hold("h2"))], 3
    yield lambda: [*at("a", Numbered()), *at("b", Total())], 2
    yield lambda: [*at("b", Keep(7)), *at("a", Add(1))], 2


async def numbered(running: Any, source: Any) -> list[tuple[int, Any]]:
    async with aclosing(running.stream(source)) as outputs:
        return [(number, value) async for number, value in outputs]


async def same_results(_: Machines) -> None:
    for make, islands in chains():
        options = RunOptions(own_outputs=True)
        async with open_execution(to_graph(make()), "multiprocess", options) as other:
            expected = [await numbered(other, range(40)), await numbered(other, [1, 2, 3])]
        async with execution(make()) as running:
            assert len(running._layout.islands) == islands
            found = [await numbered(running, range(40)), await numbered(running, [1, 2, 3])]  # islands stay for both
        assert found == expected, make()
        assert found[0]
    await streams_that_are_left()
    await sources_and_branches()
    await large_frames()
    await metrics_and_marks()


async def streams_that_are_left() -> None:
    async with execution([*at("a", Keep(2)), *at("b", Repeat(2))]) as running:
        for _ in range(2):
            async with aclosing(running.stream(iter(range(10**9)))) as outputs:
                assert await anext(outputs) == (0, (0, 0))
        unread = running.stream(iter(range(10**9)))
        assert await anext(unread) == (0, (0, 0))
        assert await numbered(running, [3, 4]) == [(1, (4, 0)), (1, (4, 1))]


async def sources_and_branches() -> None:
    for make in (Count, AsyncCount):
        nodes = lambda make=make: [*at("a", make(50)), *at("b", Keep(3))]
        assert await execute_pipeline(nodes(), executor="ray", in_flight_frames=4) == list(range(0, 50, 3))
    hosts = {"in": "a", "left": "b", "right": "b", "out": "a"}
    manifest = {
        "version": "v1",
        "nodes": [
            {"id": each, "node_type": "tests.nodes:Tag", "params": {"name": each}, "host": host}
            for each, host in hosts.items()
        ],
        "connections": [
            {"from": "in", "to": "right"},
            {"from": "in", "to": "left"},
            {"from": "right", "to": "out"},
            {"from": "left", "to": "out"},
        ],
    }
    outputs = await execute_pipeline(manifest, [1, 2], executor="ray")
    assert outputs == [("out", (way, ("in", value))) for value in (1, 2) for way in ("right", "left")]


async def large_frames() -> None:
    frames = [(number, np.full((1000, 1000), number, np.uint8), ()) for number in range(40)]
    outputs = await execute_pipeline([*at("a", Blur("x")), *at("b", Blur("y"))], frames, executor="ray")
    assert [number for number, _, _ in outputs] == list(range(40))
    for number, frame, _ in outputs:
        assert frame.flags.writeable
        assert (frame == number + 2).all()
    assert len({makers for _, _, makers in outputs}) == 1
    assert len(set(outputs[0][2])) == 2


async def metrics_and_marks() -> None:
    class Marked(Add):
        executor = "multiprocess"

    nodes = [*at("a", Marked(1)), *at("b", Keep(2))]
    result = await execute_pipeline(nodes, list(range(10)), executor="ray", enable_metrics=True)
    assert result["outputs"] == [2, 4, 6, 8, 10]
    assert await execute_pipeline_with_input(nodes, [1, 2, 3], executor="ray") == [2, None, 4]
    found = [(each["node_id"], each["calls"], each["errors"]) for each in result["metrics"]["node_metrics"]]
    assert found == [("Marked", 10, 0), ("Keep", 10, 0)]
    async with Pipeline([Add(1), Add(1)]) as pipeline:
        assert await pipeline.run([1]) == [3]


async def alone(_: Machines) -> None:
    """No cluster is there: one is started for the call, and ends with it."""
    nodes = [Add(1), Repeat(2)]
    for _ in range(2):
        found = await execute_pipeline(nodes, [1, 2], executor="ray", ray_address="local")
        assert found == [(2, 0), (2, 1), (3, 0), (3, 1)]
        assert not ray.is_initialized()


# -- errors ------------------------------------------------------------------------------------------------------------


async def outcome(nodes: list[Node], source: Any, executor: str) -> tuple[list[Any], BaseException]:
    """What came before the error, and the error."""
    found: list[Any] = []
    options = RunOptions(own_outputs=True)
    async with open_execution(to_graph(nodes), executor, options) as running:
        try:
            async with aclosing(running.stream(source)) as outputs:
                async for number, value in outputs:
                    found.append((number, value))
        except Exception as error:
            return found, error
    raise AssertionError("there was no error")


async def errors(_: Machines) -> None:
    def failing(kind: type[BaseException]) -> list[Node]:
        return [*at("a", Keep(2)), *at("b", FailAt(6, kind("six"))), *at("a", Repeat(2))]

    for kind in (ValueError, KeyError):
        found, error = await outcome(failing(kind), list(range(20)), "ray")
        expected, other = await outcome(failing(kind), list(range(20)), "multiprocess")
        assert found == expected == [(n, (n, i)) for n in (0, 2, 4) for i in range(2)]
        assert type(error) is type(other) is NodeProcessError
        assert (error.node, error.frame) == (other.node, other.frame) == ("FailAt", 6)
        assert type(error.__cause__) is kind
        assert "frame 6" in str(error)
    for node, kind, text in (
        (CannotBegin(host="b"), NodeInitializeError, "no such model"),
        (Add(1, host="nowhere"), ConfigurationError, "no host.*nowhere.*head|nowhere.*there are"),
        (FailAt(lambda: 0, ValueError(i for i in ())), SerializationError, "FailAt"),
    ):
        with raises(kind, text):
            await execute_pipeline([*at("a", Add(1)), node], [1], executor="ray")

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("source")

    with raises(LookupError, "source"):
        await execute_pipeline([Add(1)], broken(), executor="ray")
    with raises(ConfigurationError, "Ray Client"):
        await execute_pipeline([Add(1)], [1], executor="ray", ray_address="ray://here:1")
    with raises(ConfigurationError, "has joined"):
        await execute_pipeline([Add(1)], [1], executor="ray", ray_address="10.0.0.1:1")
    unplaceable = [Add(1, resources={"unobtainium": 1})]
    with raises(WorkerStartError, r"not started by Ray.*unobtainium"):
        brief = remotemedia.Timeouts(hello_s=0.5, load_s=0.5, initialize_s=0.5)
        await execute_pipeline(unplaceable, [1], executor="ray", timeouts=brief)


@contextlib.contextmanager
def raises(kind: type[BaseException], text: str) -> Iterator[None]:
    import pytest

    with pytest.raises(kind, match=f"(?s){text}"):
        yield


# -- deaths ------------------------------------------------------------------------------------------------------------


async def through_deaths(
    nodes: list[Node], kill: dict[int, Callable[[RayExecution, list[Any]], Awaitable[None] | None]], **settings: Any
) -> tuple[list[Any], RayExecution]:
    """Stream 120 large frames; before the input of each number in `kill`, that is done to the running execution."""
    found: list[Any] = []
    arrived = asyncio.Event()
    settings = {"restart": RestartPolicy(max_restarts=20, backoff_s=(0.01, 0.1)), **settings}
    async with execution(nodes, **settings) as running:

        async def source() -> AsyncIterator[Any]:
            for number in range(120):
                if number in kill:
                    while len(found) < number - 8:  # in the middle of things
                        arrived.clear()
                        await arrived.wait()
                    done = kill[number](running, found)
                    if done is not None:
                        await done
                yield (number, np.full(50_000, number % 50, np.int64), ())

        async with aclosing(running.stream(source())) as outputs:
            async for _, value in outputs:
                found.append(value)
                arrived.set()
        restarts = [metrics["restarts"] for metrics in running.metrics()]
    assert [number for number, _, _ in found] == list(range(120))
    assert all((frame == number % 50 + len(makers)).all() for number, frame, makers in found)
    return restarts, running


def kill_host(index: int) -> Callable[[RayExecution, list[Any]], None]:
    return lambda running, _: os.kill(host_pids(running)[index], signal.SIGKILL)


def kill_worker(index: int) -> Callable[[RayExecution, list[Any]], None]:
    return lambda _, found: os.kill(found[-1][2][index], signal.SIGKILL)


def three() -> list[Node]:
    return [*at("a", Blur("x"), Blur("y")), *at("b", Blur("z"))]


async def actors_die(_: Machines) -> None:
    restarts, _running = await through_deaths(three(), {30: kill_host(0), 50: kill_host(1), 90: kill_host(0)})
    assert restarts == [2, 2, 1]

    def both(running: RayExecution, found: list[Any]) -> None:
        kill_host(0)(running, found)
        kill_host(1)(running, found)

    restarts, _running = await through_deaths(three(), {60: both})
    assert restarts == [1, 1, 1]
    with raises(WorkerDied, r"'x, y'.*while processing frame \d+.*Ray actor"):
        await through_deaths(three(), {30: kill_host(0)}, restart=None)
    with raises(RestartLimitExceeded, r"'z'.*after 1 restarts"):
        once = RestartPolicy(max_restarts=1)
        await through_deaths(three(), {30: kill_host(1), 60: kill_host(1)}, restart=once)


async def workers_die(_: Machines) -> None:
    restarts, _running = await through_deaths(three(), {30: kill_worker(1), 60: kill_worker(2), 90: kill_worker(0)})
    assert restarts == [1, 1, 1]
    with raises(WorkerDied, r"node '[xy]'.*SIGKILL"):
        await through_deaths(three(), {30: kill_worker(0)}, restart=RestartPolicy.never())


async def hosts_die(machines: Machines) -> None:
    """There are two hosts `b`; the one in use is removed, and then the other as well."""

    async def remove_b(running: RayExecution, _: list[Any]) -> None:
        pid = host_pids(running)[1]
        (name,) = [each for each, node in machines.nodes.items() if _hosts(node, pid)]
        end = os.pidfd_open(pid)
        await asyncio.to_thread(machines.cluster.remove_node, machines.nodes.pop(name), allow_graceful=False)
        await asyncio.to_thread(select.select, [end], [], [])
        os.close(end)
        # At once, because tests that run beside this one would take what is left for their own.
        await asyncio.to_thread(sweep.sweep, None)

    restarts, _running = await through_deaths(three(), {60: remove_b})
    assert restarts[:2] == [0, 0]
    assert restarts[2] >= 1
    with raises((WorkerStartError, RestartLimitExceeded), "'z'"):
        await through_deaths(three(), {60: remove_b})


def _hosts(node: Any, pid: int) -> bool:
    """Whether the process is one of this Ray node's."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return any(info.process.pid == parent for infos in node.all_processes.values() for info in infos)


SCENARIOS: dict[str, tuple[Callable[[Machines], Awaitable[None]], tuple[str, ...] | None]] = {
    "alone": (alone, None),
    "same_results": (same_results, ("a", "b")),
    "errors": (errors, ("a", "b")),
    "actors_die": (actors_die, ("a", "b")),
    "workers_die": (workers_die, ("a", "b")),
    "hosts_die": (hosts_die, ("a", "b", "b")),
}


def main() -> None:
    scenario, labels = SCENARIOS[sys.argv[1]]
    machines = Machines(labels)
    try:
        asyncio.run(scenario(machines))
    finally:
        machines.close()
    print("passed")


if __name__ == "__main__":
    main()
