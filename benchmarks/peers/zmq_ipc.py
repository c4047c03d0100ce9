"""pyzmq PUSH/PULL over ipc: messages are worked on in place, large ones cross the Python layer without a copy."""

from __future__ import annotations

import itertools
import os
import tempfile
from multiprocessing.context import SpawnContext
from pathlib import Path

import numpy as np
import zmq

from benchmarks.peers.spawned import Link, SpawnedChain
from benchmarks.work import KIB, Array

ZERO_COPY_BYTES = 64 * KIB
"""From here on pyzmq's zero-copy messages cost less than copying (its own default threshold)."""

_numbers = itertools.count()


class ZmqInlet:
    def __init__(self, socket: zmq.Socket[bytes], size: int) -> None:
        self._socket = socket
        self._large = size >= ZERO_COPY_BYTES
        self._buffer = np.empty(size, np.uint8)

    def receive(self) -> Array:
        if self._large:
            return np.frombuffer(self._socket.recv(copy=False).buffer, np.uint8)
        self._socket.recv_into(self._buffer.data)
        return self._buffer


class ZmqOutlet:
    def __init__(self, socket: zmq.Socket[bytes], size: int) -> None:
        self._socket = socket
        self._copy = size < ZERO_COPY_BYTES

    def loan(self, frame: Array) -> Array:
        return frame

    def send(self, frame: Array) -> None:
        self._socket.send(frame.data, 0, self._copy)


class ZmqLink:
    """The sender binds, the receiver connects."""

    def __init__(self, size: int) -> None:
        self._path = Path(tempfile.gettempdir()) / f"zmq-{os.getpid()}-{next(_numbers)}"
        self._size = size

    def outlet(self) -> ZmqOutlet:
        socket = self._socket(zmq.PUSH)
        socket.bind(f"ipc://{self._path}")
        return ZmqOutlet(socket, self._size)

    def inlet(self) -> ZmqInlet:
        socket = self._socket(zmq.PULL)
        socket.connect(f"ipc://{self._path}")
        return ZmqInlet(socket, self._size)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)

    @staticmethod
    def _socket(kind: zmq.SocketType) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        socket.linger = 0
        return socket


class ZmqIpc(SpawnedChain):
    def make_link(self, context: SpawnContext, size: int) -> Link:
        return ZmqLink(size)
