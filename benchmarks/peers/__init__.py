"""The contestants, by the names that the tables show: one adapter each, behind one interface (`base.Contestant`)."""

from __future__ import annotations

import importlib

from benchmarks.peers.base import Contestant

OURS = "remotemedia"
NEVER = "remotemedia, no restarts"
SPINNING = "remotemedia, spin_us=100"
ONE_CORE = "remotemedia, one core"
SPARE = "remotemedia, warm spare"
ICEORYX2 = "iceoryx2 + event"
RING = "shared-memory ring"
EZMSG = "ezmsg"
MP_QUEUE = "multiprocessing.Queue"
EXECUTOR = "ProcessPoolExecutor"
TORCH = "torch.multiprocessing.Queue"
DORA, DORA_DEFAULTS = "dora, backpressure", "dora"
RAY_ACTORS, RAY_GRAPH = "Ray actors", "Ray compiled graph"

_ADAPTERS = {
    OURS: "benchmarks.peers.ours:RemoteMedia",
    NEVER: "benchmarks.peers.ours:WithoutRestarts",
    SPINNING: "benchmarks.peers.ours:Spinning",
    ONE_CORE: "benchmarks.peers.ours:OneCore",
    SPARE: "benchmarks.peers.ours:WithWarmSpare",
    ICEORYX2: "benchmarks.peers.iceoryx2_event:Iceoryx2Event",
    RING: "benchmarks.peers.shm_ring:SharedMemoryRing",
    EZMSG: "benchmarks.peers.ezmsg_units:EzmsgUnits",
    "pyzmq ipc": "benchmarks.peers.zmq_ipc:ZmqIpc",
    "multiprocessing.Pipe": "benchmarks.peers.mp_pipe:MultiprocessingPipe",
    MP_QUEUE: "benchmarks.peers.mp_queue:MultiprocessingQueue",
    TORCH: "benchmarks.peers.torch_queue:TorchQueue",
    "multiprocessing.Pool": "benchmarks.peers.mp_pool:MultiprocessingPool",
    EXECUTOR: "benchmarks.peers.process_pool_executor:ProcessPools",
    "loky": "benchmarks.peers.loky_executor:LokyExecutor",
    "MPIRE": "benchmarks.peers.mpire_pool:MpirePool",
    "zenoh shared memory": "benchmarks.peers.zenoh_shm:ZenohSharedMemory",
    DORA: "benchmarks.peers.dora_dataflow:DoraDataflow",
    DORA_DEFAULTS: "benchmarks.peers.dora_dataflow:DoraDefaults",
    RAY_ACTORS: "benchmarks.peers.ray_actors:RayActors",
    RAY_GRAPH: "benchmarks.peers.ray_actors:RayCompiledGraph",
}

ONE_ISLAND = "remotemedia on Ray, one island"
TWO_ISLANDS = "remotemedia on Ray, two islands"
RAY_HOSTS = "Ray actors on two hosts"

_ON_RAY = {
    ONE_ISLAND: "benchmarks.peers.ray_islands:OneIsland",
    TWO_ISLANDS: "benchmarks.peers.ray_islands:TwoIslands",
    RAY_HOSTS: "benchmarks.peers.ray_hosts:RayHosts",
}
"""They take part in the question of hosts only, and only where Ray is installed."""

BUSY_WHILE_IDLE = frozenset({RAY_ACTORS, RAY_GRAPH, *_ON_RAY})
"""Contestants whose processes do not sleep when nothing is sent: the others must not have to share the cores with them.
"""

ONE_IN_FLIGHT = (SPINNING, ONE_CORE, DORA_DEFAULTS)
"""Of W1 alone: settings for one frame in flight."""
CONTESTANTS = tuple(name for name in _ADAPTERS if name not in (*ONE_IN_FLIGHT, SPARE))
"""Of W1 and W2."""
QUICK_CONTESTANTS = (OURS, ICEORYX2, EZMSG)
"""Those that the targets of W1 and W2 compare."""


def contestants(is_quick: bool) -> tuple[str, ...]:
    """Who takes part in W1 and W2."""
    return QUICK_CONTESTANTS if is_quick else CONTESTANTS


def load(name: str) -> Contestant:
    """A new contestant. Raises ImportError if what it measures is not installed."""
    module, _, attribute = (_ADAPTERS | _ON_RAY)[name].partition(":")
    contestant: Contestant = getattr(importlib.import_module(module), attribute)()
    return contestant
