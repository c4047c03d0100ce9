"""An observer's end of a pool's second socket (see observer_server)."""

from __future__ import annotations

import itertools
import os
import socket
from types import TracebackType
from typing import Self

import msgspec

from remotemedia.core.exceptions import PoolClosed
from remotemedia.ipc.observer_messages import CREDENTIALS, Reply, Request, decode_reply, encode

_RECEIVE_BYTES = 2**20


class ObserverClient:
    """A connection to a running pool. Belongs to one thread.

    `ask` sends a request without waiting for its answer, `receive` gives the next answer, `call` does both; `fileno`
    is readable when an answer is there. Raises OSError if no pool listens at `path`.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        self._numbers = itertools.count(1)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(os.fspath(path))
        except OSError:
            self._socket.close()
            raise

    def ask(self, request: Request) -> int:
        """The number that the answer will carry. Raises PoolClosed, TimeoutError."""
        number = next(self._numbers)
        try:
            self._socket.send(encode(msgspec.structs.replace(request, number=number)))
        except ConnectionError as error:
            raise PoolClosed("the pool is gone") from error
        return number

    def receive(self) -> Reply:
        """The next answer. Raises PoolClosed, TimeoutError if none comes in time, MalformedMessage."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except ConnectionError as error:
            raise PoolClosed("the pool is gone") from error
        if not data:
            raise PoolClosed("the pool is gone")
        return decode_reply(data)

    def call(self, request: Request) -> Reply:
        """The answer to this request; those to earlier ones are dropped. Raises as `receive` does."""
        number = self.ask(request)
        while (reply := self.receive()).number not in (number, 0):
            pass
        return reply

    def peer_pid(self) -> int:
        """The process of the pool's coordinator."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        return int(CREDENTIALS.unpack(credentials)[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
