"""The channel between processes: iceoryx2 publish-subscribe for the frames, the ledger for credits, doorbells for
wake-ups.

One service per sender, one subscriber per receiver: fan-out shares the frame. The bound is a fixed set of *tickets*:
each frame in flight carries one in its header, and a receiver gives it back by writing the frame's sequence number into
the ticket's word of its lane in the ledger. A plain store of a word that nobody else writes: no lock, no counter that a
crash could leave half updated, any order, any thread. The sender knows of each frame whether it is released by all, and
since each receiver's queue has room for every ticket, iceoryx2 can never drop one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from remotemedia.config import ChannelConfig
from remotemedia.ipc.budget import slots_of_sender
from remotemedia.ipc.lane import Lane, lane_words
from remotemedia.ipc.ledger import Ledger, LedgerLayout
from remotemedia.ipc.participant import Participant


@dataclass(frozen=True, kw_only=True)
class ChannelSpec:
    """One channel as every process that uses it must know it."""

    name: str
    receivers: int
    config: ChannelConfig
    lanes: tuple[int, ...]
    """Ledger offset of each receiver's lane."""
    retain: bool
    """Whether the sender keeps its frames until they are acknowledged."""
    borrowers: tuple[int, ...] = ()
    """Ledger offset of the pins of each process that may get the sender's frames by reference."""
    completed: int | None = None
    """Ledger offset of the pool's word of completion, if the sender may also forget what is out of the pipeline: the
    number of the first input that is not, in all its parts. Not for what a node with snapshots is made from.
    """

    @classmethod
    def plan(
        cls,
        name: str,
        receivers: int,
        config: ChannelConfig,
        layout: LedgerLayout,
        *,
        retain: bool = False,
        completed: int | None = None,
        borrowers: int = 0,
    ) -> ChannelSpec:
        """Reserve the channel's place in the ledger. `borrowers`: how many processes may get frames by reference; if
        there are more than tickets to spare, none does.
        """
        lanes = tuple(layout.region(lane_words(config.queue_frames)) for _ in range(receivers))
        spec = cls(name=name, receivers=receivers, config=config, lanes=lanes, retain=retain, completed=completed)
        if not borrowers or not spec._share_of(borrowers):
            return spec
        return replace(spec, borrowers=tuple(layout.region(2 * config.queue_frames) for _ in range(borrowers)))

    @property
    def key(self) -> int:
        """What tells the channel from others of its pool."""
        return self.lanes[0]

    @property
    def keeps(self) -> bool:
        """Whether the sender has a port that receives, too: by that it keeps slots in use."""
        return self.retain or bool(self.borrowers)

    @property
    def subscribers(self) -> int:
        """Ports that receive."""
        return self.receivers + self.keeps

    @property
    def queue_room(self) -> int:
        """Frames that the queue of a receiver has room for, so that none is ever dropped.

        One that is replaced may get as many as there are tickets before its sender knows of it, these again when it
        does, and as many duplicates when another receiver is replaced (see ShmSender.attend); then new ones.
        """
        return self.config.queue_frames * (4 if self.retain else 1)

    @property
    def slots(self) -> int:
        """Slots of each segment of the sender."""
        return slots_of_sender(self.config, self.receivers, retain=self.retain)

    def borrowed(self, index: int, ledger: Ledger) -> list[memoryview]:
        """One borrower's words, one per ticket, for the generations of the sender in turn."""
        tickets = self.config.queue_frames
        return [ledger.region(self.borrowers[index] + turn * tickets, tickets) for turn in range(2)]

    def lane(self, index: int, ledger: Ledger) -> Lane:
        """One receiver's lane."""
        return Lane(ledger, self.lanes[index], self.config.queue_frames)

    def open(self, participant: Participant, *, create: bool = False) -> Any:
        """The iceoryx2 service; the coordinator creates it, the others open it."""
        return participant.open_channel(
            self.name,
            subscribers=self.subscribers,
            queue_room=self.queue_room,
            queue_frames=self.config.queue_frames,
            create=create,
        )

    def share_frames(self) -> int:
        """How many frames one receiver may hold as views: together they leave half of the tickets, at least one, free.
        """
        tickets = self.config.queue_frames
        return max(tickets // (2 * self.receivers), min(1, (tickets - 1) // self.receivers))

    def share_bytes(self) -> int:
        """How many bytes one receiver may hold as several views. A frame larger than this is a large one."""
        return self.config.window_bytes // (2 * self.receivers)

    def borrowed_frames(self) -> int:
        """How many frames one borrower may hold as views: together they have half of the tickets that the receivers
        leave free.
        """
        return self._share_of(len(self.borrowers))

    def borrowed_bytes(self) -> int:
        """How many bytes one borrower may hold as several views. They do not count against the window."""
        return self.config.window_bytes // 2

    def _share_of(self, borrowers: int) -> int:
        return (self.config.queue_frames - self.receivers * self.share_frames()) // 2 // borrowers
