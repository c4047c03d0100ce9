"""The contestants, by the names that the tables show: one adapter each, behind one interface (`base.Contestant`)."""

from __future__ import annotations

import importlib

from benchmarks.peers.base import Contestant

OURS = "remotemedia"
NEVER = "remotemedia, no restarts"
SPINNING = "remotemedia, spin_us=100"
ONE_CORE = "remotemedia, one core"
ICEORYX2 = "iceoryx2 + event"
EZMSG = "ezmsg"
MP_QUEUE = "multiprocessing.Queue"

_ADAPTERS = {
    OURS: "benchmarks.peers.ours:RemoteMedia",
    NEVER: "benchmarks.peers.ours:WithoutRestarts",
    SPINNING: "benchmarks.peers.ours:Spinning",
    ONE_CORE: "benchmarks.peers.ours:OneCore",
    ICEORYX2: "benchmarks.peers.iceoryx2_event:Iceoryx2Event",
    "shared-memory ring": "benchmarks.peers.shm_ring:SharedMemoryRing",
    EZMSG: "benchmarks.peers.ezmsg_units:EzmsgUnits",
    "pyzmq ipc": "benchmarks.peers.zmq_ipc:ZmqIpc",
    "multiprocessing.Pipe": "benchmarks.peers.mp_pipe:MultiprocessingPipe",
    MP_QUEUE: "benchmarks.peers.mp_queue:MultiprocessingQueue",
}

CONTESTANTS = tuple(name for name in _ADAPTERS if name not in (SPINNING, ONE_CORE))
ONE_IN_FLIGHT = (SPINNING, ONE_CORE)
"""Of W1 alone: settings for one frame in flight."""
QUICK_CONTESTANTS = (OURS, NEVER, ICEORYX2, EZMSG)
"""Those that the targets of W1 and W2 compare."""


def contestants(is_quick: bool) -> tuple[str, ...]:
    """Who takes part in W1 and W2."""
    return QUICK_CONTESTANTS if is_quick else CONTESTANTS


def load(name: str) -> Contestant:
    """A new contestant. Raises ImportError if what it measures is not installed."""
    module, _, attribute = _ADAPTERS[name].partition(":")
    contestant: Contestant = getattr(importlib.import_module(module), attribute)()
    return contestant
