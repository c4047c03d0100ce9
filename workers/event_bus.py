"""Events of a pool on their way to those who listen. Nobody who listens can hold up, or hurt, the pool."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Callable
from typing import Self

from remotemedia.core.remote_errors import RemoteTraceback
from remotemedia.events import Event

_MOST_UNREAD = 256

_logger = logging.getLogger("remotemedia.events")


class Listener:
    """The events of one pool from now on, as an async iterator; ends after the pool was closed.

    At most 256 unread events are kept; then the oldest ones go, and are counted in `dropped`.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._events: deque[Event] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            if self._waiting is None or self._waiting.done():
                self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting)  # several tasks may wait for one event
        return self._events.popleft()

    async def aclose(self) -> None:
        """Hear no more."""
        self._close()

    def _put(self, event: Event) -> None:
        if self._closed:
            return
        if len(self._events) >= _MOST_UNREAD:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._wake()

    def _close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class EventBus:
    """Hands the events of one pool to its listeners, sinks and log. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._sinks: list[Callable[[Event], None]] = []
        self._closed = False

    def emit(self, event: Event) -> None:
        """Tell everybody; never waits, never raises."""
        if _logger.isEnabledFor(event.level):
            _logger.log(event.level, "%s", event, extra={"event": event})
        for listener in list(self._listeners):
            listener._put(event)
        for sink in list(self._sinks):
            try:
                sink(event)
            except Exception as error:  # noqa: BLE001 - the sink's own matter
                # As text: who keeps log records must not keep the pool with them.
                text = RemoteTraceback.of(error).traceback
                _logger.error("a sink for events raised; it goes on getting them\n%s", text)  # noqa: TRY400

    def listen(self) -> Listener:
        """A new listener; one that nobody holds any more is forgotten."""
        listener = Listener()
        if self._closed:
            listener._close()
        else:
            self._listeners.add(listener)
        return listener

    def add_sink(self, sink: Callable[[Event], None]) -> None:
        """Have `sink` called with each event, in the loop's thread."""
        self._sinks.append(sink)

    def close(self) -> None:
        """No event will come any more."""
        self._closed = True
        for listener in list(self._listeners):
            listener._close()
        self._listeners.clear()
        self._sinks.clear()
