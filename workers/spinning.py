"""Looking for a frame for a short while before sleeping, which saves the time of waking a halted processor.

Only as long as it pays: it takes the whole of a processor, and where there is none to spare it takes it from whoever
makes the frame that is looked for. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

_WAKE_UP_NS = 100_000
"""What waking a process may add to a wait: one that was so much longer than a look might have been ended by it."""
_SMALLEST_PART = 8
"""A look that would be less than this part of the longest is not taken at all."""
_NEAR_MISSES = 8
"""Looks of full length in a row that just missed their frame, before that counts. The two ends of a channel have to
begin at the same time: as long as one sleeps, the other waits for its waking."""
_MOST_CAUTION = 64


class SpinBudget:
    """How long the next look may be, learned from the waits so far.

    A frame that is found makes it as long as it may be, a wait that no look could have ended halves it, down to
    nothing. When frames come so soon that a look would have found them, it is as long as before again. Where even that
    finds nothing, several times in a row, there are no looks for a while, each time for longer.
    """

    __slots__ = ("_caution", "_most_ns", "_near", "_soon", "looks", "ns")

    def __init__(self, most_us: int) -> None:
        self._most_ns = most_us * 1000
        self.ns = self._most_ns
        """Nanoseconds that the next look may take."""
        self.looks = 0
        """Waits that were begun by looking."""
        self._near = 0
        self._soon = 0
        self._caution = 0

    def waited(self, ns: int, *, found: bool) -> None:
        """A frame has come after `ns` nanoseconds; `found`: by looking, not by being woken."""
        if found:
            self.ns = self._most_ns
            self._near = self._soon = self._caution = 0
        elif ns > self._most_ns + _WAKE_UP_NS:
            self._shrink()
        elif self.ns == self._most_ns:
            self._near += 1
            if self._near > _NEAR_MISSES:
                self._caution = min(2 * self._caution + 1, _MOST_CAUTION)
                self.ns = self._soon = 0
        else:
            self._soon += 1
            if self._soon > self._caution:
                self._soon = 0
                self._near = _NEAR_MISSES if self._caution else 0
                self.ns = self._most_ns

    def _shrink(self) -> None:
        self._near = self._soon = 0
        half = self.ns // 2
        self.ns = half if half * _SMALLEST_PART >= self._most_ns else 0


def why_not(spin_us: int, placement: str, allowed: Sequence[AbstractSet[int]]) -> str | None:
    """Why a pool must not spin although it is told to; None: it may. `allowed`: for the coordinator and for each
    worker, the processors that it may run on.
    """
    if not spin_us:
        return None
    if placement == "same_core":
        return 'placement="same_core" puts all its processes on one processor'
    if not has_one_each(allowed):
        count = len(frozenset().union(*allowed))
        return (
            f"its {len(allowed) - 1} workers and the coordinator have no processor each: "
            f"they may use {count} together"
        )
    return None


def has_one_each(allowed: Sequence[AbstractSet[int]]) -> bool:
    """Whether each process can have a processor that no other has (a matching, found by augmenting paths)."""
    owner: dict[int, int] = {}

    def place(process: int, tried: set[int]) -> bool:
        for processor in allowed[process] - tried:
            tried.add(processor)
            if processor not in owner or place(owner[processor], tried):
                owner[processor] = process
                return True
        return False

    return len(allowed) <= len(frozenset().union(*allowed)) and all(place(i, set()) for i in range(len(allowed)))
