"""A worker's part in what survives its death: what its senders may forget, and where its next generation goes on."""

from __future__ import annotations

from collections.abc import Sequence

from remotemedia.ipc.channel import LAST, Frame, Sender, Stamp
from remotemedia.ipc.lane import Position
from remotemedia.workers.delivery import Unacknowledged
from remotemedia.workers.inbox import BATCH, BATCH_BYTES, Inbox
from remotemedia.workers.snapshots import Snapshots


class Acknowledging:
    """Acknowledges the inputs of one stage as its outputs are acknowledged."""

    def __init__(
        self,
        inbox: Inbox,
        sender: Sender,
        stamp: Stamp,
        snapshots: Snapshots | None,
        positions: Sequence[Position | None] = (),
    ) -> None:
        """`stamp`: that of the frame that the stage has sent last, kept up to date by the stage. `positions`: for each
        input, where the predecessor stood.
        """
        self._inbox, self._sender, self._stamp = inbox, sender, stamp
        self.snapshots = snapshots
        self._unacknowledged = Unacknowledged()
        self._positions: list[Position | None] = list(positions) or [None] * len(inbox.receivers)
        self._skips_whole = len(inbox.receivers) == 1 and inbox.receivers[0].forgets_complete
        """Whether frames that are all of their number need no acknowledgement. Where branches meet they do: what is
        acknowledged of a number on one branch says that all of it on the branch before is finished with.
        """
        self.owed = self._unacknowledged.waiting
        """Not empty: there are inputs to be acknowledged."""
        self._first = sender.sequence
        """Nothing before it was sent by this generation: what its predecessor sent is made again, if need be."""
        self._since = 0
        self._number_is_complete = False
        """Whether nothing more will come for the number that came last. A snapshot is taken only then: one that is
        taken between two frames of a number counts only when the stages behind have had the whole number, and where
        branches meet, they wait for the rest of it on another branch, for which there may be no room until this stage
        acknowledges what only a snapshot lets it acknowledge.
        """

    def finished(self, frame: Frame) -> bool:
        """The stage has finished with a frame and has sent all that it makes of it. True: it is time to settle."""
        sent_as = frame.sent_as
        number, flags = (frame.number, frame.flags) if sent_as is None else sent_as
        if self._skips_whole and flags & LAST and not frame.index:
            return False  # its sender sees from the word of completion when it is out
        stamp = self._stamp
        position = frame.sequence, number, frame.index, flags, frame.session, stamp.number, stamp.index
        self._unacknowledged.add(self._sender.sequence, frame.lane, position)
        if self.snapshots is not None:
            self._positions[frame.lane] = Position(*position)
            self._number_is_complete = bool(frame.flags & LAST)
            if self._number_is_complete and self.snapshots.is_due(self._unacknowledged.finished, in_demand=False):
                return True
        self._since += 1 if frame.nbytes < BATCH_BYTES else BATCH
        return self._since >= BATCH

    def settle(self) -> None:
        """Acknowledge what can be."""
        self._since = 0
        waiting = self._unacknowledged
        if not waiting:
            return
        acknowledged = max(self._sender.acknowledged(), self._first)
        covered = None
        if self.snapshots is not None:
            self.snapshots.settle(acknowledged)
            covered = self.snapshots.covered
        for lane, position in waiting.due(acknowledged, covered):
            self._inbox.receivers[lane].acknowledge(position.sequence, (position.number, position.part), position)

    async def take_snapshot(self, *, in_demand: bool) -> None:
        """Take the state of the node if it is time to."""
        snapshots, finished = self.snapshots, self._unacknowledged.finished
        may_be = in_demand or self._number_is_complete
        if snapshots is not None and may_be and snapshots.is_due(finished, in_demand=in_demand):
            await snapshots.take(finished, self._sender.sequence, self._positions)

    @property
    def is_in_demand(self) -> bool:
        """Whether a sender waits for acknowledgements that this stage still owes."""
        return bool(self._unacknowledged) and any(receiver.is_in_demand for receiver in self._inbox.receivers)
