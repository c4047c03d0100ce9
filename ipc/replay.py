"""Sending again to receivers that were replaced, or that ask for it, in order and before anything new.

One asks from the first frame on that it could not read: a reference to data that are out of its reach. What is sent
again is always a copy of the data themselves.

A copy reaches every receiver of the channel, those too that have it already: they drop it and count it. So that the
queue of one that does not take its frames never overflows with such duplicates, no more than there are tickets are on
their way to it at once; the rest waits until it has taken some. It must not wait for ever: the receiver may be waiting
for what the one that is replaced has to make. So receivers that wait for something else take their duplicates then
(Receiver.has_repetitions), and are woken for it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from remotemedia.ipc.lane import AGAIN, DUPLICATES, GENERATION, ONE_REQUEST, REPEATED

if TYPE_CHECKING:
    from remotemedia.ipc.credit import Credit
    from remotemedia.ipc.parcels import InFlight
    from remotemedia.ipc.shm_sender import ShmSender


class Replay:
    """What one sender still has to send again."""

    __slots__ = ("_credit", "_generations", "_most", "_only", "_sender", "_starting", "_waiting", "_words")

    def __init__(self, sender: ShmSender, credit: Credit, tickets: int) -> None:
        self._sender, self._credit, self._most = sender, credit, tickets
        self._words = words = credit.words
        self._generations = [lane[GENERATION] for lane in words]
        self._only = words[0] if len(words) == 1 else None
        for lane in words:  # those of a predecessor are not repeated any more
            lane[REPEATED] = lane[DUPLICATES]
        self._starting: dict[int, int] = {}
        """Lane → the first frame that its receiver has not had yet."""
        self._waiting: deque[InFlight] = deque()

    def is_due(self) -> bool:
        """Whether a receiver has been replaced, or something still waits."""
        if self._only is not None:
            return self._only[GENERATION] != self._generations[0] or bool(self._waiting)
        return bool(self._waiting) or [lane[GENERATION] for lane in self._words] != self._generations

    def go_on(self) -> bool:
        """Send what there is room for; True when that is all."""
        self._notice()
        while self._waiting:
            if not self._has_room():
                return False
            entry = self._waiting.popleft()
            for lane, words in enumerate(self._words):
                if lane not in self._starting or entry[0] < self._starting[lane]:
                    words[REPEATED] += 1
            self._sender.send_again(entry)
        self._starting.clear()
        return True

    def _notice(self) -> None:
        for lane, words in enumerate(self._words):
            generation = words[GENERATION]
            if generation == self._generations[lane]:
                continue
            before, self._generations[lane] = self._generations[lane], generation
            if generation % ONE_REQUEST != before % ONE_REQUEST:
                words[REPEATED] = 0
                self._starting[lane] = 0
                self._sender.welcome(lane, generation % ONE_REQUEST)
            elif words[AGAIN] > self._sender.before_first:
                self._starting.setdefault(lane, words[AGAIN])
            else:
                continue  # what was asked of a predecessor is made again in any case
            self._waiting = deque(self._credit.unacknowledged(self._starting))

    def _has_room(self) -> bool:
        return all(
            lane in self._starting or words[REPEATED] < words[DUPLICATES] + self._most
            for lane, words in enumerate(self._words)
        )
