"""What the status page shows: the pool asked once per second for all who look, and not at all while nobody does."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from remotemedia.core.exceptions import MalformedMessage, PoolClosed
from remotemedia.ipc.observer_client import ObserverClient
from remotemedia.ipc.observer_messages import Refused
from remotemedia.ipc.shm_memory import free_shared_memory
from remotemedia.status.layout import layout
from remotemedia.watching import SILENT_S, WatchedPool
from remotemedia.workers.running import PoolPlace

_logger = logging.getLogger("remotemedia.status")

THREAD_NAME = "remotemedia-status"
_TICK_S = 1.0
_FIRST_TICK_S = 0.25
"""After somebody has begun to look, so that the first rates are there soon."""
_GONE = "the pool has ended"


class Picture(NamedTuple):
    """The pool as it was seen for the `version`th time: as JSON, and what is wrong with it."""

    version: int
    json: bytes
    complaints: list[str]


class Feed:
    """The latest picture of one pool, made in a thread of its own until `close`.

    Who reads slowly misses pictures: only the latest is kept, whoever looks.
    """

    def __init__(self, place: PoolPlace) -> None:
        self._pool = WatchedPool(place)
        self._layouts: dict[Any, dict[str, Any]] = {}
        self._news = threading.Condition()
        self._picture = Picture(0, b"{}", [])
        self._listeners = 0
        self._wanted = 1  # where rates begin
        self._asked_for = self._given = 0
        """How many who want a picture by themselves have come; were there when the pool was asked; have got it."""
        self._next_at = 0.0
        self._tick_s = _TICK_S
        self._over = self._closed = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Begin. Raises RuntimeError if there can be no further thread."""
        self._thread.start()

    def close(self) -> None:
        """No more pictures: all who wait return. Idempotent."""
        with self._news:
            if self._closed:
                return
            self._closed = self._over = True
            self._news.notify_all()
            os.eventfd_write(self._wake_fd, 1)
        if self._thread.ident is not None:
            self._thread.join()
        self._disconnect("")
        os.close(self._wake_fd)

    # -- for those who look --------------------------------------------------------------------------------------------

    def fresh(self) -> Picture:
        """A picture that is made from now on; one with a complaint if the pool does not answer within two seconds."""
        with self._news:
            self._wanted += 1
            mine = self._wanted
            self._wake()
            self._news.wait_for(lambda: self._over or self._given >= mine)
            return self._picture

    @contextlib.contextmanager
    def listening(self) -> Iterator[int]:
        """While this lasts there is a new picture every second. Gives the version after which to begin: without the one
        that is old because nobody has looked.
        """
        with self._news:
            self._listeners += 1
            version = self._picture.version
            if self._listeners == 1:
                self._next_at, self._tick_s = 0.0, _FIRST_TICK_S
                self._wake()
            else:
                version = max(0, version - 1)
        try:
            yield version
        finally:
            with self._news:
                self._listeners -= 1

    def after(self, version: int) -> Picture | None:
        """The first picture later than this one, as soon as it is there; None when there will be none."""
        with self._news:
            self._news.wait_for(lambda: self._over or self._picture.version > version)
            return None if self._over else self._picture

    def _wake(self) -> None:
        if not self._closed:
            os.eventfd_write(self._wake_fd, 1)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        except Exception:
            _logger.exception("the status page shows nothing new any more")
            with self._news:
                self._over = True
                self._news.notify_all()

    def _turn(self) -> None:
        ready = self._wait()
        client = self._pool.client
        if client is not None and client.fileno() in ready:
            self._receive(client)
        self._act(monotonic())

    def _wait(self) -> set[int]:
        """Until somebody comes, the pool answers or something is due: what is readable."""
        client = self._pool.client
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_fd, selectors.EVENT_READ)
            if client is not None:
                selector.register(client.fileno(), selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(self._timeout(monotonic()))}
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        return ready

    def _timeout(self, now: float) -> float | None:
        with self._news:
            asked_at, due = self._pool.asked_at, []
            if self._listeners:
                due.append(self._next_at)
            if self._wanted > self._given:
                due.append(now if asked_at is None else asked_at + SILENT_S)
        return max(0.0, min(due) - now) if due else None

    def _act(self, now: float) -> None:
        """Ask the pool if somebody wants to know; say so if it does not answer."""
        with self._news:
            ticks = self._listeners > 0 and now >= self._next_at
            if ticks:
                self._next_at, self._tick_s = now + self._tick_s, _TICK_S
            waiting = self._pool.asked_at
            is_silent = waiting is not None and now - waiting > SILENT_S
            if not (ticks or (self._wanted > self._given and (waiting is None or is_silent))):
                return
            if waiting is None or is_silent:
                self._asked_for = self._wanted
        try:
            self._connect()
            self._pool.ask(details=True)
        except (PoolClosed, FileNotFoundError, ConnectionError):
            self._disconnect(_GONE)
        except OSError as error:  # TimeoutError is one
            self._disconnect(f"cannot ask the pool: {error.strerror or error}")
        if self._pool.problem:
            self._publish()

    def _connect(self) -> None:
        if self._pool.client is None:
            path = self._pool.place.observer_path
            if path is None:
                raise PoolClosed(_GONE)
            self._pool.client = ObserverClient(path)

    def _disconnect(self, problem: str) -> None:
        if self._pool.client is not None:
            self._pool.client.close()
        self._pool.client = self._pool.asked_at = None
        self._pool.problem = problem

    def _receive(self, client: ObserverClient) -> None:
        try:
            reply = self._pool.take(client.receive())
        except (PoolClosed, TimeoutError):
            self._disconnect(_GONE)
        except MalformedMessage as error:
            self._disconnect(f"it speaks another language: {error}")
        else:
            if isinstance(reply, Refused):
                self._disconnect(reply.reason)
        self._publish()

    def _publish(self) -> None:
        facts = self._pool.facts()
        if self._pool.view is not None:
            facts["shm_free_bytes"] = free_shared_memory()
            facts["layout"] = self._layout(len(facts["workers"]), facts.get("edges", ()))
        text = msgspec.json.encode(facts)
        with self._news:
            self._picture = Picture(self._picture.version + 1, text, self._pool.complaints())
            self._given = max(self._given, self._asked_for)
            self._news.notify_all()

    def _layout(self, count: int, edges: Any) -> dict[str, Any]:
        key = count, tuple(map(tuple, edges))
        if key not in self._layouts:
            self._layouts = {key: layout(count, edges)._asdict()}
        return self._layouts[key]
