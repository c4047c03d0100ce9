"""Running a stage without an event loop: a coroutine that never yields, because what it waits for blocks the thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from remotemedia.ipc.doorbell import OwnDoorbell
from remotemedia.workers.stage import Stopped

T = TypeVar("T")

_COUNTER_BYTES = 8


class BlockingWaiter:
    """Waits by blocking the whole thread, with the GIL released: one system call for a wake-up."""

    def __init__(self, bell: OwnDoorbell, stop_requested: Callable[[], bool]) -> None:
        self._fd = bell.fd
        self._stop_requested = stop_requested
        os.set_blocking(bell.fd, True)

    async def rung(self) -> None:
        os.read(self._fd, _COUNTER_BYTES)  # and not eventfd_read, which a signal interrupts
        if self._stop_requested():
            raise Stopped

    async def breathe(self) -> None:
        """Nobody else runs here."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` to its end. It may await nothing but doorbells (through BlockingWaiter) and other coroutines."""
    try:
        coroutine.send(None)
        while True:  # it has awaited something else
            coroutine.throw(RuntimeError(_NO_LOOP))
    except StopIteration as result:
        return result.value  # type: ignore[no-any-return]


_NO_LOOP = (
    "process() is a plain function but gave something that needs an event loop; "
    "declare it as `async def`, so that its worker runs one"
)
