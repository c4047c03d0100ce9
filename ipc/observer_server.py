"""A pool's second socket, for those who look at it from outside (`remotemedia top`): answers when it is asked.

Not the control plane: whoever looks at a pool must not be able to hurt it, and libzmq ends the process when strangers'
connections use up its descriptors. So this is a plain Unix socket with a packet for each message, in the pool's private
directory (0700). Nobody waits for an observer: one that does not read its answers is cut off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from remotemedia.core.exceptions import MalformedMessage
from remotemedia.ipc.observer_messages import (
    CREDENTIALS,
    MAX_REQUEST_BYTES,
    Refused,
    Reply,
    Request,
    decode_request,
    encode,
)

if TYPE_CHECKING:
    import asyncio

_logger = logging.getLogger("remotemedia.ipc.observer")

MOST_OBSERVERS = 16
_SEND_BYTES = 2**20
_AGAIN_S = 1.0
"""Without a free descriptor for a new connection, it is tried again after this time."""


class Observer:
    """One connection. `send` never waits."""

    def __init__(self, peer: socket.socket, server: ObserverServer) -> None:
        self._socket, self._server = peer, server

    def send(self, reply: Reply) -> None:
        """Send an answer; the connection is closed if the observer is gone or does not read."""
        if self._socket.fileno() < 0:
            return
        try:
            data = encode(reply)
            try:
                self._socket.send(data)
            except OSError as error:
                if isinstance(error, (BlockingIOError, ConnectionError)):
                    raise
                text = f"the answer of {len(data)} bytes does not fit into one packet"  # EMSGSIZE
                self._socket.send(encode(Refused(number=reply.number, reason=text)))
        except OSError:
            self._server.drop(self)

    def read(self) -> bytes:
        """The next request; b"" if there is none and never will be. Raises BlockingIOError."""
        try:
            return self._socket.recv(MAX_REQUEST_BYTES + 1)
        except ConnectionError:
            return b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


OnRequest: TypeAlias = Callable[[Observer, Request], None]


class ObserverServer:
    """The pool's end. `on_request(observer, request)` is called in the loop's thread; it answers with `observer.send`,
    at once or later. Raises OSError if the socket cannot be made at `path`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        on_request: OnRequest,
        loop: asyncio.AbstractEventLoop,
        *,
        on_gone: Callable[[Observer], None] = lambda _: None,
    ) -> None:
        self._path, self._on_request, self._on_gone, self._loop = os.fspath(path), on_request, on_gone, loop
        self._observers: dict[int, Observer] = {}
        self._again: asyncio.TimerHandle | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self._listener.bind(self._path)
            os.chmod(self._path, 0o600)  # noqa: PTH101 - as in control.py
            self._listener.listen(MOST_OBSERVERS)
        except OSError:
            self._listener.close()
            raise
        self._listen()

    def _listen(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has gone already
        except OSError as error:
            # The connection stays where it is, so the listener would be readable all the time.
            _logger.warning("an observer has to wait: %s", error)
            self._loop.remove_reader(self._listener.fileno())
            self._again = self._loop.call_later(_AGAIN_S, self._listen)
            return
        peer.setblocking(False)
        observer = Observer(peer, self)
        if _uid_of(peer) != os.geteuid():
            observer.close()
        elif len(self._observers) >= MOST_OBSERVERS:
            observer.send(Refused(reason=f"{MOST_OBSERVERS} others are looking at this pool already"))
            observer.close()
        else:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            self._observers[observer.fileno()] = observer
            self._loop.add_reader(observer.fileno(), partial(self._read, observer))

    def _read(self, observer: Observer) -> None:
        try:
            data = observer.read()
        except BlockingIOError:
            return
        if not data:
            self.drop(observer)
            return
        try:
            request = decode_request(data)
        except MalformedMessage as error:
            observer.send(Refused(reason=str(error)))
            self.drop(observer)
            return
        self._on_request(observer, request)

    def drop(self, observer: Observer) -> None:
        """Close a connection. Idempotent."""
        fd = observer.fileno()
        if self._observers.pop(fd, None) is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(fd)
            self._on_gone(observer)
        observer.close()

    def close(self) -> None:
        """Close every connection and remove the socket. Idempotent."""
        if self._listener.fileno() < 0:
            return
        for observer in list(self._observers.values()):
            self.drop(observer)
        if self._again is not None:
            self._again.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108


def _uid_of(peer: socket.socket) -> int:
    """Whose process is at the other end, as the kernel says."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(credentials)[1])
