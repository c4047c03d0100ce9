"""Ray nodes on this machine, for the contestants that run on Ray."""

from __future__ import annotations

import os
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

_STORE_BYTES = 200 * 2**20


class RayMachines:
    """Some Ray nodes, whose labels `host` are "0", "1", ... This process has joined them."""

    def __init__(self, count: int) -> None:
        here = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(here)  # what Ray starts imports the benchmarks by that
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._cluster = Cluster()
        for number in range(count):
            self._cluster.add_node(
                num_cpus=1,
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                labels={"host": str(number)},
            )
        ray.init(address=self._cluster.address, log_to_driver=False)
        ids = {facts["Labels"]["host"]: facts["NodeID"] for facts in ray.nodes()}
        self.node_ids = [ids[str(number)] for number in range(count)]

    def close(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


def host_of(stage: int, stages: int, hosts: int) -> int:
    """Where a stage runs, if each host has a run of neighbours."""
    return stage * hosts // stages
