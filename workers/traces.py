"""The trace contexts of the frames under way, and when their nodes worked on them: rows of words in the ledger.

A frame that is traced has a row, found by its number. The coordinator writes the context (W3C trace context: trace id,
span id) before it sends the frame; each node has an entry of its own in the row, where it writes when it began and when
it ended. No message is sent for it, no frame is larger or copied for it, and what a worker has written is still there
after it was killed. Frames that are not traced have no row.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import msgspec

from remotemedia.ipc.ledger import Ledger

_HEAD = _ENTRY = 8
"""Words of a row before the entries of the nodes, and of each entry: lines of the cache, which nobody else writes."""
_NUMBER, _TRACE_HIGH, _TRACE_LOW, _SPAN = range(4)
NUMBER, BEGAN, ENDED, CALLS, GENERATION, FAILED, PID = range(7)
"""Words of an entry. NUMBER (in the head as well): the number of the frame, plus one, so that 0 is none. BEGAN, ENDED:
ns of the monotonic clock; ENDED is 0 while the node is at it. CALLS: of `process`. FAILED: 1 if it raised.
"""
_MOST_ROWS = 256
_WORD_BITS = 64
_WORD_MASK = 2**_WORD_BITS - 1


class TraceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows lie in the ledger (`offset`, in words), how many there are, and of how many nodes each tells."""

    offset: int
    rows: int
    nodes: int


def rows_for(in_flight_frames: int) -> int:
    """How many rows a pool needs that has at most so many frames under way; beyond 256, frames may find none free."""
    return min(in_flight_frames, _MOST_ROWS)


def row_words(nodes: int) -> int:
    return _HEAD + _ENTRY * nodes


class Run(NamedTuple):
    """What one generation of a worker has told of its work on one frame; times in ns of the monotonic clock."""

    worker_id: int
    generation: int
    pid: int
    began_ns: int
    ended_ns: int
    """0: it has not ended."""
    calls: int
    failed: bool


class TraceTable:
    """The rows, from either side."""

    def __init__(self, words: memoryview, nodes: int) -> None:
        """`words`: a whole number of rows."""
        self.words = words
        self.width = row_words(nodes)
        self.rows = len(words) // self.width
        self._nodes = nodes

    @classmethod
    def at(cls, spec: TraceSpec, ledger: Ledger) -> Self:
        return cls(ledger.region(spec.offset, spec.rows * row_words(spec.nodes)), spec.nodes)

    def row(self, number: int) -> int:
        """Where the row of a frame begins, if it has one."""
        return (number % self.rows) * self.width

    def entry(self, number: int, worker_id: int) -> memoryview:
        """The words of a node in the row of a frame."""
        at = self.row(number) + _HEAD + _ENTRY * worker_id
        return self.words[at : at + _ENTRY]

    # -- the coordinator's side ----------------------------------------------------------------------------------------

    def has_room(self, number: int) -> bool:
        """Whether the row of this frame is free: another one that is under way may have it."""
        return self.words[self.row(number)] == 0

    def open(self, number: int, trace_id: int, span_id: int) -> None:
        """From now on this frame is traced."""
        words, row = self.words, self.row(number)
        words[row + _TRACE_HIGH], words[row + _TRACE_LOW] = trace_id >> _WORD_BITS, trace_id & _WORD_MASK
        words[row + _SPAN] = span_id
        words[row + _NUMBER] = number + 1

    def close(self, number: int) -> None:
        """The frame is out. What is made again for it is not traced."""
        self.words[self.row(number)] = 0

    def run(self, number: int, worker_id: int) -> Run | None:
        """The last work of a node on this frame, if it has begun."""
        entry = self.entry(number, worker_id)
        if entry[NUMBER] != number + 1:
            return None
        return Run(
            worker_id,
            entry[GENERATION],
            entry[PID],
            entry[BEGAN],
            entry[ENDED],
            entry[CALLS],
            failed=bool(entry[FAILED]),
        )

    def runs(self, number: int) -> list[Run]:
        """The last work of each node that has begun on this frame."""
        found = (self.run(number, worker_id) for worker_id in range(self._nodes))
        return [run for run in found if run is not None]

    # -- the nodes' side -----------------------------------------------------------------------------------------------

    def traceparent(self, number: int) -> str | None:
        """The context of a frame as in the header of that name (W3C trace context); None if it is not traced."""
        words, row = self.words, self.row(number)
        if words[row + _NUMBER] != number + 1:
            return None
        return f"00-{words[row + _TRACE_HIGH]:016x}{words[row + _TRACE_LOW]:016x}-{words[row + _SPAN]:016x}-01"
