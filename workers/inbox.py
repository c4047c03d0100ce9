"""The inputs of a stage as one sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from remotemedia.ipc.channel import LAST, Frame, Receiver
from remotemedia.workers.completion import Completion
from remotemedia.workers.delivery import Merge

BATCH = 8
"""Frames that are taken, or finished with, before they are acknowledged together, unless there is time anyway."""
BATCH_BYTES = 128 * 1024
"""... or so many bytes: the memory of large frames is wanted back soon, while it is in the processor's cache."""


class Inbox:
    """The inputs of a stage as one sequence."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        *,
        safe: bool = True,
        merge: Merge | None = None,
        completion: Completion | None = None,
    ) -> None:
        """`safe`: this process is not replaced, so what is taken need not be kept by its sender. `merge`: where to go
        on. `completion`: for the end of the pipeline, to be told how far everything is out.
        """
        self.receivers = receivers
        self.bytes_in = 0
        self._safe = safe
        self._merge = merge or Merge(len(receivers))
        self._completion = completion
        self._ahead: list[deque[Frame]] = [deque() for _ in receivers]
        """Per input: frames that were received before their turn."""
        self._owed = 0
        self._last: tuple[int, tuple[int, int]] | None = None
        """What is to be acknowledged. Not what is all of its number, where completion tells the sender of it."""
        self._only = receivers[0].receive if len(receivers) == 1 else None
        self._only_ahead = self._ahead[0] if len(receivers) == 1 else None
        self._current: tuple[Receiver, int] | None = None
        """Of several inputs, which gave the frame that was taken last, and that one's sequence number there."""

    def take(self) -> Frame | None:
        """The next frame in the order of remotemedia.workers.delivery, or None if it has not come yet."""
        if self._only is None:
            return self._take_merged()
        frame = self._only() if not self._only_ahead else self._only_ahead.popleft()
        if frame is None:
            if self._owed:
                self.acknowledge()
            return None
        self.bytes_in += frame.nbytes
        if self._safe:
            is_last = frame.flags & LAST
            if self._completion is None or frame.index or not is_last:
                self._last = frame.sequence, (frame.number, frame.index)
            if self._completion is not None and is_last:
                self._completion.reached(frame.number)
            self._owed += 1 if frame.nbytes < BATCH_BYTES else BATCH
            if self._owed >= BATCH:
                self.acknowledge()
        return frame

    def _take_merged(self) -> Frame | None:
        frame = self._take_in_turn()
        if frame is None:
            return None
        turn = frame.lane
        self.bytes_in += frame.nbytes
        if self._safe:
            self.receivers[turn].acknowledge(frame.sequence, (frame.number, frame.index))
        frame.sent_as = frame.number, frame.flags
        frame.number, frame.flags = self._merge.took(frame.number, frame.flags)
        if self._completion is not None and frame.flags & LAST:
            self._completion.reached(frame.number)
            self._completion.tell()
        return frame

    def _take_in_turn(self) -> Frame | None:
        merge = self._merge
        while True:
            turn = merge.turn
            frame = self._ahead[turn].popleft() if self._ahead[turn] else self.receivers[turn].receive()
            if frame is None:
                self._read_ahead()
                return None
            if frame.number < merge.floor:
                continue
            if merge.is_passed_by(frame.number):
                self._ahead[turn].appendleft(frame)
                continue
            frame.lane = turn
            self._current = self.receivers[turn], frame.sequence
            return frame

    def is_current(self, receiver: Receiver, sequence: int) -> bool:
        """Whether that frame is the one that was taken last, as far as can be told: True is certain."""
        if self._only is None:
            return self._current == (receiver, sequence)
        return receiver is self.receivers[0] and receiver.newest == sequence

    def acknowledge(self) -> None:
        """Acknowledge all that was taken, where that needs no more than its being here."""
        if self._owed:
            self._owed = 0
            if self._last is not None:
                self.receivers[0].acknowledge(*self._last)
                self._last = None
            if self._completion is not None:
                self._completion.tell()

    def shed(self) -> None:
        """Drop the repetitions in the queues, for a stage that waits for something else: who sends them may have no
        room for what that waits for. New frames before them are kept until their turn; no more than there are tickets.
        """
        for receiver, ahead in zip(self.receivers, self._ahead, strict=True):
            while receiver.has_repetitions:
                frame = receiver.receive()
                if frame is None:
                    break
                frame.lease = None
                ahead.append(frame)

    def _read_ahead(self) -> None:
        """Take what the inputs whose turn comes later have for the present number.

        Else it would fill their channels, and their senders, out of credit, would never get to send what the input
        that is waited for is made from. Later numbers can stay where they are: for those, all of the present one has
        been sent already. So no more is kept here than the outputs of one number.
        """
        for index in self._merge.later():
            ahead, receiver = self._ahead[index], self.receivers[index]
            while True:
                while ahead and ahead[0].number < receiver.completed:
                    ahead.popleft()  # made again by a new sender: its turn will not come, but its room is wanted
                if ahead and ahead[-1].flags & LAST:
                    break
                frame = receiver.receive()
                if frame is None:
                    break
                frame.lease = None  # the credit of what is no view of the slot goes back at once
                ahead.append(frame)
