"""One channel with both of its ends in this process, for every implementation: what the conformance tests run on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from remotemedia.config import ChannelConfig
from remotemedia.ipc.channel import Frame, Receiver, Sender, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, OwnDoorbell, new_doorbell_fd
from remotemedia.ipc.ledger import Ledger, LedgerLayout
from remotemedia.ipc.local_channel import LocalSender
from remotemedia.ipc.participant import Participant
from remotemedia.ipc.references import Lender, Origin, References
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.ipc.shm_receiver import ShmReceiver
from remotemedia.ipc.shm_sender import ShmSender

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


class Connector:
    """Makes links of one kind, and takes everything away again. `settings` are those of ChannelConfig."""

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
        shared, here = self._create(receivers, config)
        there = self._join(shared.prefix)
        sender = ShmSender(here, shared.spec, shared.ledger, [shared.bells[1]] * receivers)
        ends = [
            ShmReceiver(there, shared.spec, lane, shared.ledger, shared.bells[0]) for lane in range(receivers)
        ]
        return Link(sender, ends, shared.bells)

    def chain(self, channels: int, *, retain: bool = False, **settings: int) -> list[Link]:
        """Channels one after the other between processes in a row, or as if: what comes out of one may be sent into the
        next by reference.
        """
        config, layout = ChannelConfig(**settings), LedgerLayout()
        words = [layout.region(1) for _ in range(channels + 1)]
        specs = [
            ChannelSpec.plan(f"test{at}", 1, config, layout, retain=retain, borrowers=channels - 1 - at)
            for at in range(channels)
        ]
        ledger = self._ledger(layout)
        bells = [self._bell(ledger, word) for word in words]
        prefix = f"rmtest{os.getpid()}_{next(_numbers)}_"
        first = self._join(prefix)
        for spec in specs:
            spec.open(first, create=True)
        processes = [first, *(self._join(prefix) for _ in range(channels))]
        lenders = [_lender(specs, at, ledger, bells) for at in range(channels + 1)]
        links = []
        for at, spec in enumerate(specs):
            sender = ShmSender(
                processes[at], spec, ledger, [bells[at + 1]], borrowers=bells[at + 2 :], lender=lenders[at]
            )
            references = lenders[at + 1].references
            receiver = ShmReceiver(processes[at + 1], spec, 0, ledger, bells[at], references=references)
            links.append(Link(sender, [receiver], [bells[at], bells[at + 1]]))
            self._undo.append(links[-1].cut)
        return links

    def open_end(self, end: str, **settings: int) -> tuple[Link, Shared]:
        """One end of a channel to another process ("sender" or "receiver"), and what that process must know."""
        shared, here = self._create(1, ChannelConfig(**settings))
        sender: Any = None
        receivers: list[Any] = []
        if end == "sender":
            sender = ShmSender(here, shared.spec, shared.ledger, [shared.bells[1]])
        else:
            receivers.append(ShmReceiver(here, shared.spec, 0, shared.ledger, shared.bells[0]))
        link = Link(sender, receivers, shared.bells)
        self._undo.append(link.cut)
        return link, shared

    def _create(self, receivers: int, config: ChannelConfig) -> tuple[Shared, Participant]:
        layout = LedgerLayout()
        words = [layout.region(1), layout.region(1)]
        spec = ChannelSpec.plan("test", receivers, config, layout)
        ledger = self._ledger(layout)
        bells = [self._bell(ledger, word) for word in words]
        shared = Shared(f"rmtest{os.getpid()}_{next(_numbers)}_", spec, ledger, words, bells)
        participant = self._join(shared.prefix)
        spec.open(participant, create=True)
        return shared, participant

    def _join(self, prefix: str) -> Participant:
        self._undo.append(lambda: remove_shared_files(prefix))
        participant = Participant(prefix, root_of(prefix))
        self._undo.append(participant.close)
        return participant

    def close(self) -> None:
        """Close everything that was made, last first; views that a test still holds stay valid."""
        while self._undo:
            self._undo.pop()()


def _lender(specs: list[ChannelSpec], at: int, ledger: Ledger, bells: list[OwnDoorbell]) -> Lender:
    """Of the process that is `at`-th in a row."""
    borrowed = [n for n in range(at - 1) if specs[n].borrowers]
    origins = {specs[n].key: Origin(specs[n], at - 2 - n, ledger, bells[n]) for n in borrowed}
    lendable = {spec.key for spec in specs[:at] if spec.borrowers}
    return Lender(References(origins, bells[:at]), lendable)


class Shared(NamedTuple):
    """What the processes at both ends of a channel have in common. Words and bells: the sender's, the receiver's."""

    prefix: str
    spec: ChannelSpec
    ledger: Ledger
    words: list[int]
    bells: list[OwnDoorbell]

    def as_json(self) -> str:
        """For another process, which inherits `fds`."""
        facts = {
            "prefix": self.prefix,
            "spec": dataclasses.asdict(self.spec),
            "ledger": self.ledger.fd,
            "words": self.words,
            "bells": [bell.fd for bell in self.bells],
        }
        return json.dumps(facts)

    @property
    def fds(self) -> tuple[int, ...]:
        return (self.ledger.fd, *(bell.fd for bell in self.bells))


def root_of(prefix: str) -> str:
    """Where a group of participants keeps its files."""
    return str(SHM / f"{prefix}root")


def remove_shared_files(prefix: str) -> None:
    """What iceoryx2 keeps for a group of participants, even when all have left."""
    for path in SHM.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def wants(bell: OwnDoorbell, what: int) -> bool:
    """Whether the owner of `bell` asked to be rung for `what`, and has not been."""
    return bool(bell.word[0] & what)


__all__ = ["CREDIT", "DATA", "Connector", "Link", "Shared", "root_of", "wants"]
