"""The line of those who wait for room at the entrance of a pool: first come, first served.

Only the first in line looks for room; those behind it are woken only when there may be room for them too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Protocol


class Waiting(Protocol):
    """Somebody in line."""

    def wake(self) -> None:
        """It is the first now, or there may be room for it."""
        ...


class Turn:
    """The place of a task in the line."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def woken(self) -> None:
        """Returns at the next `wake`."""
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await self._woken
        finally:
            self._woken = None


class Line:
    """Who waits: `waiting`, in order of arrival."""

    def __init__(self) -> None:
        self.waiting: deque[Waiting] = deque()

    def lets(self, who: Waiting) -> bool:
        """Whether nobody is before `who`."""
        return not self.waiting or self.waiting[0] is who

    def join(self, who: Waiting) -> None:
        """Queue up, unless it stands in the line already."""
        if who not in self.waiting:
            self.waiting.append(who)

    def leave(self, who: Waiting) -> None:
        """Step out, served or not; who comes first then is woken."""
        waiting = self.waiting
        if who not in waiting:
            return
        was_first = waiting[0] is who
        waiting.remove(who)
        if was_first:
            self.wake_first()

    def wake_first(self, count: int = 1) -> None:
        """There may be room for `count` of them. They take their turns one after the other, as they stand."""
        for who in islice(self.waiting, count):
            who.wake()

    def wake_all(self) -> None:
        """There will never be room again."""
        for each in list(self.waiting):
            each.wake()
