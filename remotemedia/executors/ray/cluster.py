"""Joining a Ray cluster, the hosts in it, and actors on them."""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from remotemedia.core.exceptions import ConfigurationError, PipelineError
from remotemedia.core.node import Node
from remotemedia.executors.ray.island_pool import IslandPool, IslandSpec
from remotemedia.executors.ray.islands import Demand, Host

_RAYS_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU"}


class Cluster:
    """The cluster that this process has joined."""

    def __init__(self, *, is_ours: bool) -> None:
        """`is_ours`: it was joined here, and is to be left again."""
        self._is_ours = is_ours

    @classmethod
    def join(cls, address: str | None) -> Cluster:
        """Join the cluster at `address`, see PoolConfig.ray_address. Raises ConfigurationError, PipelineError."""
        if address is not None and address.startswith("ray://"):
            raise ConfigurationError(
                f"ray_address={address!r}: the Ray Client cannot carry frames; run the program on a host of the "
                "cluster, with ray_address='auto'"
            )
        if ray.is_initialized():
            _refuse_another(address)
            return cls(is_ours=False)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = "" if address is None else f" at ray_address={address!r}"
            raise PipelineError(f"no Ray cluster could be joined{where}: {error}") from error
        return cls(is_ours=True)

    def leave(self) -> None:
        if self._is_ours:
            ray.shutdown()

    def hosts(self) -> list[Host]:
        """Those that are alive now."""
        return [
            Host(facts["NodeID"], _names(facts), dict(facts.get("Resources", {})))
            for facts in ray.nodes()
            if facts["Alive"]
        ]

    def start(self, spec: IslandSpec, demand: Demand, *, avoid: str = "") -> Any:
        """The handle of a new actor for an island; it need not run yet. `avoid`: a host that is taken only if there is
        no other. Raises ConfigurationError if no host has the name that the island wants.
        """
        others = {name: amount for name, amount in demand.resources.items() if name not in ("CPU", "GPU", "memory")}
        options: dict[str, Any] = {
            "num_cpus": demand.resources.get("CPU", 0),
            "num_gpus": demand.resources.get("GPU", 0),
            "resources": others,
            "max_restarts": 0,
        }
        if "memory" in demand.resources:
            options["memory"] = demand.resources["memory"]
        if demand.host is not None:
            options["scheduling_strategy"] = self._on_host(demand, avoid)
        return ray.remote(IslandPool).options(**options).remote(spec)

    def _on_host(self, demand: Demand, avoid: str) -> NodeAffinitySchedulingStrategy:
        hosts = self.hosts()
        called = [host for host in hosts if demand.host in host.names]
        if not called:
            known = ", ".join(sorted({name for host in hosts for name in host.names}))
            raise ConfigurationError(
                f"no host of the Ray cluster is called {demand.host!r}; there are {known}. A host is known by its node "
                "name, host name and address, and by its label `host` (ray start --labels host=...)"
            )
        best = min(called, key=lambda host: (not host.has(demand), host.host_id == avoid, host.host_id))
        return NodeAffinitySchedulingStrategy(node_id=best.host_id, soft=False)


def demand_of(node: Node, place: str) -> Demand:
    """What a node needs that is to run at `place`, by Ray's names."""
    if place == "inline":
        return Demand(is_local=True)
    if node.placement is None:
        return Demand()
    resources = {_RAYS_NAMES.get(name, name): amount for name, amount in node.placement.resources.items() if amount}
    return Demand(host=node.placement.host, resources=resources)


def _names(facts: dict[str, Any]) -> frozenset[str]:
    label = (facts.get("Labels") or {}).get("host")
    names = (facts.get("NodeName"), facts.get("NodeManagerHostname"), facts.get("NodeManagerAddress"), label)
    return frozenset(name for name in names if name)


def _refuse_another(address: str | None) -> None:
    joined = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", joined):
        raise ConfigurationError(
            f"ray_address={address!r}: this program has joined the Ray cluster at {joined!r} already; leave it "
            "out, or call ray.shutdown() first"
        )
