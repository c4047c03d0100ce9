"""What one sender has in flight, and so whether it may send more. It reads the words that its receivers write into the
ledger, and writes those that a dead one cannot write any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from remotemedia.ipc import references
from remotemedia.ipc.lane import ACKNOWLEDGED, BASE
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.parcels import InFlight
from remotemedia.ipc.shm_channel import ChannelSpec

if TYPE_CHECKING:
    from remotemedia.ipc.replay import Replay

NEVER = 1 << 62
"""More than any sequence number, and more bytes than are ever in flight."""


class Credit:
    """The tickets and the window of one generation of a sender. Belongs to the sender's thread."""

    def __init__(self, spec: ChannelSpec, ledger: Ledger, generation: int) -> None:
        config = spec.config
        lanes = [spec.lane(index, ledger) for index in range(spec.receivers)]
        self.words = [lane.words for lane in lanes]
        """Each receiver's lane."""
        self._lanes = [lane.tickets(generation) for lane in lanes]
        self._receivers = spec.receivers
        self.free = list(range(config.queue_frames - 1, -1, -1))
        """Tickets."""
        self.in_flight: deque[InFlight] = deque()
        """What was sent and is not finished with, oldest first."""
        self.bytes = 0
        """Of it."""
        self.window = config.window_bytes
        self._large = spec.share_bytes()
        self._large_in_flight = self._large_bytes = 0
        self._pins = [spec.borrowed(index, ledger)[generation % 2] for index in range(len(spec.borrowers))]
        self._least_pinned = references.LEAST_BYTES if spec.borrowers else NEVER
        self.pinned: list[InFlight] = []
        """Finished frames that somebody still looks at who got them by reference."""
        self.replay: Replay | None = None
        """Of a sender that retains."""
        self._completion = ledger.region(spec.completed, 1) if spec.completed is not None else None
        self._completed = 0

    def enter(self, entry: InFlight) -> None:
        """A frame was sent."""
        nbytes = entry[2]
        self.in_flight.append(entry)
        self.bytes += nbytes
        if nbytes > self._large:
            self._large_in_flight += 1
            self._large_bytes += nbytes

    def fits(self, nbytes: int) -> bool:
        """Whether there is a ticket and room in the window, after taking back what is finished with.

        Each receiver may hold for ever one large frame, or several small ones within its share. What is left must still
        let every frame pass: so one more large frame than there are receivers is always allowed, and the large ones do
        not count against the small.
        """
        self.collect()
        if not self.free:
            return False
        if self.bytes + nbytes <= self.window:
            return True
        if nbytes > self._large:
            return self._large_in_flight <= self._receivers
        return self.bytes - self._large_bytes + nbytes <= self.window

    # -- taking back ---------------------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take back the tickets of all finished frames: usually the oldest ones, seldom some in the middle."""
        if self.pinned:
            self._take_back_pinned()
        in_flight, lanes, held, least_pinned = self.in_flight, self._lanes, [], self._least_pinned
        safe = NEVER if self.replay is None else self._acknowledged_by_all()
        completed = self._known_completed()
        while in_flight:
            sequence, ticket, nbytes, _, number = entry = in_flight[0]
            if sequence > safe and number >= completed:
                break
            in_flight.popleft()
            for lane in lanes:
                if lane[ticket] != sequence:
                    held.append(entry)
                    break
            else:
                if nbytes >= least_pinned and self._is_pinned(ticket, sequence):
                    self.pinned.append(entry)
                else:
                    self.free.append(ticket)
                self.bytes -= nbytes
                if nbytes > self._large:
                    self._large_in_flight -= 1
                    self._large_bytes -= nbytes
        if held:
            in_flight.extendleft(reversed(held))

    def _is_pinned(self, ticket: int, sequence: int) -> bool:
        """Whether somebody looks at a frame who got it by reference."""
        for words in self._pins:  # noqa: SIM110 - a generator would cost more than the rest
            if words[ticket] == sequence:
                return True
        return False

    def _take_back_pinned(self) -> None:
        still = []
        for entry in self.pinned:
            if self._is_pinned(entry[1], entry[0]):
                still.append(entry)
            else:
                self.free.append(entry[1])
        self.pinned = still

    def pins(self, borrower: int) -> bool:
        """Whether this one looks at a finished frame."""
        words = self._pins[borrower]
        return any(words[entry[1]] == entry[0] for entry in self.pinned)

    def may_be_lent(self) -> bool:
        """Whether a receiver may hold a frame for what it has passed on."""
        least = self._least_pinned
        return any(entry[2] >= least for entry in self.in_flight)

    # -- acknowledgement -----------------------------------------------------------------------------------------------

    def first_unacknowledged(self) -> int:
        """Sequence number of the first frame that a receiver has not finished with; 0 if there is none."""
        safe, completed = self._acknowledged_by_all(), self._known_completed()
        for sequence, _, _, _, number in self.in_flight:
            if sequence > safe and number >= completed:
                return sequence
        return 0

    def _acknowledged_by_all(self) -> int:
        if self._receivers == 1:
            return self.words[0][ACKNOWLEDGED]
        return min([words[ACKNOWLEDGED] for words in self.words])

    def _known_completed(self) -> int:
        """Inputs with a lower number are out of the pipeline, in all their parts: what was made of them on the way can
        be forgotten, as if all receivers had acknowledged it.

        Read before it is seen that no receiver is new. So what a new one's predecessor had of these frames is finished
        with, and what the new one has taken itself is not among them (see `forget`).
        """
        if self._completion is not None:
            completed = self._completion[0]
            assert self.replay is not None
            if not self.replay.is_due():
                self._completed = completed
        return self._completed

    # -- receivers that are replaced -----------------------------------------------------------------------------------

    def forget(self, lane: int) -> int:
        """The process of a lane has died, and with it every view of frames that it need not have again: release those
        for it. The sequence number of the first frame that its successor needs; 0 if it needs none.
        """
        tickets = self._lanes[lane]
        acknowledged, first = self.words[lane][BASE], 0
        for sequence, ticket, _, _, number in reversed(self.in_flight):
            if sequence <= acknowledged or number < self._completed:
                tickets[ticket] = sequence
            else:
                first = sequence
        return first

    def unacknowledged(self, lanes: Mapping[int, int]) -> list[InFlight]:
        """What the receivers of `lanes` need again, oldest first. By lane: the first frame that was asked for, or 0 for
        a new one, which needs all that its predecessor has not acknowledged and that is in the pipeline.
        """
        asked = min([first for first in lanes.values() if first], default=NEVER)
        safe = min([self.words[lane][ACKNOWLEDGED] for lane, first in lanes.items() if not first], default=NEVER)
        completed = self._completed
        return [e for e in self.in_flight if e[0] >= asked or (e[0] > safe and e[4] >= completed)]

    def close(self) -> None:
        """Let go of what is kept."""
        self.in_flight.clear()
        self.pinned.clear()
        self.replay = self._completion = None
