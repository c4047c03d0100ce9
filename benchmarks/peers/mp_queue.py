"""multiprocessing.Queue: arrays are pickled by a feeder thread; a stage works in place on what it received."""

from __future__ import annotations

from multiprocessing.context import SpawnContext

from benchmarks.peers.spawned import Link, SpawnedChain
from benchmarks.work import Array


class QueueLink:
    """Both ends are the queue itself."""

    def __init__(self, context: SpawnContext) -> None:
        self._queue = context.Queue()

    def outlet(self) -> QueueLink:
        return self

    def inlet(self) -> QueueLink:
        return self

    def loan(self, frame: Array) -> Array:
        return frame

    def send(self, frame: Array) -> None:
        self._queue.put(frame)

    def receive(self) -> Array:
        frame: Array = self._queue.get()
        return frame

    def close(self) -> None:
        self._queue.close()
        self._queue.cancel_join_thread()


class MultiprocessingQueue(SpawnedChain):
    def make_link(self, context: SpawnContext, size: int) -> Link:
        return QueueLink(context)
