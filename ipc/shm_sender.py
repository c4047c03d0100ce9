"""The sending end of the shared-memory channel (see remotemedia.ipc.shm_channel for the whole): what is packed
(remotemedia.ipc.packing) into loaned slots (remotemedia.ipc.slots) is sent as far as there is credit
(remotemedia.ipc.credit), and sent again to receivers that were replaced (remotemedia.ipc.replay).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from remotemedia.core.exceptions import ChannelBroken
from remotemedia.ipc import references
from remotemedia.ipc.acceptance import GENERATION_SHIFT
from remotemedia.ipc.channel import Stamp
from remotemedia.ipc.credit import NEVER, Credit
from remotemedia.ipc.doorbell import DATA, REPETITION, Doorbell, fence
from remotemedia.ipc.lane import FIRST, FIRST_FOR
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.packing import Packer
from remotemedia.ipc.parcels import InFlight, Lent, ShmParcel
from remotemedia.ipc.participant import Participant
from remotemedia.ipc.references import Lender
from remotemedia.ipc.replay import Replay
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.ipc.shm_memory import Header
from remotemedia.ipc.slots import Slots
from remotemedia.ipc.wire import HEADER, KIND_AT, REPEATED_AT, USER_HEADER_BYTES

_pack_header = HEADER.pack_into


class ShmSender:
    """The sending end (see remotemedia.ipc.channel.Sender). Belongs to one thread; arrays of `empty` may die in any."""

    def __init__(
        self,
        participant: Participant,
        spec: ChannelSpec,
        ledger: Ledger,
        receivers: Sequence[Doorbell],
        generation: int = 0,
        borrowers: Sequence[Doorbell | None] = (),
        lender: Lender | None = None,
    ) -> None:
        """`receivers`: the doorbell of each lane's process, in the order of the lanes. `generation`: of this sender.
        `borrowers`: the doorbells of those who may get frames by reference; None: this process. `lender`: finds what is
        to be sent so.
        """
        self.name = spec.name
        self._receivers = spec.receivers
        self._bells = list(dict.fromkeys(receivers))
        self._borrowers = borrowers
        self.sequence = self.before_first = generation << GENERATION_SHIFT
        self._credit = credit = Credit(spec, ledger, generation)
        credit.replay = Replay(self, credit, spec.config.queue_frames) if spec.retain else None
        service = spec.open(participant)
        self._retained = participant.subscriber(service, queue_room=2).receive if spec.keeps else None
        self._least_kept = 0 if spec.retain else references.LEAST_BYTES if spec.keeps else NEVER
        self._slots = Slots(participant, service, spec, credit)
        self.packer = Packer(self._slots, lender)
        self.empty, self.pack = self.packer.empty, self.packer.pack
        self._lender = lender
        self._last_lent = 0
        if lender is not None:
            lender.references.senders.append(self)
        if generation:
            for bell in self._bells:  # a predecessor may have died after it had taken back what they ask for
                bell.ring()

    @property
    def copies(self) -> int:
        return self.packer.copies

    @property
    def bytes_copied(self) -> int:
        return self.packer.bytes_copied

    def has_credit(self, nbytes: int) -> bool:
        credit = self._credit
        replay = credit.replay
        if replay is not None and replay.is_due() and not replay.go_on():
            return False  # what is new must not overtake what is sent again
        return bool(credit.free and credit.bytes + nbytes <= credit.window) or credit.fits(nbytes)

    def send(self, parcel: ShmParcel, stamp: Stamp) -> None:
        sample, nbytes, lent = parcel.sample, parcel.nbytes, parcel.lent
        credit = self._credit
        retained = self._retained if nbytes >= self._least_kept else None
        if retained is not None and credit.replay is None:
            while retained() is not None:  # frames that are not kept: they would leave no room for this one
                pass
        ticket = credit.free.pop()
        self.sequence = sequence = self.sequence + 1
        _pack_header(
            Header.from_address(sample.user_header_ptr),
            0,
            sequence,
            stamp.number,
            stamp.session,
            stamp.index,
            ticket,
            stamp.flags,
            parcel.layout,
        )
        reached = getattr(sample, "__assume_init")().send()
        fence()
        for bell in self._bells:
            bell.ring_for(DATA)
        # All that is left to do here is done while the receivers wake up.
        kept = None if retained is None else retained()
        if lent is not None:
            lent.sample, kept, self._last_lent = kept, lent, sequence
        credit.enter((sequence, ticket, nbytes, kept, stamp.number))
        if credit.replay is None and reached < self._receivers + (retained is not None):
            raise ChannelBroken(self.name, f"only {reached} of {self._receivers} receivers are connected")

    def unreleased(self) -> int:
        credit = self._credit
        credit.collect()
        return len(credit.in_flight) + len(credit.pinned)

    def demand(self, *, back: bool = True) -> None:
        credit = self._credit
        if credit.replay is not None or (back and credit.may_be_lent()):
            for bell in self._bells:
                bell.ring_for(DATA)
        if not back:
            return
        if credit.pinned:
            for index, borrower in enumerate(self._borrowers):
                if borrower is not None and credit.pins(index):
                    borrower.ring_for(DATA)
        if self._lender is not None:
            self._lender.references.collect(self)

    # -- what was passed on by reference -------------------------------------------------------------------------------

    @property
    def lends(self) -> bool:
        in_flight = self._credit.in_flight
        return bool(in_flight) and in_flight[0][0] <= self._last_lent

    def recall(self) -> bool:
        self._credit.collect()
        return self.lends and self._lender is not None and self._lender.references.is_in_demand

    # -- receivers that are replaced -----------------------------------------------------------------------------------

    def acknowledged(self) -> int:
        first = self._credit.first_unacknowledged()
        return first - 1 if first else self.sequence

    def attend(self) -> bool:
        replay = self._credit.replay
        return replay is None or not replay.is_due() or replay.go_on()

    def welcome(self, lane: int, generation: int) -> None:
        """A lane has a new process, which wrote `generation` into it: reach it, and tell it what comes first."""
        words, first = self._credit.words[lane], self._credit.forget(lane)
        words[FIRST] = first or self.sequence + 1
        words[FIRST_FOR] = generation
        self._slots.connect()

    def send_again(self, entry: InFlight) -> None:
        """Send a copy of what is kept of a frame, with its old number and ticket."""
        kept, nbytes = entry[3], entry[2]
        copy = self._slots.loan(nbytes)
        header = Header.from_address(copy.user_header_ptr)
        if kept.__class__ is Lent:
            ctypes.memmove(header, kept.sample.user_header_ptr, USER_HEADER_BYTES)
            ctypes.memmove(copy.user_header_ptr + KIND_AT, kept.layout, len(kept.layout))
            kept.copy_to(copy.payload_ptr, nbytes)
        else:
            ctypes.memmove(header, kept.user_header_ptr, USER_HEADER_BYTES)
            ctypes.memmove(copy.payload_ptr, kept.payload_ptr, nbytes)
        header[REPEATED_AT] = 1
        getattr(copy, "__assume_init")().send()
        assert self._retained is not None
        self._retained()  # our own port got it too
        for bell in self._bells:
            bell.ring_for(DATA | REPETITION)

    def close(self) -> None:
        """Let go of what is kept. The port lives in the participant, and leaves with it once everything is released."""
        self._credit.close()
        self.packer.close()
        self._lender = self._retained = None
