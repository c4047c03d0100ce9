"""The contestants, by the names that the tables show: one adapter each, behind one interface (`base.Contestant`)."""

from __future__ import annotations

import importlib

from benchmarks.peers.base import Contestant

OURS = "remotemedia"
NEVER = "remotemedia, no restarts"
ICEORYX2 = "iceoryx2 + event"
EZMSG = "ezmsg"
MP_QUEUE = "multiprocessing.Queue"

_ADAPTERS = {
    OURS: "benchmarks.peers.ours:RemoteMedia",
    NEVER: "benchmarks.peers.ours:WithoutRestarts",
    ICEORYX2: "benchmarks.peers.iceoryx2_event:Iceoryx2Event",
    "shared-memory ring": "benchmarks.peers.shm_ring:SharedMemoryRing",
    EZMSG: "benchmarks.peers.ezmsg_units:EzmsgUnits",
    "pyzmq ipc": "benchmarks.peers.zmq_ipc:ZmqIpc",
    "multiprocessing.Pipe": "benchmarks.peers.mp_pipe:MultiprocessingPipe",
    MP_QUEUE: "benchmarks.peers.mp_queue:MultiprocessingQueue",
}

ONE_ISLAND = "remotemedia on Ray, one island"
TWO_ISLANDS = "remotemedia on Ray, two islands"
RAY_ACTORS = "plain Ray actors"

_ON_RAY = {
    ONE_ISLAND: "benchmarks.peers.ray_islands:OneIsland",
    TWO_ISLANDS: "benchmarks.peers.ray_islands:TwoIslands",
    RAY_ACTORS: "benchmarks.peers.ray_actors:RayActors",
}
"""They take part in W5 only, and only where Ray is installed."""

CONTESTANTS = tuple(_ADAPTERS)
QUICK_CONTESTANTS = (OURS, NEVER, ICEORYX2, EZMSG)
"""Those that the targets of W1 and W2 compare."""


def contestants(is_quick: bool) -> tuple[str, ...]:
    """Who takes part in W1 and W2."""
    return QUICK_CONTESTANTS if is_quick else CONTESTANTS


def load(name: str) -> Contestant:
    """A new contestant. Raises ImportError if what it measures is not installed."""
    module, _, attribute = (_ADAPTERS | _ON_RAY)[name].partition(":")
    contestant: Contestant = getattr(importlib.import_module(module), attribute)()
    return contestant
