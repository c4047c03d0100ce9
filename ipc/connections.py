"""Whose connection is which, and what it means that one has ended. No I/O but timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

PARTING_S = 1.0
"""A process that ends closes its connections a little before it is gone: that long it may take."""


class Connections:
    """The connections of one socket, by their descriptors, and the worker that speaks through each.

    ZeroMQ ends a connection through which a message beyond the limit comes, and tells nobody: its worker would go on,
    unheard. `on_lost(worker_id)` is called when the connection of a worker has ended and the worker was not forgotten
    soon after. Everything is called in the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[int], None]) -> None:
        self._loop, self._on_lost = loop, on_lost
        self._worker_of: dict[int, int] = {}
        self._ended: set[int] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def opened(self, fd: int) -> None:
        """Somebody has connected."""
        self._ended.discard(fd)

    def ended(self, fd: int) -> None:
        """A connection is no more."""
        self._ended.add(fd)
        worker_id = self._worker_of.pop(fd, None)
        if worker_id is not None:
            self._await_parting(worker_id)

    def belongs(self, fd: int, worker_id: int) -> None:
        """This worker has said who it is through that connection."""
        self.forget(worker_id)
        if fd in self._ended:
            self._await_parting(worker_id)
        else:
            self._worker_of[fd] = worker_id

    def forget(self, worker_id: int) -> None:
        """The worker is gone, or has said goodbye: its connection may end."""
        for fd in [fd for fd, owner in self._worker_of.items() if owner == worker_id]:
            del self._worker_of[fd]
        timer = self._timers.pop(worker_id, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """No more calls."""
        for worker_id in list(self._timers):
            self.forget(worker_id)

    def _await_parting(self, worker_id: int) -> None:
        due = self._loop.time() + PARTING_S
        self._timers[worker_id] = self._loop.call_at(due, self._lost, worker_id, due)

    def _lost(self, worker_id: int, due: float) -> None:
        if self._loop.time() - due > PARTING_S:  # the loop was blocked: news of the worker's end may be on the way
            self._await_parting(worker_id)
            return
        del self._timers[worker_id]
        self._on_lost(worker_id)
