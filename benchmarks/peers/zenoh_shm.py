"""zenoh with explicit shared-memory buffers: each link is a sender that listens and a receiver that connects to it."""

from __future__ import annotations

import json
from multiprocessing.context import SpawnContext
from typing import Any

import numpy as np
import zenoh

from benchmarks.peers.ports import free_port
from benchmarks.peers.spawned import Link, SpawnedChain
from benchmarks.work import WINDOW, Array

KEY, READY = "frames", "ready"
READY_TIMEOUT_S = 0.2
SEGMENT_BUFFERS = WINDOW + 4
"""Buffers in the sender's segment: the window, what the receiver works on, and some for fragmentation."""
PAGE = 4096


class ZenohInlet:
    def __init__(self, port: int) -> None:
        self._session = zenoh.open(_config("connect", port))
        self._subscriber = self._session.declare_subscriber(KEY, zenoh.handlers.FifoChannel(WINDOW))
        self._ready = self._session.declare_queryable(READY, lambda query: query.reply(READY, b""))

    def receive(self) -> Array:
        # The Python interface has no view of a received buffer: its bytes are a copy.
        return np.frombuffer(self._subscriber.recv().payload.to_bytes(), np.uint8)


class ZenohOutlet:
    def __init__(self, port: int, size: int) -> None:
        self._session = zenoh.open(_config("listen", port))
        # What is sent before the receiver is known is lost, and the matching status of a publisher is true too early:
        # the receiver answers a question once its subscription is there.
        while not list(self._session.get(READY, timeout=READY_TIMEOUT_S)):
            pass
        self._publisher = self._session.declare_publisher(KEY, congestion_control=zenoh.CongestionControl.BLOCK)
        segment = SEGMENT_BUFFERS * (size + PAGE)
        self._provider = zenoh.shm.ShmProvider.default_backend(segment)
        self._policy = zenoh.shm.BlockOn(zenoh.shm.GarbageCollect())
        self._size = size
        self._out = np.empty(size, np.uint8)

    def loan(self, frame: Array) -> Array:
        return self._out

    def send(self, frame: Array) -> None:
        buffer = self._provider.alloc(self._size, policy=self._policy)
        buffer[:] = frame.tobytes()
        self._publisher.put(buffer)


class ZenohLink:
    def __init__(self, size: int) -> None:
        self._port, self._size = free_port(), size

    def outlet(self) -> ZenohOutlet:
        return ZenohOutlet(self._port, self._size)

    def inlet(self) -> ZenohInlet:
        return ZenohInlet(self._port)

    def close(self) -> None:
        """Nothing to do: sessions end with their processes."""


class ZenohSharedMemory(SpawnedChain):
    def make_link(self, context: SpawnContext, size: int) -> Link:
        return ZenohLink(size)

    async def stop(self) -> None:
        sessions = [self._outlet._session, self._inlet._session]  # type: ignore[attr-defined]
        await super().stop()
        for session in sessions:
            session.close()


def _config(role: str, port: int) -> Any:
    """Peers that know each other's address and look for nobody else."""
    config = zenoh.Config()
    settings = {
        "mode": "peer",
        f"{role}/endpoints": [f"tcp/127.0.0.1:{port}"],
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "transport/shared_memory/enabled": True,
        "connect/retry": {"period_init_ms": 50},
    }
    if role == "connect":
        settings["listen/endpoints"] = []
    for name, value in settings.items():
        config.insert_json5(name, json.dumps(value))
    return config
