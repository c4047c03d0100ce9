"""One end of a channel in a process of its own: `python peer.py <behaviour> <facts as JSON>`, see link.Shared.

Writes one line to stdout for each thing that the test waits for.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import numpy as np

from remotemedia.config import ChannelConfig
from remotemedia.ipc.channel import END, LAST, MARK, Frame, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, Doorbell, OwnDoorbell
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.participant import Participant
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.ipc.shm_receiver import ShmReceiver
from remotemedia.ipc.shm_sender import ShmSender
from remotemedia.workers.child.drive import BlockingWaiter, drive
from tests.conformance.link import root_of


def say(text: object) -> None:
    print(text, flush=True)


class End:
    """One end: `mine` is 0 for the sender's, 1 for the receiver's."""

    def __init__(self, facts: dict[str, Any], mine: int) -> None:
        spec = facts["spec"]
        self.spec = ChannelSpec(**{**spec, "config": ChannelConfig(**spec["config"]), "lanes": tuple(spec["lanes"])})
        self.ledger = Ledger(facts["ledger"])
        words = [self.ledger.region(word, 1) for word in facts["words"]]
        self.bell = OwnDoorbell(facts["bells"][mine], words[mine])
        self.bell.waiter = BlockingWaiter(self.bell, lambda: False)
        self.other_bell = Doorbell(facts["bells"][1 - mine], words[1 - mine])
        self.participant = Participant(facts["prefix"], root_of(facts["prefix"]))


class ReceivingEnd(End):
    """The receiver's process."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts, 1)
        self.receiver = ShmReceiver(self.participant, self.spec, 0, self.ledger, self.other_bell)
        say("ready")

    async def next(self) -> Frame:
        return await self.bell.until(self.receiver.receive, DATA)

    async def check_all(self) -> None:
        """Check every frame's number and content, holding some for a while; how many came."""
        dice = random.Random(1)
        held: list[Any] = []
        number = 0
        while not (frame := await self.next()).flags & END:
            assert frame.number == number, (frame.number, number)
            assert int(frame.value[0]) == int(frame.value[-1]) == number % 256, number
            number += 1
            if dice.random() < 0.01:
                held.append(frame.value)
            if len(held) > 5:
                held.clear()
            del frame
        say(number)

    async def sum_up(self) -> None:
        """The sum of each value that comes, until the end."""
        while not (frame := await self.next()).flags & END:
            say(float(np.sum(frame.value)))
            del frame

    async def answer_to_calls(self) -> None:
        """What each function that comes gives."""
        while not (frame := await self.next()).flags & END:
            say(frame.value())


class SendingEnd(End):
    """The sender's process."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts, 0)
        self.sender = ShmSender(self.participant, self.spec, self.ledger, [self.other_bell])

    async def send(self, value: Any, number: int, flags: int = LAST) -> None:
        parcel = self.sender.pack(value)
        await self.bell.until(lambda: self.sender.has_credit(parcel.nbytes) or None, CREDIT)
        self.sender.send(parcel, Stamp(number, flags=flags))

    async def send_until_killed(self) -> None:
        """Frames full of their number, for ever; says so when the first have been sent."""
        number = 0
        while True:
            await self.send(np.full(1000, number, np.int64), number)
            number += 1
            if number == 3:
                say("sent")

    async def send_and_wait(self) -> None:
        """Two frames and the end, then nothing until stdin is closed."""
        await self.send(np.arange(1000), 0)
        await self.send({"array": np.arange(1000)}, 1)
        await self.send(MARK, 2, LAST | END)
        say("sent")
        sys.stdin.read()


def main() -> None:
    behaviour, facts = sys.argv[1], json.loads(sys.argv[2])
    end: End = SendingEnd(facts) if hasattr(SendingEnd, behaviour) else ReceivingEnd(facts)
    drive(getattr(end, behaviour)())


if __name__ == "__main__":
    main()
