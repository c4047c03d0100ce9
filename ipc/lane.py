"""One receiver's lane of a channel: the words of the ledger that it shares with the sender.

    GENERATION    of the receiver's process, plus one: written when its port is there. Another value than before tells
                  the sender that the receiver is a new one, which needs every unacknowledged frame again. In its
                  upper half (see ONE_REQUEST): how often this generation has asked for frames again.
    AGAIN         the first frame that the receiver has asked for; written before GENERATION.
    ACKNOWLEDGED  sequence number up to which the sender may forget what it sent.
    BASE          ACKNOWLEDGED when this generation began: what comes after it, this generation gets.
    DUPLICATES    how many frames this generation took and dropped because it had them already.
    REPEATED      how many such frames the sender has sent, for another receiver's sake.
    FIRST         sequence number of the first frame that the sender still has for a generation of the receiver: what
                  is missing before it is out of the pipeline (see remotemedia.ipc.credit).
    FIRST_FOR     which generation (as in GENERATION) FIRST is meant for; written after it.
    WHICH         which of the two positions is valid: 1 or 2; 0: none yet.
    positions     where the receiver stands, for its next generation (see Position). Two, written in turn, so that a
                  process that is killed while it writes one leaves the other.
    tickets       one word per ticket, twice: generations of the sender take turns, so that what a receiver still holds
                  of a dead one cannot disturb its successor.

Each word has one writer at a time, the receiver, but for REPEATED, FIRST and FIRST_FOR, which are the sender's; a plain
store of 64 bits is atomic.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from remotemedia.ipc.ledger import Ledger

GENERATION, ACKNOWLEDGED, DUPLICATES, WHICH, REPEATED, BASE, FIRST, FIRST_FOR = range(8)
_POSITIONS = (8, 16)
_POSITION_WORDS = 8
AGAIN = 24
_TICKETS = 32

ONE_REQUEST = 1 << 32
"""What is added to GENERATION with each request."""

_layout = struct.Struct("<QqQQQqq")


class Position(NamedTuple):
    """The last frame that a receiver has finished with (`part`: its index), and the stamp of what it had sent by then.
    """

    sequence: int
    number: int
    part: int
    flags: int
    session: int
    sent_number: int
    sent_index: int

    def pack(self) -> bytes:
        return _layout.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Position:
        return cls(*_layout.unpack_from(data))


POSITION_BYTES = _layout.size


def lane_words(tickets: int) -> int:
    """The size of a lane in words of the ledger."""
    return _TICKETS + 2 * tickets


class Lane:
    """The lane as either side sees it."""

    __slots__ = ("_positions", "_tickets", "words")

    def __init__(self, ledger: Ledger, offset: int, tickets: int) -> None:
        self.words = ledger.region(offset, _TICKETS)
        self._positions = [ledger.region(offset + at, _POSITION_WORDS) for at in _POSITIONS]
        self._tickets = [ledger.region(offset + _TICKETS + turn * tickets, tickets) for turn in range(2)]

    def tickets(self, sender_generation: int) -> memoryview:
        """The words of the tickets of a sender's generation."""
        return self._tickets[sender_generation % 2]

    def release_none(self) -> None:
        """For a receiver's next generation: it gets again what its predecessor had released and not acknowledged."""
        for words in self._tickets:
            for ticket in range(len(words)):
                words[ticket] = 0

    @property
    def position(self) -> Position | None:
        """Where the receiver stood when it wrote last."""
        which = self.words[WHICH]
        return Position.unpack(self._positions[which - 1]) if which else None

    def stand_at(self, position: Position) -> None:
        """Write where the receiver stands. Before it acknowledges: who reads both may know too little, not too much."""
        which = 1 if self.words[WHICH] == 2 else 2  # noqa: PLR2004 - the other one
        _layout.pack_into(self._positions[which - 1], 0, *position)
        self.words[WHICH] = which
