"""Ray: an actor for each stage. References handed from actor to actor, and the same actors as a compiled graph."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_CGRAPH_teardown_timeout", "2")  # it waits for actors that never answer, by default 30 s
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else it writes a token into the user's home

import ray
from ray.dag import InputNode

from benchmarks.peers.base import AwaitedContestant, BlockingContestant, Contestant
from benchmarks.work import KIB, MIB, WINDOW, Array, Work

STORE_BYTES = 512 * MIB


class Stage:
    def __init__(self, work: Work) -> None:
        self._work = work

    def process(self, frame: Array) -> Array:
        return self._work.result_for(frame, lambda given: given.copy())  # what arrives is read-only

    def pid(self) -> int:
        return os.getpid()


class RayChain(Contestant):
    _actors: list[Any]

    def start_actors(self, stages: int, work: Work) -> None:
        actor: Any = ray.remote(num_cpus=0)(Stage)
        directory = f"{tempfile.gettempdir()}/ray"
        ray.init(include_dashboard=False, log_to_driver=False, object_store_memory=STORE_BYTES, _temp_dir=directory)
        self._actors = [actor.remote(work) for _ in range(stages)]
        self._pids: list[int] = ray.get([actor.pid.remote() for actor in self._actors])

    def stage_pids(self) -> Sequence[int]:
        return self._pids

    async def stop(self) -> None:
        ray.shutdown()


class RayActors(RayChain, AwaitedContestant):
    async def start(self, stages: int, work: Work, size: int) -> None:
        self.start_actors(stages, work)

    def send(self, frame: Array) -> Any:
        value: Any = frame
        for actor in self._actors:
            value = actor.process.remote(value)
        return value


class RayCompiledGraph(RayChain, BlockingContestant):
    async def start(self, stages: int, work: Work, size: int) -> None:
        self.start_actors(stages, work)
        with InputNode() as entry:
            node: Any = entry
            for actor in self._actors:
                node = actor.process.bind(node)
        self._graph = node.experimental_compile(
            _max_inflight_executions=WINDOW, _buffer_size_bytes=size + 64 * KIB
        )  # fmt: skip
        self._under_way: deque[Any] = deque()

    def send(self, frame: Array) -> None:
        self._under_way.append(self._graph.execute(frame))

    def receive(self) -> Array:
        result: Array = ray.get(self._under_way.popleft())
        return result

    async def stop(self) -> None:
        self._graph.teardown(kill_actors=True)
        await super().stop()
