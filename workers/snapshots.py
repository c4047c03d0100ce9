"""Snapshots of a node's state: where they are kept, and when one is taken.

The coordinator owns two memfds per node that has `snapshot_state`, and the workers of that node write them in turn, so
a worker that is killed while it writes leaves the snapshot before. A snapshot counts only when everything that was sent
before it was taken has been acknowledged: until then the outputs may have to be made again, from the state before them.
"""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from remotemedia.core.calling import maybe_await
from remotemedia.ipc.lane import POSITION_BYTES, Position

if TYPE_CHECKING:
    from remotemedia.core.node import Node

_WHICH, _BYTES = 0, 1
STORE_WORDS = 3
_head = struct.Struct("<Q")


class SnapshotSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker reaches the snapshots of its node, and when it has to take one."""

    fds: tuple[int, int]
    words: int
    """Ledger offset of the store's words."""
    every_frames: int
    every_s: float


class Snapshot(NamedTuple):
    """A node's state, and the last frame of each input that it has seen."""

    positions: list[Position | None]
    state: memoryview


class SnapshotStore:
    """The two memfds, and the words that say which of them counts."""

    def __init__(self, fds: tuple[int, int], words: memoryview) -> None:
        self._fds, self._words = fds, words
        self._written = 0

    def write(self, positions: Sequence[Position | None], state: Any) -> None:
        """Write a snapshot beside the one that counts."""
        which = 1 if self._words[_WHICH] == 2 else 2  # noqa: PLR2004 - the other one
        head = _head.pack(len(positions)) + b"".join(
            bytes([p is not None]) + (p.pack() if p is not None else bytes(POSITION_BYTES)) for p in positions
        )
        body = memoryview(state).cast("B")
        fd = self._fds[which - 1]
        os.pwrite(fd, head, 0)
        written = 0
        while written < body.nbytes:
            written += os.pwrite(fd, body[written:], len(head) + written)
        self._words[_BYTES + which - 1] = len(head) + body.nbytes
        self._written = which

    def commit(self) -> None:
        """What was written last counts from now on."""
        self._words[_WHICH] = self._written

    def load(self) -> Snapshot | None:
        """The snapshot that counts."""
        which = self._words[_WHICH]
        if not which:
            return None
        data = memoryview(os.pread(self._fds[which - 1], self._words[_BYTES + which - 1], 0))
        (count,) = _head.unpack_from(data)
        at = _head.size
        positions: list[Position | None] = []
        for _ in range(count):
            positions.append(Position.unpack(data[at + 1 :]) if data[at] else None)
            at += 1 + POSITION_BYTES
        return Snapshot(positions, data[at:])


_MOST_WAITING = 4


class _Taken(NamedTuple):
    """A snapshot that does not count yet."""

    finished: int
    """How many inputs it has seen."""
    sent: int
    """Sequence number of the last output that was sent before it was taken."""
    positions: tuple[Position | None, ...]
    state: bytes


class Snapshots:
    """When the state of one running node is taken, and up to which input it counts.

    Several may wait for their outputs to be acknowledged. What waits is held here, not written: the newest one that
    counts is written then.
    """

    def __init__(self, node: Node, store: SnapshotStore, *, every_frames: int, every_s: float) -> None:
        self._node, self._store = node, store
        self._every_frames, self._every_ns = every_frames, int(every_s * 1e9)
        self.covered = 0
        """How many inputs the snapshot that counts has seen, of those that this process was given."""
        self._waiting: deque[_Taken] = deque()
        self._taken_ns = time.monotonic_ns()

    def is_due(self, finished: int, *, in_demand: bool) -> bool:
        """Whether to take one now. `in_demand`: a sender waits for what only a snapshot can give back."""
        waiting = self._waiting
        seen = waiting[-1].finished if waiting else self.covered
        if finished == seen or len(waiting) >= _MOST_WAITING:
            return False
        if (in_demand and not waiting) or finished - seen >= self._every_frames:
            return True
        return time.monotonic_ns() - self._taken_ns >= self._every_ns

    async def take(self, finished: int, sent: int, positions: Sequence[Position | None]) -> None:
        """Ask the node for its state. Raises what it raises."""
        state = await maybe_await(self._node.snapshot_state())
        self._waiting.append(_Taken(finished, sent, tuple(positions), b"" if state is None else bytes(state)))
        self._taken_ns = time.monotonic_ns()

    def settle(self, acknowledged: int) -> None:
        """Outputs up to this sequence number have been acknowledged."""
        newest = None
        while self._waiting and self._waiting[0].sent <= acknowledged:
            newest = self._waiting.popleft()
        if newest is not None:
            self._store.write(newest.positions, newest.state)
            self._store.commit()
            self.covered = newest.finished
