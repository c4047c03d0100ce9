"""The receiving end of the shared-memory channel: receive, borrow, release (see remotemedia.ipc.shm_channel)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.exceptions import ChannelError
from remotemedia.ipc import codec
from remotemedia.ipc.acceptance import Acceptance, Verdict
from remotemedia.ipc.channel import LAST, MARK, Frame
from remotemedia.ipc.doorbell import ACKNOWLEDGEMENT, CREDIT, Doorbell, fence
from remotemedia.ipc.lane import (
    ACKNOWLEDGED,
    AGAIN,
    BASE,
    DUPLICATES,
    FIRST,
    FIRST_FOR,
    GENERATION,
    ONE_REQUEST,
    REPEATED,
    Position,
)
from remotemedia.ipc.leases import Borrowed, Lease
from remotemedia.ipc.ledger import WORD, Ledger
from remotemedia.ipc.participant import Participant
from remotemedia.ipc.references import Reference, References
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.ipc.shm_memory import Header
from remotemedia.ipc.wire import ARRAY, BARE, BYTES, HEADER, REFERENCE, Layout, read_layout

_NOT_TO_RELEASE = {Verdict.REPEATED, Verdict.EARLY, Verdict.STALE}
"""Frames that give no ticket back when they are dropped: the same frame was accepted, and may still be held, or is
still to come; or its sender is dead.
"""

_from_buffer: Any = np.frombuffer
_unpack_header = HEADER.unpack_from


class ShmReceiver:
    """One receiving end (see remotemedia.ipc.channel.Receiver). Belongs to one thread; frames may be dropped in any."""

    def __init__(
        self,
        participant: Participant,
        spec: ChannelSpec,
        lane: int,
        ledger: Ledger,
        sender_bell: Doorbell,
        generation: int = 0,
        position: Position | None = None,
        references: References | None = None,
    ) -> None:
        """`generation`: of this receiver. `position`: where it goes on; default: where its predecessor stood.
        `references`: of this process, if frames may come by reference, or be passed on.
        """
        self.name = spec.name
        self.channel, self.references = spec.key, references
        self.copies = 0
        self.bytes_copied = 0
        self._lane = spec.lane(lane, ledger)
        self._retains = spec.retain
        self.forgets_complete = spec.completed is not None
        self._completed = ledger.region(spec.completed, 1) if spec.completed is not None else None
        self._sender_bell = sender_bell
        words, position = self._lane.words, position or self._lane.position
        key = (position.number, position.part) if position else None
        self._acceptance = Acceptance(
            words[ACKNOWLEDGED],
            key,
            is_successor=generation > 0,
            is_complete=position is not None and bool(position.flags & LAST),
        )
        self._tickets = self._lane.tickets(self._acceptance.generation)
        self._no_tickets = memoryview(bytearray(WORD * spec.config.queue_frames)).cast("Q")
        words[DUPLICATES] = 0
        words[BASE] = words[ACKNOWLEDGED]
        if generation:
            self._lane.release_none()
        self._held: dict[int, int] = {}  # sequence → bytes of the frames that somebody still holds
        self._most_held = spec.share_frames()
        self._most_held_bytes = spec.share_bytes()
        self._borrowed: Borrowed | None = None
        self._port = participant.subscriber(spec.open(participant), queue_room=spec.queue_room)
        self._receive = self._port.receive
        self._port.has_samples()  # connects to the sender if it is there already
        self._generation = words[GENERATION] = generation + 1
        if generation:
            sender_bell.ring()

    def receive(self) -> Frame | None:
        acceptance = self._acceptance
        while True:
            sample = self._receive()
            if sample is None:
                return None
            sequence, number, session, index, ticket, flags, data = _unpack_header(
                Header.from_address(sample.user_header_ptr)
            )
            lease: Any = Lease.from_address(sample.payload_ptr)
            lease.sample, lease.terms = sample, (self, sequence, ticket, self._tickets)
            is_next = sequence == acceptance.sequence + 1 and not acceptance.checks_keys  # is_next(), without the call
            if not is_next and self._drop(lease, number, index):
                continue
            layout = read_layout(data)
            if layout.kind != REFERENCE or self._follow(lease, number):
                break
        # accept(), without the call
        acceptance.sequence, acceptance.key, acceptance.is_complete = sequence, (number, index), bool(flags & LAST)
        nbytes = layout.nbytes
        if layout.kind == REFERENCE:
            del sample  # the reference goes back with its lease, see there
            value, lease = self._borrowed_value(lease, layout)
            return Frame(value, number, index, session, flags, nbytes, lease, sequence)
        held = self._held
        copy = bool(held or not self._most_held) and layout.kind != BARE and self._holds_too_much(nbytes)
        held[sequence] = nbytes
        value = self._array(lease, layout, copy) if layout.kind == ARRAY else self._other(lease, layout, copy)
        return Frame(value, number, index, session, flags, nbytes, lease, sequence)

    def _drop(self, lease: Lease, number: int, index: int) -> bool:
        """Whether a frame is not the one that is to be taken next; after the death of one side or the other.

        Raises ChannelError if frames are missing.
        """
        acceptance, words = self._acceptance, self._lane.words
        _, sequence, ticket, _ = lease.terms
        first = words[FIRST] if words[FIRST_FOR] == self._generation % ONE_REQUEST else None
        verdict = acceptance.judge(sequence, (number, index), first)
        self._tickets = self._lane.tickets(acceptance.generation)
        match verdict:
            case Verdict.REPEATED:
                words[DUPLICATES] += 1
                self._sender_bell.ring_for(CREDIT)
            case Verdict.REMADE:
                if words[ACKNOWLEDGED] != acceptance.acknowledged:
                    words[ACKNOWLEDGED] = acceptance.acknowledged
                    fence()
                    self._sender_bell.ring_for(CREDIT | ACKNOWLEDGEMENT)
            case Verdict.MISSING:
                raise ChannelError(
                    self.name, f"frame {sequence:#x} came after frame {acceptance.sequence:#x}: frames were lost"
                )
        if verdict in _NOT_TO_RELEASE:
            lease.terms = self, 0, ticket, self._no_tickets
        else:
            lease.terms = self, sequence, ticket, self._tickets
        return verdict is not Verdict.NEXT

    def _follow(self, lease: Lease, number: int) -> bool:
        """Borrow what the reference in `lease` leads to. If that is out of reach, because its origin has died, ask for
        it to be sent again, as a copy; if its sender has died too, it is made again, or the pool is about to end.

        The same goes for what is out of the pipeline already, and was made again: its origin need not keep it for this
        reference. If it is not, it stays where it is, because the origin sees first that it is, and then the pin.
        """
        _, sequence, ticket, _ = lease.terms
        reference = Reference.read(ctypes.addressof(lease))
        self._borrowed = self.references.borrow(reference, self, sequence) if self.references is not None else None
        if self._borrowed is not None:
            fence()
            if number >= self.completed:
                return True
            self._borrowed = None
        self._acceptance.refuse(sequence)
        lease.terms = self, 0, ticket, self._no_tickets
        if self._retains:
            self._lane.words[AGAIN] = sequence
            self._generation += ONE_REQUEST
            self._lane.words[GENERATION] = self._generation
            self._sender_bell.ring()
        return False

    def _borrowed_value(self, reference: Lease, layout: Layout) -> tuple[Any, Borrowed]:
        """The value that the last reference has led to, and its lease."""
        lease, self._borrowed = self._borrowed, None
        assert lease is not None
        origin = lease.pin.origin
        copy = origin.holds_too_much(layout.nbytes)
        origin.held[id(lease)] = layout.nbytes
        if layout.of == ARRAY:
            return self._array(lease, layout, copy), lease
        around = layout.offset + layout.tail
        data = memoryview(lease).cast("B").toreadonly()
        rest = memoryview(reference).cast("B").toreadonly()
        if copy:
            nbytes = layout.nbytes - codec.aligned(around)
            data = memoryview(bytes(data[:nbytes]))
            self._count_copy(nbytes)
        if self._held and self._holds_too_much(around):
            rest = memoryview(bytes(rest[:around]))
            self._count_copy(around)
        self._held[reference.terms[1]] = around
        return codec.read(rest, layout.offset, layout.tail, data), lease

    @property
    def newest(self) -> int:
        """Sequence number of the frame that was taken last."""
        return self._acceptance.sequence

    def acknowledge(self, sequence: int, key: tuple[int, int], position: Position | None = None) -> None:
        if not self._retains:
            return
        if position is not None:
            self._lane.stand_at(position)
        self._lane.words[ACKNOWLEDGED] = self._acceptance.acknowledge(sequence, key)
        fence()
        self._sender_bell.ring_for(CREDIT | ACKNOWLEDGEMENT)

    @property
    def completed(self) -> int:
        return self._completed[0] if self._completed is not None else 0

    @property
    def is_in_demand(self) -> bool:
        return bool(self._sender_bell.word[0] & (CREDIT | ACKNOWLEDGEMENT))

    @property
    def has_repetitions(self) -> bool:
        return self._lane.words[REPEATED] > self._lane.words[DUPLICATES]

    def _array(self, lease: Lease | Borrowed, layout: Layout, copy: bool) -> npt.NDArray[Any]:
        """A read-only view of the frame.

        By `frombuffer`, because its arrays lean on the read-only memoryview: `numpy.ndarray(buffer=)` looks through
        that to the lease, and then `setflags(write=True)` succeeds, and writing is a segmentation fault.
        """
        memory = memoryview(lease).toreadonly()
        array: npt.NDArray[Any] = _from_buffer(memory, layout.dtype, layout.elements, layout.offset)
        if len(layout.shape) != 1:
            array = array.reshape(layout.shape)
        if copy:
            array = array.copy()
            array.flags.writeable = False  # like the views: no node may depend on which of them it gets
            self._count_copy(layout.nbytes)
        return array

    def _other(self, lease: Lease, layout: Layout, copy: bool) -> Any:
        if layout.kind == BARE:
            return MARK
        memory = memoryview(lease).cast("B").toreadonly()
        if layout.kind == BYTES:
            self._count_copy(layout.nbytes)
            return bytes(memory[: layout.nbytes])
        if copy:
            memory = memoryview(bytes(memory[: layout.nbytes]))
            self._count_copy(layout.nbytes)
        return codec.read(memory, layout.offset, layout.tail)

    def _holds_too_much(self, nbytes: int) -> bool:
        """Whether a view of one more frame could leave the sender without credit: then it gets copied instead."""
        held = self._held
        return len(held) >= self._most_held or sum(list(held.values())) + nbytes > self._most_held_bytes

    def _count_copy(self, nbytes: int) -> None:
        self.copies += 1
        self.bytes_copied += nbytes

    def close(self) -> None:
        """Nothing to do: the port lives in the participant, and views of it may still live."""
