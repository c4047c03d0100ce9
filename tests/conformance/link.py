"""One channel with both of its ends in this process, for every implementation: what the conformance tests run on."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from remotemedia.config import ChannelConfig
from remotemedia.ipc.channel import Frame, Receiver, Sender, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, OwnDoorbell, new_doorbell_fd
from remotemedia.ipc.ledger import Ledger, LedgerLayout
from remotemedia.ipc.local_channel import LocalSender
from remotemedia.ipc.participant import Participant
from remotemedia.ipc.shm_channel import ChannelSpec, ShmReceiver, ShmSender

SHM = Path("/dev/shm")
_numbers = itertools.count()


class Link:
    """A sender, its receivers, and the doorbell of each side."""

    def __init__(self, sender: Any, receivers: list[Any], bells: list[OwnDoorbell]) -> None:
        self.sender: Sender | Any = sender
        self.receivers: list[Receiver | Any] = receivers
        self.sender_bell, self.receiver_bell = bells

    @property
    def receiver(self) -> Any:
        return self.receivers[0]

    def cut(self) -> None:
        """Let go of both ends; pytest keeps the value of a fixture for longer than the fixture."""
        vars(self).clear()

    def try_send(self, value: Any, number: int = 0, flags: int = 1) -> bool:
        """Send if there is credit."""
        parcel = self.sender.pack(value)
        if not self.sender.has_credit(parcel.nbytes):
            return False
        self.sender.send(parcel, Stamp(number, flags=flags))
        return True

    def send(self, value: Any, number: int = 0, flags: int = 1) -> None:
        assert self.try_send(value, number, flags), "no credit"

    def hand_over(self, make: Callable[[], Any]) -> Any:
        """Send what `make` gives, as a node returns it: nobody else holds it. Gives it as it arrives."""
        value = make()
        parcel = self.sender.pack(value)
        del value
        assert self.sender.has_credit(parcel.nbytes)
        self.sender.send(parcel, Stamp(0))
        return self.receive().value

    def receive(self, receiver: int = 0) -> Frame:
        frame: Frame | None = self.receivers[receiver].receive()
        assert frame is not None, "nothing came"
        return frame

    def carry(self, value: Any) -> Any:
        """`value` as it arrives."""
        self.send(value)
        return self.receive().value

    def fill(self, value: Any) -> int:
        """Send `value` until there is no more credit: how many that were."""
        return next(count for count in itertools.count() if not self.try_send(value, count))


class Connect(Protocol):
    """Makes a channel; `settings` are those of ChannelConfig."""

    kind: str

    def __call__(self, receivers: int = 1, **settings: int) -> Link: ...


class Connector:
    """Makes links of one kind, and takes everything away again."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._undo: list[Callable[[], object]] = []

    def __call__(self, receivers: int = 1, **settings: int) -> Link:
        config = ChannelConfig(**settings)
        make = self._local if self.kind == "local" else self._shared
        link = make(receivers, config)
        self._undo.append(link.cut)
        return link

    def _ledger(self, layout: LedgerLayout) -> Ledger:
        ledger = Ledger.create(layout)
        self._undo.append(ledger.close)
        return ledger

    def _bell(self, ledger: Ledger, word: int) -> OwnDoorbell:
        bell = OwnDoorbell(new_doorbell_fd(), ledger.region(word, 1))
        fd = bell.fd

        def close() -> None:
            bell.mute()
            os.close(fd)

        self._undo.append(close)
        return bell

    def _local(self, receivers: int, config: ChannelConfig) -> Link:
        layout = LedgerLayout()
        word = layout.region(1)
        bell = self._bell(self._ledger(layout), word)
        sender = LocalSender("test", receivers, config, bell)
        self._undo.append(sender.close)
        return Link(sender, list(sender.receivers), [bell, bell])

    def _shared(self, receivers: int, config: ChannelConfig) -> Link:
        """Two participants, as if in two processes."""
        layout = LedgerLayout()
        words = [layout.region(1), layout.region(1)]
        spec = ChannelSpec.plan("test", receivers, config, layout)
        ledger = self._ledger(layout)
        bells = [self._bell(ledger, word) for word in words]
        name = f"rmtest{os.getpid()}_{next(_numbers)}_"
        here, there = (self._participant(name) for _ in range(2))
        spec.open(here, create=True)
        sender = ShmSender(here, spec, ledger, [bells[1]] * receivers)
        ends = [ShmReceiver(there, spec, lane, ledger, bells[0]) for lane in range(receivers)]
        return Link(sender, ends, bells)

    def _participant(self, prefix: str) -> Participant:
        self._undo.append(lambda: remove_shared_files(prefix))
        participant = Participant(prefix, str(SHM / f"{prefix}root"))
        self._undo.append(participant.close)
        return participant

    def close(self) -> None:
        """Close everything that was made, last first; views that a test still holds stay valid."""
        while self._undo:
            self._undo.pop()()


def remove_shared_files(prefix: str) -> None:
    """What iceoryx2 keeps for a group of participants, even when all have left."""
    for path in SHM.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def wants(bell: OwnDoorbell, what: int) -> bool:
    """Whether the owner of `bell` asked to be rung for `what`, and has not been."""
    return bool(bell.word[0] & what)


__all__ = ["CREDIT", "DATA", "Connect", "Connector", "Link", "remove_shared_files", "wants"]
