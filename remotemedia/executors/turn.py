"""Sharing the event loop: nodes that never await must not keep other tasks waiting."""

from __future__ import annotations

import asyncio
from time import monotonic_ns

_TURN_NS = 1_000_000


class Turn:
    """One millisecond of work. `if turn.is_over(): await turn.pass_on()` costs some 0.1 µs while it is not."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = monotonic_ns() + _TURN_NS

    def is_over(self) -> bool:
        return monotonic_ns() > self._ends

    async def pass_on(self) -> None:
        """Let the other tasks run, then begin a new turn."""
        await asyncio.sleep(0)
        self._ends = monotonic_ns() + _TURN_NS
