"""Ray alone: one actor per stage, half of them on a second host, each given a reference to what the one before made."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.peers.base import AwaitedContestant
from benchmarks.peers.ray_machines import RayMachines, host_of
from benchmarks.work import Array, Work

_HOSTS = 2


class Stage:
    """An actor."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def apply(self, frame: Array) -> Array:
        return self._work.result_for(frame, np.empty_like)


class RayHosts(AwaitedContestant):
    async def start(self, stages: int, work: Work, size: int) -> None:
        self._machines = machines = RayMachines(_HOSTS)  # not in a thread: Ray sets a signal handler
        self._stages = []
        for stage in range(stages):
            node_id = machines.node_ids[host_of(stage, stages, _HOSTS)]
            where = NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
            self._stages.append(ray.remote(Stage).options(num_cpus=0, scheduling_strategy=where).remote(work))

    def send(self, frame: Array) -> Any:
        reference = ray.put(frame)
        for stage in self._stages:
            reference = stage.apply.remote(reference)
        return reference

    async def stop(self) -> None:
        for stage in self._stages:
            ray.kill(stage)
        self._machines.close()
