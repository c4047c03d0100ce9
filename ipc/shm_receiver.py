"""The receiving end of the shared-memory channel: receive, borrow, release (see remotemedia.ipc.shm_channel)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.exceptions import ChannelError
from remotemedia.ipc import codec
from remotemedia.ipc.channel import MARK, Frame
from remotemedia.ipc.doorbell import ACKNOWLEDGEMENT, CREDIT, Doorbell, fence
from remotemedia.ipc.lane import ACKNOWLEDGED, DUPLICATES, GENERATION, GENERATION_SHIFT, Position
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.participant import Participant
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.ipc.shm_memory import Header, Memory
from remotemedia.ipc.wire import ARRAY, BARE, BYTES, HEADER, Layout, read_layout

_from_buffer: Any = np.frombuffer
_unpack_header = HEADER.unpack_from


class Lease(Memory):  # type: ignore[valid-type,misc]
    """A borrowed sample: the base of every array made from it. The last of them gives the ticket back, in whatever
    thread.
    """

    __slots__ = ("receiver", "sample", "sequence", "ticket", "tickets")

    receiver: ShmReceiver
    sample: Any
    sequence: int
    ticket: int
    tickets: memoryview

    def __del__(self) -> None:
        receiver, sequence = self.receiver, self.sequence
        receiver._held.pop(sequence, None)
        # The words of a sender that is dead may be in use again by the second after it.
        if receiver._sender_generation - (sequence >> GENERATION_SHIFT) < 2:  # noqa: PLR2004
            self.tickets[self.ticket] = sequence
        self.sample = None  # after the ticket: this drop is the fence between writing it and reading the sender's word
        receiver._sender_bell.ring_for(CREDIT)


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
    ) -> None:
        """`generation`: of this receiver. `position`: where it goes on; default: where its predecessor stood."""
        self.name = spec.name
        self.copies = 0
        self.bytes_copied = 0
        self._lane = spec.lane(lane, ledger)
        self._retains = spec.retain
        self._sender_bell = sender_bell
        self._resume(generation, position or self._lane.position)
        self._held: dict[int, int] = {}  # sequence → bytes of the frames that somebody still holds
        self._most_held = spec.share_frames()
        self._most_held_bytes = spec.share_bytes()
        self._port = participant.subscriber(spec.open(participant), queue_room=spec.queue_room)
        self._receive = self._port.receive
        self._port.has_samples()  # connects to the sender if it is there already
        self._lane.words[GENERATION] = generation + 1
        if generation:
            sender_bell.ring()

    def _resume(self, generation: int, position: Position | None) -> None:
        """Expect what comes after `position`."""
        words = self._lane.words
        words[DUPLICATES] = 0
        self._sequence = self._accepted = words[ACKNOWLEDGED]
        """The newest sequence number seen, and that of the newest frame that was no duplicate."""
        self._sender_generation = self._sequence >> GENERATION_SHIFT
        self._tickets = self._lane.tickets(self._sender_generation)
        self._key = (position.number, position.part) if position else (-1, -1)
        self._checks_keys = generation > 0
        self._may_miss = generation > 0
        """Whether frames may come that are ahead of those that the sender is still to send again."""

    def receive(self) -> Frame | None:
        while True:
            sample = self._receive()
            if sample is None:
                return None
            sequence, number, session, index, ticket, flags, data = _unpack_header(
                Header.from_address(sample.user_header_ptr)
            )
            lease: Any = Lease.from_address(sample.payload_ptr)
            lease.sample, lease.receiver, lease.ticket, lease.sequence = sample, self, ticket, sequence
            lease.tickets = self._tickets
            if sequence == self._sequence + 1 and not self._checks_keys:
                break
            if self._is_new(lease, number, index):
                break
        self._sequence = self._accepted = sequence
        self._key = number, index
        layout = read_layout(data)
        nbytes = layout.nbytes
        copy = self._holds_too_much(nbytes) and layout.kind != BARE
        self._held[sequence] = nbytes
        frame = Frame()
        frame.sequence, frame.lane, frame.sent_as = sequence, 0, None
        frame.number, frame.index, frame.session, frame.flags, frame.nbytes = number, index, session, flags, nbytes
        frame.lease = lease
        frame.value = self._array(lease, layout, copy) if layout.kind == ARRAY else self._other(lease, layout, copy)
        return frame

    def _is_new(self, lease: Lease, number: int, index: int) -> bool:
        """Whether a frame is the next one that this stage has not had yet; after the death of one side or the other."""
        sequence = lease.sequence
        generation = sequence >> GENERATION_SHIFT
        if generation < self._sender_generation:
            lease.tickets = self._lane.tickets(generation)
            return False  # of a sender that is dead: its successor makes everything again that we have not had
        first = (generation << GENERATION_SHIFT) + 1
        if sequence != (self._sequence + 1 if generation == self._sender_generation else first):
            return self._is_out_of_turn(sequence)
        if generation != self._sender_generation:
            self._sender_generation = generation
            self._tickets = lease.tickets = self._lane.tickets(generation)
            self._checks_keys = True
        self._may_miss = False
        if (number, index) > self._key:
            self._checks_keys = False
            return True
        # Made again by the sender's new generation. Nothing is acknowledged by it that was not before.
        self._sequence = sequence
        if self._lane.words[ACKNOWLEDGED] == self._accepted:
            self._accepted = self._lane.words[ACKNOWLEDGED] = sequence
        return False

    def _is_out_of_turn(self, sequence: int) -> bool:
        """Always False: it is a duplicate, or will come again in its turn. Raises ChannelError if it cannot be."""
        if sequence <= self._sequence:
            self._lane.words[DUPLICATES] += 1
            self._sender_bell.ring_for(CREDIT)
        elif not self._may_miss:
            raise ChannelError(self.name, f"frame {sequence} came after frame {self._sequence}: frames were lost")
        return False

    def acknowledge(self, sequence: int, position: Position | None = None) -> None:
        if not self._retains:
            return
        if position is not None:
            self._lane.stand_at(position)
        if sequence == self._accepted:
            sequence = self._accepted = self._sequence  # with the duplicates that came after it
        self._lane.words[ACKNOWLEDGED] = sequence
        fence()
        self._sender_bell.ring_for(CREDIT | ACKNOWLEDGEMENT)

    @property
    def is_in_demand(self) -> bool:
        return bool(self._sender_bell.word[0] & (CREDIT | ACKNOWLEDGEMENT))

    def _array(self, lease: Lease, layout: Layout, copy: bool) -> npt.NDArray[Any]:
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
        if len(held) >= self._most_held:
            return True
        return bool(held) and sum(list(held.values())) + nbytes > self._most_held_bytes

    def _count_copy(self, nbytes: int) -> None:
        self.copies += 1
        self.bytes_copied += nbytes

    def close(self) -> None:
        """Nothing to do: the port lives in the participant, and views of it may still live."""
