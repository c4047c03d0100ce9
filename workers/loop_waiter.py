"""Waiting for the doorbell inside asyncio: any number of tasks, woken together when it rings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from remotemedia.ipc.doorbell import OwnDoorbell


class LoopWaiter:
    """Watches one doorbell for the tasks of one loop."""

    def __init__(self, bell: OwnDoorbell, on_ring: Callable[[], None] | None = None) -> None:
        """`on_ring`: called at each ring, before the waiting tasks are woken; may raise what ends their wait."""
        self._bell = bell
        self._on_ring = on_ring
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
        os.set_blocking(bell.fd, False)
        self._loop.add_reader(bell.fd, self._ring)

    async def rung(self) -> None:
        """Returns at the next ring."""
        future = self._loop.create_future()
        self._waiting.append(future)
        await future

    async def breathe(self) -> None:
        """Give the loop's other tasks their turn."""
        await asyncio.sleep(0)

    def _ring(self) -> None:
        self._bell.clear()
        waiting, self._waiting = self._waiting, []
        error: BaseException | None = None
        if self._on_ring is not None:
            try:
                self._on_ring()
            except BaseException as raised:  # noqa: BLE001 - handed to the waiting tasks
                error = raised
        for future in waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def close(self) -> None:
        """Stop watching; tasks that still wait are cancelled."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._bell.fd)
            for future in self._waiting:
                future.cancel()
        self._waiting.clear()
