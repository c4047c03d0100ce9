"""Which of the frames that arrive are the next ones, after the death of either side. Pure: no clock, no I/O.

A frame has two numbers. Its *sequence number* counts what one generation of the sender has sent, so it tells whether
something is missing or comes a second time from the same process. Its *key* (number of the source frame, index among
the outputs for it) is the same whoever makes the frame, so it tells what a new generation of the sender makes again.
"""

from __future__ import annotations

import enum
from collections import deque

GENERATION_SHIFT = 40
"""A sequence number is the sender's generation, shifted by this, plus a count from 1: 10^12 frames per generation."""


class Verdict(enum.Enum):
    """What a frame is to its receiver."""

    NEXT = "next"
    REPEATED = "repeated"  # the sender has sent it before, for another receiver's sake
    REMADE = "remade"  # a new generation of the sender has made again what is here already
    STALE = "stale"  # from a generation that is dead: the next one makes it again
    EARLY = "early"  # it will come again, in its turn
    MISSING = "missing"  # something before it was lost


class Acceptance:
    """What one receiver has had so far, and what of that it has finished with."""

    __slots__ = (
        "_finished",
        "_may_miss",
        "_remade",
        "acknowledged",
        "checks_keys",
        "generation",
        "is_complete",
        "key",
        "sequence",
    )

    def __init__(
        self, acknowledged: int, key: tuple[int, int] | None, *, is_successor: bool, is_complete: bool = False
    ) -> None:
        """`acknowledged`: sequence number up to which a predecessor has finished, `key`: of the last frame of these,
        `is_complete`: whether that was the last of its number. `is_successor`: frames may come that are ahead of those
        that the sender is still to send again.
        """
        self.sequence = self.acknowledged = acknowledged
        """The newest sequence number seen, and the one up to which the sender may be told that all is finished with."""
        self.generation = acknowledged >> GENERATION_SHIFT
        """Of the sender."""
        self.key = self._finished = key or (-1, -1)
        """Of the frame that was taken last, and of the one that was finished with last."""
        self._remade: deque[tuple[tuple[int, int], int]] = deque()  # keys and sequence numbers, in order
        self.checks_keys = self._may_miss = is_successor
        """Whether the next frame may be one that was taken before, from another generation of the sender."""
        self.is_complete = is_complete
        """Whether the frame that was taken last was the last of its number."""

    def is_next(self, sequence: int) -> bool:
        """Whether a frame is certainly the next one, by its sequence number alone."""
        return sequence == self.sequence + 1 and not self.checks_keys

    def accept(self, sequence: int, key: tuple[int, int], *, is_complete: bool) -> None:
        """The next frame is taken. `is_complete`: it is the last of its number."""
        self.sequence = sequence
        self.key = key
        self.is_complete = is_complete

    def judge(self, sequence: int, key: tuple[int, int], first: int | None = None) -> Verdict:
        """What a frame is. NEXT: it is still to be accepted. REMADE: `acknowledged` may have changed.

        `first`: the sequence number before which the sender has nothing any more for this receiver, nor needs to.
        """
        generation = sequence >> GENERATION_SHIFT
        if generation < self.generation:
            return Verdict.STALE
        before = self.sequence if generation == self.generation else generation << GENERATION_SHIFT
        if sequence <= before:
            return Verdict.REPEATED
        if sequence > before + 1 and sequence != first:
            return Verdict.EARLY if self._may_miss else Verdict.MISSING
        if generation != self.generation:
            self.generation = generation
            self.checks_keys = True
            self._remade.clear()
        self._may_miss = False
        self.sequence = sequence
        # Also what comes behind the end of a number: the frame was given up after it had once been finished.
        if key <= self.key or (self.is_complete and key[0] == self.key[0]):
            self._keep(sequence, min(key, self.key))
            return Verdict.REMADE
        self.checks_keys = False
        return Verdict.NEXT

    def refuse(self, sequence: int) -> None:
        """The next frame cannot be read: it is to come again, and what comes before that is early."""
        self.sequence = sequence - 1
        self.checks_keys = self._may_miss = True

    def _keep(self, sequence: int, key: tuple[int, int]) -> None:
        """A remade frame stands for the one that died with the sender's predecessor, and is finished with as that is:
        not before, because only its sender still has it, and not later, because then the sender would have fewer
        tickets for new frames than the predecessor had.
        """
        if key <= self._finished:
            self.acknowledged = sequence
        else:
            self._remade.append((key, sequence))

    def acknowledge(self, sequence: int, key: tuple[int, int]) -> int:
        """Everything up to this frame is finished with: up to which sequence number that can be told to the sender."""
        self._finished = key
        remade = self._remade
        while remade and remade[0][0] <= key:
            _, self.acknowledged = remade.popleft()
        self.acknowledged = max(self.acknowledged, sequence)
        return self.acknowledged
