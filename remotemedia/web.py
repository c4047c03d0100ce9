"""A small HTTP server for programs and people on this machine: bounded, in threads of its own, gone when it is closed.

What it serves is looked at, not changed: there is GET and HEAD, one request per connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from remotemedia.core.exceptions import ConfigurationError

_logger = logging.getLogger("remotemedia.web")

MOST_CONNECTIONS = 32
THREAD_NAME = "remotemedia-web"
_TIMEOUT_S = 5.0
"""How long a request, or room for a part of the answer, may be waited for."""
_AGAIN_S = 1.0
"""Without a free descriptor for a new connection, it is tried again after this time."""
_SEND_BYTES = 256 * 1024
"""What the kernel keeps for a browser that reads slowly."""
_LAST_PORT = 65_535
_FULL = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"


class Request(BaseHTTPRequestHandler):
    """One request, to be answered by `answer`, or by `begin` and what is written to `wfile`."""

    timeout = _TIMEOUT_S
    server_version, sys_version = "remotemedia", ""

    def __init__(self, peer: socket.socket, address: Any, respond: Callable[[Request], None]) -> None:
        self._respond = respond
        nobody: Any = None  # handles it for a socketserver
        super().__init__(peer, address, nobody)

    @property
    def route(self) -> str:
        """The path that is asked for."""
        return self.path.partition("?")[0]

    def do_GET(self) -> None:
        self._respond(self)

    def do_HEAD(self) -> None:
        self._respond(self)

    def answer(self, status: int, kind: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        """A whole answer; `kind`: its media type. Without the body for HEAD."""
        self.begin(status, kind, {"Content-Length": str(len(body)), **(more or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        """Everything before the body."""
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        for name, value in {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name there
        """Requests are no news."""


class WebServer:
    """Answers requests until `close`: each in a thread, at most 32 at once, and nobody else has to wait for a slow one.

    `respond(request)` answers one. `port` 0: any free one, see `port`. Raises
    ConfigurationError, that names `what` is to be served, if the port cannot be had.
    """

    def __init__(self, host: str, port: int, respond: Callable[[Request], None], *, what: str) -> None:
        self._respond, self._what = respond, what
        self._listener = _listen(host, port, what)
        self.port = int(self._listener.getsockname()[1])
        try:
            self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        except OSError:
            self._listener.close()
            raise
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._closed = False

    def start(self) -> None:
        """Answer requests from now on. Raises RuntimeError if there can be no further thread."""
        thread = threading.Thread(target=self.serve, name=THREAD_NAME, daemon=True)
        thread.start()
        self._thread = thread

    def serve(self) -> None:
        """Answer requests until `close` is called in another thread."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stop_fd, selectors.EVENT_READ)
            while all(key.fd != self._stop_fd for key, _ in selector.select()):
                self._accept()

    def _accept(self) -> None:
        try:
            peer, address = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it has gone already
        except OSError as error:  # the connection stays, so the listener is readable all the time
            _logger.warning("a request for %s has to wait: %s", self._what, error)
            until_closed = select.poll()
            until_closed.register(self._stop_fd, select.POLLIN)
            until_closed.poll(_AGAIN_S * 1e3)
            return
        with self._guard:
            if len(self._open) < MOST_CONNECTIONS:
                thread = threading.Thread(target=self._handle, args=(peer, address), name=THREAD_NAME, daemon=True)
                self._open[peer] = thread
                with contextlib.suppress(RuntimeError):  # no further thread
                    thread.start()
                    return
                del self._open[peer]
        with peer, contextlib.suppress(OSError):
            peer.setblocking(False)
            peer.send(_FULL)

    def _handle(self, peer: socket.socket, address: Any) -> None:
        try:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            Request(peer, address, self._respond)
            peer.shutdown(socket.SHUT_WR)
        except OSError as error:
            _logger.debug("a request for %s was given up: %s", self._what, error)  # gone, or too slow
        except Exception:
            _logger.exception("a request for %s failed", self._what)
        finally:
            with self._guard:
                self._open.pop(peer, None)
            peer.close()

    def close(self) -> None:
        """No more answers; what is being answered is cut short. Returns when all threads have ended. Idempotent."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        os.eventfd_write(self._stop_fd, 1)
        if self._thread is not None:
            self._thread.join()
        with self._guard:
            handlers = list(self._open.values())
            for peer in self._open:
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
        for thread in handlers:
            thread.join()
        self._listener.close()
        os.close(self._stop_fd)


def _listen(host: str, port: int, what: str) -> socket.socket:
    if not isinstance(port, int) or not 0 <= port <= _LAST_PORT:
        raise ConfigurationError(f"cannot serve {what} on port {port!r}: expected 0 (any that is free) to {_LAST_PORT}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        code = getattr(error, "errno", None) or 0  # a resolver's are below 0
        why = os.strerror(code) if code > 0 else "there is no such host"
        hint = "choose another port, 0 for any that is free" if code > 0 else "127.0.0.1 is this machine"
        raise ConfigurationError(f"cannot serve {what} on {host}:{port}: {why}; {hint}") from None
    listener.setblocking(False)
    return listener
