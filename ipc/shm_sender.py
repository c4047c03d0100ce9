"""The sending end of the shared-memory channel: loan, pack, send (see remotemedia.ipc.shm_channel for the whole)."""

from __future__ import annotations

import ctypes
import mmap
from collections import deque
from collections.abc import Mapping, Sequence
from sys import getrefcount
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.config import KIB
from remotemedia.core.exceptions import ChannelBroken, ChannelError, FrameTooLarge, SharedMemoryExhausted
from remotemedia.core.frames import MediaFrame
from remotemedia.ipc import codec, references
from remotemedia.ipc.acceptance import GENERATION_SHIFT
from remotemedia.ipc.channel import MARK, Stamp
from remotemedia.ipc.doorbell import DATA, REPETITION, Doorbell, fence
from remotemedia.ipc.lane import ACKNOWLEDGED, BASE, FIRST, FIRST_FOR
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.parcels import InFlight, Lent, ShmParcel, Slot
from remotemedia.ipc.participant import LoanError, Participant, max_open_slots
from remotemedia.ipc.references import Lender, Loan
from remotemedia.ipc.replay import Replay
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.ipc.shm_memory import Header, Memory, address_of, array_at, free_shared_memory, populate
from remotemedia.ipc.wire import (
    BARE,
    BLOCK_BYTES,
    BYTES,
    HEADER,
    KIND_AT,
    OBJECT,
    REPEATED_AT,
    USER_HEADER_BYTES,
    array_layout,
    as_reference,
    blocks,
    layout_of,
)

_TAIL_ROOM = 1024
"""Bytes kept free behind an array from `empty()`, so that a typed frame around it needs no copy."""

_KEPT_BYTES = 256 * KIB
"""A sender that retains and has more than this in flight looks at once for what it need not keep any more: the fewer
slots are in use, the more of them stay in the processor's cache.
"""

_NEVER = 1 << 62
"""More bytes than any frame has."""

_BARE = layout_of(BARE, 0)
_pack_header = HEADER.pack_into


def _references_of_sole_owner() -> int:
    """What `pack` counts for an object that only its caller holds, in one local variable, on this interpreter."""

    def pack(value: Any) -> int:
        return getrefcount(value)

    mine = object()
    return pack(mine)


_UNSHARED = _references_of_sole_owner()
"""More references than this: a node still holds what it returned, and may read or write it later."""


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
        config = spec.config
        self.name = spec.name
        self.copies = 0
        self.bytes_copied = 0
        self._config = config
        self._most_bytes, self._window = config.max_frame_bytes, config.window_bytes
        lanes = [spec.lane(index, ledger) for index in range(spec.receivers)]
        self._lanes = [lane.tickets(generation) for lane in lanes]
        self._words = [lane.words for lane in lanes]
        self._bells = list(dict.fromkeys(receivers))
        self._borrowers = borrowers
        self._receivers = spec.receivers
        self.sequence = self.before_first = generation << GENERATION_SHIFT
        self._free = list(range(config.queue_frames - 1, -1, -1))
        self._in_flight: deque[InFlight] = deque()
        self._bytes_in_flight = 0
        self._large = spec.share_bytes()
        self._large_in_flight = 0
        self._large_bytes_in_flight = 0
        self._open_slots: set[int] = set()
        self._slot_blocks = blocks(config.slot_bytes)
        self._backed: dict[int, int] = {}  # address of a slot → blocks of it that have memory behind them
        self._slots = spec.slots
        service = spec.open(participant)
        self._retained = participant.subscriber(service, queue_room=2).receive if spec.keeps else None
        self._least_kept = 0 if spec.retain else references.LEAST_BYTES if spec.keeps else _NEVER
        self._least_pinned = references.LEAST_BYTES if spec.borrowers else _NEVER
        self._pins = [spec.borrowed(index, ledger)[generation % 2] for index in range(len(spec.borrowers))]
        self._pinned: list[InFlight] = []
        """Finished frames that somebody still looks at who got them by reference."""
        self._lender = lender
        self._least_lent = references.LEAST_BYTES if lender is not None else _NEVER
        self._last_lent = 0
        if lender is not None:
            lender.references.senders.append(self)
        self._replay = Replay(self, self._words, config.queue_frames) if spec.retain else None
        self._completion = ledger.region(spec.completed, 1) if spec.completed is not None else None
        self._completed = 0
        self._port = participant.publisher(service, slot_blocks=self._slot_blocks, slots=self._slots)
        self._loan_slot = getattr(self._port, "__loan_slice_uninit")  # the name itself would be mangled here
        first, second = (self._loan_slot(self._slot_blocks) for _ in range(2))
        self._stride = second.payload_ptr - first.payload_ptr
        self._slot_overhead = self._stride - self._slot_blocks * BLOCK_BYTES
        if generation:
            for bell in self._bells:  # a predecessor may have died after it had taken back what they ask for
                bell.ring()

    # -- loan ----------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        layout = array_layout(shape, dtype)
        if layout is None or len(self._open_slots) >= max_open_slots:
            return np.empty(shape, dtype)
        room = layout[1] + _TAIL_ROOM
        if room > self._most_bytes:
            room = max(layout[1], self._most_bytes)
        slot: Any = Slot.from_address((sample := self._loan(room)).payload_ptr)
        slot.sample, slot.sender, slot.room = sample, self, room
        self._open_slots.add(id(slot))
        return np.ndarray(shape, dtype, slot)

    def _loan(self, nbytes: int) -> Any:
        """A free slot of at least `nbytes`, with memory behind it. Raises FrameTooLarge, SharedMemoryExhausted."""
        if self._bytes_in_flight > _KEPT_BYTES and self._retained is not None:
            self._collect()
        count = -(-nbytes // BLOCK_BYTES) or 1
        if count > self._slot_blocks:
            self._grow(nbytes, count)
        try:
            sample = self._loan_slot(count)
        except LoanError as error:
            raise ChannelError(self.name, f"no free slot for {nbytes} bytes: {error}") from error
        address = sample.payload_ptr
        if self._backed.get(address, 0) < count:
            self._back(address, count)
        return sample

    def _grow(self, nbytes: int, count: int) -> None:
        """Before iceoryx2 makes a larger segment: is that allowed, is there room?

        Its slots, their headers included, are then the next power of two.
        """
        if nbytes > self._config.max_frame_bytes:
            raise FrameTooLarge(self.name, nbytes, self._config.max_frame_bytes)
        need = 2 * count * BLOCK_BYTES + self._slots * mmap.PAGESIZE  # two such frames, and a header for each slot
        free = free_shared_memory()
        if need > free:
            raise SharedMemoryExhausted(self.name, need, free)
        self._stride = 1 << (count * BLOCK_BYTES + self._slot_overhead - 1).bit_length()
        self._slot_blocks = (self._stride - self._slot_overhead) // BLOCK_BYTES
        self._backed.clear()

    def _back(self, address: int, count: int) -> None:
        """Put memory behind a slot that is used for the first time: a full /dev/shm must be an error, not a SIGBUS.

        In a new segment the headers of all slots come first, because iceoryx2 writes them when it gives out the slot.
        """
        if not self._backed:
            for slot in range(self._slots):  # a segment that has grown has fewer
                header = address + slot * self._stride - self._slot_overhead
                if not populate(self.name, header, self._slot_overhead):
                    break
        populate(self.name, address, count * BLOCK_BYTES)
        self._backed[address] = count

    # -- pack ----------------------------------------------------------------------------------------------------------

    def pack(self, value: Any) -> ShmParcel:
        unshared = getrefcount(value) <= _UNSHARED
        kind = value.__class__
        if kind is np.ndarray:
            layout = array_layout(value.shape, value.dtype)
            if layout is not None:
                if unshared and value.base.__class__ is Slot:  # as `empty` gave it
                    slot = value.base
                    if slot.sender is self and value.flags.c_contiguous:
                        return ShmParcel(self._take(slot), *layout)
                return self._pack_array(value, layout, unshared)
        elif value is MARK:
            return ShmParcel(self._loan(0), _BARE, 0)
        elif kind is bytes:
            return self._pack_bytes(value)
        elif unshared and isinstance(value, MediaFrame):
            return self._pack_media_frame(value)
        return self._pack_object(codec.pickled(value))

    def _pack_array(self, array: npt.NDArray[Any], layout: tuple[bytes, int], unshared: bool) -> ShmParcel:
        nbytes = layout[1]
        if array.base is not None:
            slot = self._slot_under(array) if unshared else None
            if slot is not None:
                offset = address_of(array) - ctypes.addressof(slot)  # a view may start anywhere
                layout = array_layout(array.shape, array.dtype, offset) or layout
                return ShmParcel(self._take(slot), *layout)
            if nbytes >= self._least_lent and self._lender is not None:
                loan = self._lender.lend(array)
                if loan is not None:
                    return self._pack_reference(loan, address_of(array), layout)
        sample = self._loan(nbytes)
        np.copyto(array_at(sample.payload_ptr, array.shape, array.dtype), array)
        self.copies += 1
        self.bytes_copied += nbytes
        return ShmParcel(sample, *layout)

    def _pack_reference(self, loan: Loan, address: int, layout: tuple[bytes, int]) -> ShmParcel:
        self._collect()  # what was lent before may be finished with
        reference = loan.reference
        sample = self._loan(reference.nbytes)
        reference.write(sample.payload_ptr)
        return ShmParcel(sample, as_reference(layout[0]), layout[1], Lent(address, layout[0], loan.hold))

    def _slot_under(self, array: npt.NDArray[Any]) -> Slot | None:
        """The open slot of ours that `array` lies in contiguously, if nobody but `array` can reach it any more."""
        root = array.base
        if root.__class__ is np.ndarray:  # a view of the array that empty() gave
            if getrefcount(root) > _UNSHARED:
                return None
            slot = root.base
        else:
            slot = root
            del root
        if slot.__class__ is not Slot or slot.sender is not self or not array.flags.c_contiguous:
            return None
        return slot

    def _take(self, slot: Slot) -> Any:
        """The loan out of the slot: it is the parcel's now."""
        sample, slot.sample, slot.sender = slot.sample, None, None
        self._open_slots.discard(id(slot))
        return sample

    def _pack_bytes(self, value: bytes) -> ShmParcel:
        sample = self._loan(len(value))
        ctypes.memmove(sample.payload_ptr, value, len(value))
        self.copies += 1
        self.bytes_copied += len(value)
        return ShmParcel(sample, layout_of(BYTES, len(value)), len(value))

    def _pack_media_frame(self, frame: MediaFrame) -> ShmParcel:
        """A typed frame: if its array lies in a slot, the rest is written behind it."""
        array = frame.array
        slot = None
        if array.__class__ is np.ndarray and array.base is not None and getrefcount(array) <= _UNSHARED:
            slot = self._slot_under(array)
        parts = codec.pickled(frame)
        if slot is None or len(parts.buffers) != 1:
            return self._pack_object(parts)
        offset = address_of(array) - ctypes.addressof(slot)
        tail_at = codec.place([array.nbytes], offset)[1]
        nbytes = tail_at + codec.tail_size(parts)
        if nbytes > slot.room:
            return self._pack_object(parts)
        codec.write_tail(memoryview(slot).cast("B"), tail_at, parts, [offset])
        return ShmParcel(self._take(slot), layout_of(OBJECT, nbytes, tail_at, nbytes - tail_at), nbytes)

    def _pack_object(self, parts: codec.Pickled) -> ShmParcel:
        large = [(b.nbytes, index) for index, b in enumerate(parts.buffers) if b.nbytes >= self._least_lent]
        for _, index in sorted(large, reverse=True):
            parcel = self._pack_around(parts, index)
            if parcel is not None:
                return parcel
        offsets, tail_at = codec.place([buffer.nbytes for buffer in parts.buffers])
        nbytes = tail_at + codec.tail_size(parts)
        sample = self._loan(nbytes)
        memory = memoryview(Memory.from_address(sample.payload_ptr)).cast("B")
        for offset, buffer in zip(offsets, parts.buffers, strict=True):
            memory[offset : offset + buffer.nbytes] = buffer
            self.copies += 1
            self.bytes_copied += buffer.nbytes
        codec.write_tail(memory, tail_at, parts, offsets)
        return ShmParcel(sample, layout_of(OBJECT, nbytes, tail_at, nbytes - tail_at), nbytes)

    def _pack_around(self, parts: codec.Pickled, index: int) -> ShmParcel | None:
        """All but one buffer, and a reference to that, if it is the whole of an array that can be lent."""
        buffer = parts.buffers[index]
        array: Any = buffer.obj
        if self._lender is None or array.__class__ is not np.ndarray:
            return None
        loan = self._lender.lend(array)
        if loan is None:
            return None
        sizes = [other.nbytes for other in parts.buffers]
        sizes[index] = 0
        offsets, tail_at = codec.place(sizes, loan.reference.nbytes)
        tail = codec.tail_size(parts)
        around = tail_at + tail
        data_at = codec.aligned(around)
        nbytes = data_at + buffer.nbytes
        if nbytes > self._most_bytes:
            return None
        self._collect()
        sample = self._loan(around)
        memory = memoryview(Memory.from_address(sample.payload_ptr)).cast("B")
        loan.reference.write(sample.payload_ptr)
        for at, (offset, other) in enumerate(zip(offsets, parts.buffers, strict=True)):
            if at != index:
                memory[offset : offset + other.nbytes] = other
                self.copies += 1
                self.bytes_copied += other.nbytes
        offsets[index] = codec.ELSEWHERE
        codec.write_tail(memory, tail_at, parts, offsets)
        layout = layout_of(OBJECT, nbytes, tail_at, tail)
        entry_at = codec.entry_at(tail_at, index)
        lent = Lent(address_of(array), layout, loan.hold, around=around, data_at=data_at, entry_at=entry_at)
        return ShmParcel(sample, as_reference(layout), nbytes, lent)

    # -- send ----------------------------------------------------------------------------------------------------------

    def has_credit(self, nbytes: int) -> bool:
        replay = self._replay
        if replay is not None and replay.is_due() and not replay.go_on():
            return False  # what is new must not overtake what is sent again
        if self._free and self._bytes_in_flight + nbytes <= self._window:
            return True
        self._collect()
        return self._fits(nbytes)

    def _fits(self, nbytes: int) -> bool:
        """Whether there is a ticket and room in the window.

        Each receiver may hold for ever one large frame, or several small ones within its share. What is left must still
        let every frame pass: so one more large frame than there are receivers is always allowed, and the large ones do
        not count against the small.
        """
        if not self._free:
            return False
        window = self._window
        if self._bytes_in_flight + nbytes <= window:
            return True
        if nbytes > self._large:
            return self._large_in_flight <= self._receivers
        return self._bytes_in_flight - self._large_bytes_in_flight + nbytes <= window

    def _collect(self) -> None:
        """Take back the tickets of all finished frames: usually the oldest ones, seldom some in the middle."""
        if self._pinned:
            self._take_back_pinned()
        in_flight, lanes, held, least_pinned = self._in_flight, self._lanes, [], self._least_pinned
        safe = self.sequence if self._replay is None else self._acknowledged_by_all()
        completed = self._known_completed()
        while in_flight:
            sequence, ticket, nbytes, _, number = entry = in_flight[0]
            if sequence > safe and number >= completed:
                break
            in_flight.popleft()
            for lane in lanes:
                if lane[ticket] != sequence:
                    held.append(entry)
                    break
            else:
                if nbytes >= least_pinned and self._is_pinned(ticket, sequence):
                    self._pinned.append(entry)
                else:
                    self._free.append(ticket)
                self._bytes_in_flight -= nbytes
                if nbytes > self._large:
                    self._large_in_flight -= 1
                    self._large_bytes_in_flight -= nbytes
        if held:
            in_flight.extendleft(reversed(held))

    def _is_pinned(self, ticket: int, sequence: int) -> bool:
        """Whether somebody looks at a frame who got it by reference."""
        for words in self._pins:  # noqa: SIM110 - a generator would cost more than the rest
            if words[ticket] == sequence:
                return True
        return False

    def _take_back_pinned(self) -> None:
        still = []
        for entry in self._pinned:
            if self._is_pinned(entry[1], entry[0]):
                still.append(entry)
            else:
                self._free.append(entry[1])
        self._pinned = still

    def send(self, parcel: ShmParcel, stamp: Stamp) -> None:
        sample, nbytes, lent = parcel.sample, parcel.nbytes, parcel.lent
        retained = self._retained if nbytes >= self._least_kept else None
        if retained is not None and self._replay is None:
            while retained() is not None:  # frames that are not kept: they would leave no room for this one
                pass
        ticket = self._free.pop()
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
        self._in_flight.append((sequence, ticket, nbytes, kept, stamp.number))
        self._bytes_in_flight += nbytes
        if nbytes > self._large:
            self._large_in_flight += 1
            self._large_bytes_in_flight += nbytes
        if self._replay is None and reached < self._receivers + (retained is not None):
            raise ChannelBroken(self.name, f"only {reached} of {self._receivers} receivers are connected")

    def unreleased(self) -> int:
        self._collect()
        return len(self._in_flight) + len(self._pinned)

    # -- what was passed on by reference -------------------------------------------------------------------------------

    @property
    def lends(self) -> bool:
        in_flight = self._in_flight
        return bool(in_flight) and in_flight[0][0] <= self._last_lent

    def recall(self) -> bool:
        self._collect()
        return self.lends and self._lender is not None and self._lender.references.is_in_demand

    # -- receivers that are replaced -----------------------------------------------------------------------------------

    def acknowledged(self) -> int:
        safe, completed = self._acknowledged_by_all(), self._known_completed()
        for sequence, _, _, _, number in self._in_flight:
            if sequence > safe and number >= completed:
                return sequence - 1
        return self.sequence

    def _acknowledged_by_all(self) -> int:
        if self._receivers == 1:
            return self._words[0][ACKNOWLEDGED]
        return min([words[ACKNOWLEDGED] for words in self._words])

    def _known_completed(self) -> int:
        """Inputs with a lower number are out of the pipeline, in all their parts: what was made of them on the way can
        be forgotten, as if all receivers had acknowledged it.

        Read before it is seen that no receiver is new. So what a new one's predecessor had of these frames is finished
        with, and what the new one has taken itself is not among them (see `forget`).
        """
        if self._completion is not None:
            completed = self._completion[0]
            assert self._replay is not None
            if not self._replay.is_due():
                self._completed = completed
        return self._completed

    def attend(self) -> bool:
        return self._replay is None or not self._replay.is_due() or self._replay.go_on()

    def demand(self, *, back: bool = True) -> None:
        if self._replay is not None or (back and self._may_have_been_lent()):
            for bell in self._bells:
                bell.ring_for(DATA)
        if not back:
            return
        if self._pinned:
            for words, borrower in zip(self._pins, self._borrowers, strict=True):
                if borrower is not None and any(words[entry[1]] == entry[0] for entry in self._pinned):
                    borrower.ring_for(DATA)
        if self._lender is not None:
            self._lender.references.collect(self)

    def _may_have_been_lent(self) -> bool:
        """Whether a receiver may hold a frame for what it has passed on."""
        least = self._least_pinned
        return any(entry[2] >= least for entry in self._in_flight)

    def forget(self, lane: int, generation: int) -> None:
        """The process of a lane has died, and with it every view of frames that it need not have again: release those
        for it, and tell its successor, which wrote `generation` into the lane, what comes first.
        """
        tickets, words = self._lanes[lane], self._words[lane]
        acknowledged, first = words[BASE], self.sequence + 1
        for sequence, ticket, _, _, number in reversed(self._in_flight):
            if sequence <= acknowledged or number < self._completed:
                tickets[ticket] = sequence
            else:
                first = sequence
        words[FIRST] = first
        words[FIRST_FOR] = generation

    def connect(self) -> None:
        """Reach receivers that have come, and take back what those that are gone had borrowed."""
        self._port.update_connections()

    def unacknowledged(self, lanes: Mapping[int, int]) -> list[InFlight]:
        """What the receivers of `lanes` need again, oldest first. By lane: the first frame that was asked for, or 0 for
        a new one, which needs all that its predecessor has not acknowledged and that is in the pipeline.
        """
        asked = min([first for first in lanes.values() if first], default=_NEVER)
        safe = min([self._words[lane][ACKNOWLEDGED] for lane, first in lanes.items() if not first], default=_NEVER)
        completed = self._completed
        return [e for e in self._in_flight if e[0] >= asked or (e[0] > safe and e[4] >= completed)]

    def send_again(self, entry: InFlight) -> None:
        """Send a copy of what is kept of a frame, with its old number and ticket."""
        kept, nbytes = entry[3], entry[2]
        copy = self._loan(nbytes)
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
        self._in_flight.clear()
        self._pinned.clear()
        self._lender = self._replay = self._retained = None
