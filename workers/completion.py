"""How far everything is out of the pipeline: one word of the ledger that the coordinator writes and all senders read.

What was made of an input on its way need not be kept any more when the last output for it has been taken, so senders
forget it without being told by their receivers. Acknowledgements (remotemedia.workers.acknowledging), which walk from
hop to hop, are then needed for inputs that have many outputs on the way, and in front of nodes with snapshots only.
"""

from __future__ import annotations

from collections.abc import Sequence

from remotemedia.ipc.doorbell import ACKNOWLEDGEMENT, CREDIT, Doorbell, fence


class Completion:
    """The word, and the doorbells of those who may sleep until it changes."""

    __slots__ = ("_bells", "_word")

    def __init__(self, word: memoryview, bells: Sequence[Doorbell]) -> None:
        self._word, self._bells = word, bells

    def reached(self, number: int) -> None:
        """All outputs for this input, and for all before it, are taken."""
        self._word[0] = number + 1

    def tell(self) -> None:
        """Wake those who sleep for want of it."""
        fence()
        for bell in self._bells:
            bell.ring_for(CREDIT | ACKNOWLEDGEMENT)
