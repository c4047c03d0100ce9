"""What an island has been given and not taken yet, in order. Pure. The other end of Relay.next_delivery."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any


class Intake:
    """The deliveries to one generation of an island: they may overtake each other, and some may have to be repeated."""

    def __init__(self, base: int) -> None:
        """`base`: the position of the first input."""
        self._next = base
        self._epoch = 0
        self._queue: deque[tuple[int, Any]] = deque()
        self._early: dict[int, tuple[list[Any], bool]] = {}
        self._is_complete = False

    def give(self, epoch: int, position: int, contents: list[Any], is_end: bool) -> None:
        """A delivery; one that was sent before `lost` was heard of is dropped."""
        if epoch != self._epoch:
            return
        self._early[position] = contents, is_end
        while (found := self._early.pop(self._next, None)) is not None:
            contents, is_end = found
            self._queue.extend(enumerate(contents, self._next))
            self._next += len(contents)
            self._is_complete = is_end

    @property
    def head(self) -> tuple[int, Any] | None:
        """The next input, with its position."""
        return self._queue[0] if self._queue else None

    def waiting(self, most: int = 8) -> Iterable[tuple[int, Any]]:
        """The next inputs, `head` first."""
        return islice(self._queue, most)

    @property
    def is_at_end(self) -> bool:
        """Whether everything was taken, and there is nothing more to come."""
        return self._is_complete and not self._queue

    def take(self) -> None:
        """`head` is taken."""
        self._queue.popleft()

    def lost(self) -> tuple[int, int]:
        """`head` could not be had: it and all behind it will come again. Returns its position, and the epoch that it
        was given in.
        """
        position, epoch = self._queue[0][0], self._epoch
        self._queue.clear()
        self._early.clear()
        self._next = position
        self._epoch += 1
        self._is_complete = False
        return position, epoch
