"""Which of the frames that arrive are the next ones, after the death of either side. Pure: no clock, no I/O.

A frame has two numbers. Its *sequence number* counts what one generation of the sender has sent, so it tells whether
something is missing or comes a second time from the same process. Its *key* (number of the source frame, index among
the outputs for it) is the same whoever makes the frame, so it tells what a new generation of the sender makes again.
"""

from __future__ import annotations

import enum

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
    """What one receiver has had so far."""

    __slots__ = ("_checks_keys", "_key", "_may_miss", "accepted", "generation", "sequence")

    def __init__(self, acknowledged: int, key: tuple[int, int] | None, *, is_successor: bool) -> None:
        """`acknowledged`: sequence number up to which a predecessor has finished, `key`: of the last frame of these.
        `is_successor`: frames may come that are ahead of those that the sender is still to send again.
        """
        self.sequence = self.accepted = acknowledged
        """The newest sequence number seen, and that of the newest frame that was no repetition."""
        self.generation = acknowledged >> GENERATION_SHIFT
        """Of the sender."""
        self._key = key or (-1, -1)
        self._checks_keys = self._may_miss = is_successor

    def is_next(self, sequence: int) -> bool:
        """Whether a frame is certainly the next one, by its sequence number alone."""
        return sequence == self.sequence + 1 and not self._checks_keys

    def accept(self, sequence: int, key: tuple[int, int]) -> None:
        """The next frame is taken."""
        self.sequence = self.accepted = sequence
        self._key = key

    def judge(self, sequence: int, key: tuple[int, int]) -> Verdict:
        """What a frame is. NEXT: it is still to be accepted."""
        generation = sequence >> GENERATION_SHIFT
        if generation < self.generation:
            return Verdict.STALE
        before = self.sequence if generation == self.generation else generation << GENERATION_SHIFT
        if sequence <= before:
            return Verdict.REPEATED
        if sequence > before + 1:
            return Verdict.EARLY if self._may_miss else Verdict.MISSING
        if generation != self.generation:
            self.generation = generation
            self._checks_keys = True
        self._may_miss = False
        self.sequence = sequence
        if key <= self._key:
            return Verdict.REMADE
        self._checks_keys = False
        return Verdict.NEXT

    def acknowledge(self, sequence: int) -> int:
        """Everything up to this frame is finished with: up to which sequence number that can be told to the sender.

        Remade frames that came after the newest accepted one are finished with when that is, and not before: the
        sender keeps them in place of those that died with its predecessor.
        """
        if sequence == self.accepted:
            self.accepted = self.sequence
            return self.sequence
        return sequence
