"""Running a stage without an event loop: a coroutine that is resumed whenever the doorbell rings."""

from __future__ import annotations

import select
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from remotemedia.ipc.doorbell import OwnDoorbell
from remotemedia.workers.stage import Stopped

T = TypeVar("T")


class _Sleep:
    """Awaiting this hands control to `drive`, which sleeps."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


_sleep = _Sleep()


class BlockingWaiter:
    """Waits by blocking the whole thread, with the GIL released."""

    def __init__(self, bell: OwnDoorbell, stop_requested: Callable[[], bool]) -> None:
        self._bell = bell
        self._stop_requested = stop_requested

    async def rung(self) -> None:
        await _sleep
        self._bell.clear()
        if self._stop_requested():
            raise Stopped

    async def breathe(self) -> None:
        """Nobody else runs here."""


def drive(coroutine: Coroutine[Any, Any, T], bell: OwnDoorbell) -> T:
    """Run `coroutine` to its end. It may await nothing but `bell` (through BlockingWaiter) and other coroutines."""
    poll = select.poll()
    poll.register(bell.fd, select.POLLIN)
    try:
        while True:
            awaited = coroutine.send(None)
            if awaited is not None:
                coroutine.throw(RuntimeError(_NO_LOOP))
            poll.poll()
    except StopIteration as result:
        return result.value  # type: ignore[no-any-return]


_NO_LOOP = (
    "process() is a plain function but gave something that needs an event loop; "
    "declare it as `async def`, so that its worker runs one"
)
