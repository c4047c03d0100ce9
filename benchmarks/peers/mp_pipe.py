"""multiprocessing.Pipe with its byte interface: received into one buffer, worked on in place, sent without pickling."""

from __future__ import annotations

import queue
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext

import numpy as np

from benchmarks.peers.spawned import Link, SpawnedChain
from benchmarks.work import KIB, WINDOW, Array, Work

PIPE_BYTES = 64 * KIB
"""What a pipe holds by default on Linux."""


class PipeInlet:
    def __init__(self, connection: Connection, size: int) -> None:
        self._connection = connection
        self._buffer = np.empty(size, np.uint8)

    def receive(self) -> Array:
        self._connection.recv_bytes_into(self._buffer.data)
        return self._buffer


class PipeOutlet:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def loan(self, frame: Array) -> Array:
        return frame

    def send(self, frame: Array) -> None:
        self._connection.send_bytes(frame.data)


class PipeLink:
    def __init__(self, context: SpawnContext, size: int) -> None:
        self._reader, self._writer = context.Pipe(duplex=False)
        self._size = size

    def inlet(self) -> PipeInlet:
        return PipeInlet(self._reader, self._size)

    def outlet(self) -> PipeOutlet:
        return PipeOutlet(self._writer)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class MultiprocessingPipe(SpawnedChain):
    """Frames too big for the pipe are sent by a thread; else sender and last stage would wait for each other."""

    def make_link(self, context: SpawnContext, size: int) -> Link:
        return PipeLink(context, size)

    async def start(self, stages: int, work: Work, size: int) -> None:
        await super().start(stages, work, size)
        self._feeder: threading.Thread | None = None
        if WINDOW * (size + 4) > PIPE_BYTES:
            self._waiting: queue.SimpleQueue[Array | None] = queue.SimpleQueue()
            self._feeder = threading.Thread(target=self._feed, daemon=True)
            self._feeder.start()

    def send(self, frame: Array) -> None:
        if self._feeder is None:
            self._outlet.send(frame)
        else:
            self._waiting.put(frame)

    async def stop(self) -> None:
        if self._feeder is not None:
            self._waiting.put(None)
            self._feeder.join()
        await super().stop()

    def _feed(self) -> None:
        while (frame := self._waiting.get()) is not None:
            self._outlet.send(frame)
