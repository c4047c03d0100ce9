"""Workers die at every point of their life and of the frame loop, in the first, a middle and the last stage.

With a restart policy all outputs come, once and in order, and the state of the nodes shows that each frame was counted
once. Without one the pool fails with an error that names the node and how it died.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_nodes import Counting
from fault_tools import Place, Script, collect, soon, until

from remotemedia.config import PoolConfig, RestartPolicy, Timeouts
from remotemedia.core.exceptions import NodeProcessError, WorkerDied, WorkerError, WorkerStartTimeout
from remotemedia.core.graph import Graph
from remotemedia.events import Died
from remotemedia.executors.base import RunOptions
from remotemedia.executors.inline import InlineExecution
from remotemedia.testing.faults import POINTS, VARIABLE
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.sweep import sweep

NAMES = ("first", "middle", "last")
FRAMES = 150
LOOP = [point for point in POINTS if point.startswith("loop.")]
ONLY_WITH_RESTART = {"loop.acknowledged", "loop.snapshot"}
DEADLY = {"kill": "SIGKILL", "segv": "SIGSEGV", "abort": "SIGABRT", "exit:0": 0, "exit:3": 3}
AGAIN = RestartPolicy(max_restarts=1000, max_attempts=1000, backoff_s=(0.01, 0.02))


def nodes() -> list[Any]:
    return [Counting(place, name) for place, name in enumerate(NAMES)]


def frames(count: int = FRAMES) -> list[Any]:
    return [np.full(512, number) for number in range(count)]


async def expected(count: int = FRAMES) -> list[Any]:
    graph = Graph.chain(nodes())
    outputs: list[Any] = []
    async with InlineExecution(graph, graph.with_executor("inline"), RunOptions()) as execution:
        await collect((value async for _, value in execution.stream(frames(count))), outputs)
    return outputs


def config(policy: RestartPolicy) -> PoolConfig:
    return PoolConfig(restart=policy, snapshot_frames=4)


def same(got: Sequence[Any], wanted: Sequence[Any]) -> bool:
    return len(got) == len(wanted) and all((one == other).all() for one, other in zip(got, wanted, strict=True))


async def outputs_with(
    faults: str, monkeypatch: pytest.MonkeyPatch, policy: RestartPolicy = AGAIN, count: int = FRAMES
) -> tuple[list[Any], list[int]]:
    """The outputs of a pool with these faults, and the last generation of each worker."""
    monkeypatch.setenv(VARIABLE, faults)
    outputs: list[Any] = []
    async with WorkerPool(nodes(), config=config(policy)) as pool:
        await collect(pool.stream(frames(count)), outputs)
        generations = [worker.generation for worker in pool.snapshot().workers]
    return outputs, generations


# -- in every generation somewhere else: the ordinary run --------------------------------------------------------------


def chain_of_deaths(seed: int, actions: Sequence[str], points: Sequence[str]) -> tuple[str, int]:
    """Faults by which every worker dies at all of `points`, one in each generation; how many generations that takes.

    `loop.draining`, which is only reached at the end, comes last.
    """
    dice = random.Random(seed)
    faults = []
    for name in NAMES:
        order = [point for point in points if point != "loop.draining"]
        dice.shuffle(order)
        order += [point for point in points if point == "loop.draining"]
        for generation, point in enumerate(order):
            # Once is enough where inputs are acknowledged by the dozen: something must be left for the others.
            nth = 1 if point in ONLY_WITH_RESTART | {"loop.draining"} else dice.randint(1, 3)
            faults.append(f"{point}:{dice.choice(actions)}@{nth} node={name} generation={generation}")
    return ", ".join(faults), len(points)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "actions",
    [
        pytest.param(["kill"], id="killed", marks=pytest.mark.slow),
        pytest.param(["segv", "abort", "exit:0", "exit:3"], id="crashed"),
    ],
)
async def test_every_worker_dies_at_every_point(
    actions: list[str], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, deaths = chain_of_deaths(len(actions), actions, LOOP)
    outputs, generations = await outputs_with(faults, monkeypatch)
    assert generations == [deaths] * 3
    assert same(outputs, await expected())


@pytest.mark.timeout(120)
async def test_a_successor_that_dies_before_it_is_ready_is_replaced_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ["child.boot", "child.loaded", "child.initialized"]
    faults = [f"loop.processing:kill@5 node={name} generation=0" for name in NAMES]
    faults += [
        f"{point}:kill node={name} generation={generation + 1}"
        for name in NAMES
        for generation, point in enumerate(points)
    ]
    outputs, generations = await outputs_with(", ".join(faults), monkeypatch)
    assert generations == [4] * 3
    assert same(outputs, await expected())


QUICK = [
    *[("kill", point, dice % 3) for dice, point in enumerate(LOOP) if point not in ONLY_WITH_RESTART],
    ("segv", "loop.half_written", 2),
    ("exit:0", "loop.sent", 1),
]


async def check_never(action: str, point: str, position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    name = NAMES[position]
    monkeypatch.setenv(VARIABLE, f"{point}:{action} node={name}")
    outputs: list[Any] = []
    async with WorkerPool(nodes(), config=config(RestartPolicy.never())) as pool:
        pid = pool.snapshot().workers[position].pid
        with pytest.raises(WorkerDied) as caught:
            await collect(pool.stream(frames(20)), outputs)
    error = caught.value
    assert (error.node, error.worker_id, error.generation, error.pid) == (name, position, 0, pid)
    assert DEADLY[action] in {error.signal, error.exit_code}
    assert same(outputs, (await expected(20))[: len(outputs)])


@pytest.mark.parametrize(("action", "point", "position"), QUICK)
async def test_without_restart_the_error_names_node_and_signal(
    action: str, point: str, position: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_never(action, point, position, monkeypatch)


@pytest.mark.parametrize("point", ["child.boot", "child.loaded", "child.initialized"])
async def test_a_first_worker_that_dies_before_it_is_ready_is_not_replaced(
    point: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{point}:kill node=middle")
    pool = WorkerPool(nodes(), config=config(AGAIN))
    with pytest.raises(WorkerError) as caught:
        await pool.start()
    assert (caught.value.node, caught.value.generation) == ("middle", 0)
    assert "SIGKILL" in str(caught.value)


@pytest.mark.parametrize("point", ["child.cleanup", "loop.acknowledged"])
async def test_what_happens_after_the_last_output_harms_nobody(
    point: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = ", ".join(f"{point}:kill node={name} generation=0" for name in NAMES)
    outputs, _ = await outputs_with(faults, monkeypatch)
    assert same(outputs, await expected())


async def test_an_injected_exception_is_one_of_the_node(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "loop.borrowed:raise@3 node=middle")
    async with WorkerPool(nodes(), config=config(AGAIN)) as pool:
        with pytest.raises(NodeProcessError, match="FaultInjected") as caught:
            await collect(pool.stream(frames(20)), [])
        assert (caught.value.node, caught.value.frame) == ("middle", 2)


async def kill_when_stopped(pid: int) -> None:
    def is_stopped() -> bool:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    await soon(is_stopped, "the worker to stop itself")
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_worker_that_stopped_itself_is_killed(
    position: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"loop.loaned:stop@2 node={NAMES[position]} generation=0")
    outputs: list[Any] = []
    async with WorkerPool(nodes(), config=config(AGAIN)) as pool:
        pid = pool.snapshot().workers[position].pid
        assert pid is not None
        await asyncio.gather(collect(pool.stream(frames()), outputs), kill_when_stopped(pid))
    assert same(outputs, await expected())


# -- the GIL is held in C for ever: nothing of Python runs in that worker any more -------------------------------------

IMPATIENT = Timeouts(heartbeat_s=0.1, unresponsive_warn_s=1.0, unresponsive_s=2.0, stop_s=2.0)
QUICK_HANGS = [("loop.half_written", 1), ("child.cleanup", 2)]
HANGS = [*((point, dice % 3) for dice, point in enumerate(LOOP)), ("child.cleanup", 0)]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("point", "position"), [*QUICK_HANGS, *(pytest.param(*case, marks=pytest.mark.slow) for case in HANGS)]
)
async def test_a_worker_that_holds_the_gil_for_ever(
    point: str, position: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{point}:hang_gil node={NAMES[position]} generation=0")
    outputs: list[Any] = []
    deaths: list[Died] = []
    async with WorkerPool(nodes(), config=replace(config(AGAIN), timeouts=IMPATIENT)) as pool:
        pool.on_event(lambda event: deaths.append(event) if isinstance(event, Died) else None)
        await collect(pool.stream(frames()), outputs)
        generations = [worker.generation for worker in pool.snapshot().workers]
    assert same(outputs, await expected())
    (death,) = deaths
    assert (death.node, death.generation) == (NAMES[position], 0)
    assert "in _hang_gil" in death.reason  # the stacks are written although nothing of Python runs
    if point.startswith("loop."):
        assert generations == [int(i == position) for i in range(3)]
        assert "gave no sign of life" in death.reason
    else:
        assert generations == [0, 0, 0]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("point", "state"),
    [
        pytest.param("child.boot", "spawned", marks=pytest.mark.slow),
        pytest.param("child.loaded", "loading", marks=pytest.mark.slow),
        ("child.initialized", "initializing"),
    ],
)
@pytest.mark.parametrize("generation", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_start_that_holds_the_gil_for_ever(
    point: str, state: str, generation: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again, whichever generation it is."""
    faults = f"loop.processing:kill node=middle generation=0, {point}:hang_gil node=middle generation={generation}"
    monkeypatch.setenv(VARIABLE, faults)
    hasty = replace(IMPATIENT, hello_s=5.0, load_s=5.0, initialize_s=2.0)
    pool = WorkerPool(nodes(), config=replace(config(AGAIN), timeouts=hasty))
    with pytest.raises(WorkerStartTimeout, match=f"was still {state} when its time was up") as caught:
        async with pool:
            await collect(pool.stream(frames()), [])
    error = caught.value
    assert (error.node, error.worker_id, error.generation) == ("middle", 1, generation)
    assert "in _hang_gil" in error.stacks


# -- the coordinator dies at its own points ----------------------------------------------------------------------------

COORDINATOR = """
import asyncio
from fault_nodes import *
from remotemedia import PoolConfig, RestartPolicy, WorkerPool

async def main():
    async with WorkerPool([Pass("first"), {victim}, Pass("last")], config=PoolConfig(restart=RestartPolicy())) as pool:
        async for _ in pool.stream(range(100)):
            pass

asyncio.run(main())
"""
DIES = "Faulty(kill, at=50, name='middle')"  # of it the coordinator has something to reap and to sweep

PARENT_POINTS = [
    ("parent.spawned:kill node=first", DIES),
    ("parent.spawned:kill node=last", DIES),
    ("parent.reaping:kill node=middle", DIES),
    ("parent.sweeping:kill node=middle", DIES),
    ("parent.spawned:kill node=middle generation=1", DIES),
    ("parent.reaping:kill node=first", "Pass('middle')"),  # in its turn, when the pool is closed
    ("parent.sweeping:kill node=last", "Pass('middle')"),
]


@pytest.mark.parametrize(("fault", "victim"), PARENT_POINTS, ids=[fault for fault, _ in PARENT_POINTS])
async def test_the_coordinator_is_killed_at_its_own_points(
    fault: str, victim: str, place: Place, run_script: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = run_script(COORDINATOR.format(victim=victim), REMOTEMEDIA_FAULTS=fault)
    assert script.wait() == -signal.SIGKILL, script.stderr
    until(lambda: not place.processes(), "no worker to be alive")
    assert len(place.pool_ids()) <= 1  # none if another pool of this user was quicker
    sweep(str(place.path))  # what the next start does first
    assert place.leftovers() == []


# -- the whole of it ---------------------------------------------------------------------------------------------------

CASES = [
    (action, point, position, restarts)
    for action in (*DEADLY, "sleep:0.05")
    for point in LOOP
    for position in range(3)
    for restarts in (True, False)
    if restarts or point not in ONLY_WITH_RESTART
]
random.Random(1).shuffle(CASES)


@pytest.mark.slow
@pytest.mark.parametrize(("action", "point", "position", "restarts"), CASES)
async def test_the_whole_matrix(
    action: str, point: str, position: int, *, restarts: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if action in DEADLY and not restarts:
        await check_never(action, point, position, monkeypatch)
        return
    policy = AGAIN if restarts else RestartPolicy.never()
    faults = f"{point}:{action} node={NAMES[position]} generation=0"
    # What fits into the queues need not be acknowledged before the end.
    count = FRAMES if point in ONLY_WITH_RESTART else 20
    outputs, generations = await outputs_with(faults, monkeypatch, policy, count)
    assert generations == [int(action in DEADLY and i == position) for i in range(3)]
    assert same(outputs, await expected(count))
