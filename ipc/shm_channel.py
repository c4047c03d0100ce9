"""The channel between processes: iceoryx2 publish-subscribe for the frames, the ledger for credits, doorbells for
wake-ups.

One service per sender, one subscriber per receiver: fan-out shares the frame. The bound is a fixed set of *tickets*:
each frame in flight carries one in its header, and a receiver gives it back by writing the frame's sequence number into
the ticket's word of its lane in the ledger. A plain store of a word that nobody else writes: no lock, no counter that a
crash could leave half updated, any order, any thread. The sender knows of each frame whether it is released by all, and
since each receiver's queue has room for every ticket, iceoryx2 can never drop one.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from sys import getrefcount
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.config import ChannelConfig
from remotemedia.core.exceptions import ChannelBroken, ChannelError, FrameTooLarge, SharedMemoryExhausted
from remotemedia.core.frames import MediaFrame
from remotemedia.ipc import codec
from remotemedia.ipc.channel import MARK, Frame, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, Doorbell
from remotemedia.ipc.ledger import LINE, Ledger, LedgerLayout
from remotemedia.ipc.participant import LoanError, Participant, max_open_slots, slots_of_sender
from remotemedia.ipc.wire import (
    ARRAY,
    BARE,
    BLOCK_BYTES,
    BYTES,
    HEADER,
    MAX_DIMS,
    NO_DTYPE,
    NO_SHAPE,
    OBJECT,
    USER_HEADER_BYTES,
    blocks,
    dtype_name,
    dtype_of,
    padded_shape,
)

_TAIL_ROOM = 1024
"""Bytes kept free behind an array from `empty()`, so that a typed frame around it needs no copy."""

_Memory = ctypes.c_uint8 * (1 << 40)  # one ctypes type for every size: making a type per size costs 6 µs each
_Header = ctypes.c_uint8 * USER_HEADER_BYTES
_new_array: Any = np.ndarray
_from_buffer: Any = np.frombuffer


@dataclass(frozen=True, kw_only=True)
class ChannelSpec:
    """One channel as every process that uses it must know it."""

    name: str
    receivers: int
    config: ChannelConfig
    lanes: tuple[int, ...]
    """Ledger offset of each receiver's tickets."""

    @classmethod
    def plan(cls, name: str, receivers: int, config: ChannelConfig, layout: LedgerLayout) -> ChannelSpec:
        """Reserve the channel's place in the ledger."""
        lanes = tuple(layout.region(max(config.queue_frames, LINE)) for _ in range(receivers))
        return cls(name=name, receivers=receivers, config=config, lanes=lanes)

    def open(self, participant: Participant, *, create: bool = False) -> Any:
        """The iceoryx2 service; the coordinator creates it, the others open it."""
        return participant.open_channel(
            self.name, receivers=self.receivers, queue_frames=self.config.queue_frames, create=create
        )


def _references_of_sole_owner() -> int:
    """What `pack` counts for an object that only its caller holds, in one local variable, on this interpreter."""

    def pack(value: Any) -> int:
        return getrefcount(value)

    mine = object()
    return pack(mine)


_UNSHARED = _references_of_sole_owner()
"""More references than this: a node still holds what it returned, and may read or write it later."""


class Slot(_Memory):  # type: ignore[valid-type,misc]
    """A loaned slot: owns the loan, and is the base of the array that lies in it. The loan goes back with the last
    view.
    """

    __slots__ = ("address", "blocks", "sample", "sender")

    sample: Any
    sender: ShmSender | None
    address: int
    blocks: int

    def __del__(self) -> None:
        if self.sender is not None:
            self.sender._open_slots.discard(id(self))


class ShmParcel:
    """A slot that is ready to be sent."""

    __slots__ = ("dtype", "kind", "nbytes", "ndim", "offset", "sample", "shape", "tail")

    def __init__(
        self,
        sample: Any,
        kind: int,
        nbytes: int,
        *,
        offset: int = 0,
        tail: int = 0,
        ndim: int = 0,
        dtype: bytes = NO_DTYPE,
        shape: tuple[int, ...] = NO_SHAPE,
    ) -> None:
        self.sample, self.kind, self.nbytes, self.offset, self.tail = sample, kind, nbytes, offset, tail
        self.ndim, self.dtype, self.shape = ndim, dtype, shape


class ShmSender:
    """The sending end (see remotemedia.ipc.channel.Sender). Belongs to one thread; arrays of `empty` may die in any."""

    def __init__(
        self, participant: Participant, spec: ChannelSpec, ledger: Ledger, receivers: Sequence[Doorbell]
    ) -> None:
        """`receivers`: the doorbell of each lane's process, in the order of the lanes."""
        config = spec.config
        self.name = spec.name
        self.copies = 0
        self.bytes_copied = 0
        self._config = config
        self._lanes = [ledger.region(offset, config.queue_frames) for offset in spec.lanes]
        self._bells = list(dict.fromkeys(receivers))
        self._receivers = spec.receivers
        self._sequence = 0
        self._free = list(range(config.queue_frames - 1, -1, -1))
        self._in_flight: deque[tuple[int, int, int]] = deque()  # (sequence, ticket, nbytes)
        self._bytes_in_flight = 0
        self._large = _share_bytes(spec)
        self._large_in_flight = 0
        self._large_bytes_in_flight = 0
        self._open_slots: set[int] = set()
        self._slot_blocks = blocks(config.slot_bytes)
        self._backed: dict[int, int] = {}  # address of a slot → blocks of it that have memory behind them
        self._port = participant.publisher(
            spec.open(participant),
            slot_blocks=self._slot_blocks,
            queue_frames=config.queue_frames,
            receivers=spec.receivers,
        )
        self._loan_slot = getattr(self._port, "__loan_slice_uninit")  # the name itself would be mangled here
        first, second = (self._loan_slot(self._slot_blocks) for _ in range(2))
        self._slot_overhead = second.payload_ptr - first.payload_ptr - self._slot_blocks * BLOCK_BYTES
        self._slots = slots_of_sender(config.queue_frames, spec.receivers)

    # -- loan ----------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        if len(self._open_slots) >= max_open_slots or dtype.hasobject:
            return np.empty(shape, dtype)
        room = max(nbytes, min(nbytes + _TAIL_ROOM, self._config.max_frame_bytes))
        sample = self._loan(room)
        slot = Slot.from_address(sample.payload_ptr)
        slot.sample, slot.sender = sample, self
        slot.address, slot.blocks = sample.payload_ptr, blocks(room)
        self._open_slots.add(id(slot))
        array: npt.NDArray[Any] = _new_array(shape, dtype, slot)
        return array

    def _loan(self, nbytes: int) -> Any:
        """A free slot of at least `nbytes`, with memory behind it. Raises FrameTooLarge, SharedMemoryExhausted."""
        count = blocks(nbytes)
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
        """Before iceoryx2 makes a larger segment (its slots the next power of two): is that allowed, is there room?"""
        if nbytes > self._config.max_frame_bytes:
            raise FrameTooLarge(self.name, nbytes, self._config.max_frame_bytes)
        need = 2 * count * BLOCK_BYTES + self._slots * mmap.PAGESIZE  # two such frames, and a header for each slot
        free = free_shared_memory()
        if need > free:
            raise SharedMemoryExhausted(self.name, need, free)
        self._slot_blocks = 1 << (count - 1).bit_length()
        self._backed.clear()

    def _back(self, address: int, count: int) -> None:
        """Put memory behind a slot that is used for the first time: a full /dev/shm must be an error, not a SIGBUS.

        In a new segment the headers of all slots come first, because iceoryx2 writes them when it gives out the slot.
        """
        if not self._backed:
            stride = self._slot_blocks * BLOCK_BYTES + self._slot_overhead
            for slot in range(self._slots):
                self._populate(address + slot * stride - self._slot_overhead, self._slot_overhead)
        self._populate(address, count * BLOCK_BYTES)
        self._backed[address] = count

    def _populate(self, address: int, nbytes: int) -> None:
        start = address & -mmap.PAGESIZE
        if _madvise(start, address + nbytes - start, _MADV_POPULATE_WRITE) == 0:
            return
        if ctypes.get_errno() != errno.EINVAL:  # before Linux 5.14, memory comes at the first touch
            raise SharedMemoryExhausted(self.name, nbytes, free_shared_memory())

    # -- pack ----------------------------------------------------------------------------------------------------------

    def pack(self, value: Any) -> ShmParcel:
        unshared = getrefcount(value) <= _UNSHARED
        kind = value.__class__
        if kind is np.ndarray:
            name = dtype_name(value.dtype)
            if name is not None and value.ndim <= MAX_DIMS:
                return self._pack_array(value, name, unshared)
        elif value is MARK:
            return ShmParcel(self._loan(0), BARE, 0)
        elif kind is bytes:
            return self._pack_bytes(value)
        elif unshared and isinstance(value, MediaFrame):
            return self._pack_media_frame(value)
        return self._pack_object(codec.pickled(value))

    def _pack_array(self, array: npt.NDArray[Any], name: bytes, unshared: bool) -> ShmParcel:
        nbytes, ndim, shape = array.nbytes, array.ndim, padded_shape(array.shape)
        if unshared and array.base is not None:
            slot = self._slot_under(array)
            if slot is not None:
                offset = _address(array) - slot.address if array.base is not slot else 0
                return ShmParcel(
                    self._take(slot), ARRAY, offset + nbytes, offset=offset, ndim=ndim, dtype=name, shape=shape
                )
        sample = self._loan(nbytes)
        np.copyto(_new_array(array.shape, array.dtype, _Memory.from_address(sample.payload_ptr)), array)
        self.copies += 1
        self.bytes_copied += nbytes
        return ShmParcel(sample, ARRAY, nbytes, ndim=ndim, dtype=name, shape=shape)

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
        return ShmParcel(sample, BYTES, len(value))

    def _pack_media_frame(self, frame: MediaFrame) -> ShmParcel:
        """A typed frame: if its array lies in a slot, the rest is written behind it."""
        array = frame.array
        slot = None
        if array.__class__ is np.ndarray and array.base is not None and getrefcount(array) <= _UNSHARED:
            slot = self._slot_under(array)
        parts = codec.pickled(frame)
        if slot is None or len(parts.buffers) != 1:
            return self._pack_object(parts)
        offset = _address(array) - slot.address
        tail_at = codec.place([array.nbytes], offset)[1]
        nbytes = tail_at + codec.tail_size(parts)
        if nbytes > slot.blocks * BLOCK_BYTES:
            return self._pack_object(parts)
        codec.write_tail(memoryview(slot).cast("B"), tail_at, parts, [offset])
        return ShmParcel(self._take(slot), OBJECT, nbytes, offset=tail_at, tail=nbytes - tail_at)

    def _pack_object(self, parts: codec.Pickled) -> ShmParcel:
        offsets, tail_at = codec.place([buffer.nbytes for buffer in parts.buffers])
        nbytes = tail_at + codec.tail_size(parts)
        sample = self._loan(nbytes)
        memory = memoryview(_Memory.from_address(sample.payload_ptr)).cast("B")
        for offset, buffer in zip(offsets, parts.buffers, strict=True):
            memory[offset : offset + buffer.nbytes] = buffer
            self.copies += 1
            self.bytes_copied += buffer.nbytes
        codec.write_tail(memory, tail_at, parts, offsets)
        return ShmParcel(sample, OBJECT, nbytes, offset=tail_at, tail=nbytes - tail_at)

    # -- send ----------------------------------------------------------------------------------------------------------

    def has_credit(self, nbytes: int) -> bool:
        if self._fits(nbytes):
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
        window = self._config.window_bytes
        if self._bytes_in_flight + nbytes <= window:
            return True
        if nbytes > self._large:
            return self._large_in_flight <= self._receivers
        return self._bytes_in_flight - self._large_bytes_in_flight + nbytes <= window

    def _collect(self) -> None:
        """Take back the tickets of all released frames: usually the oldest ones, seldom some in the middle."""
        in_flight, lanes = self._in_flight, self._lanes
        for _ in range(len(in_flight)):
            sequence, ticket, nbytes = entry = in_flight.popleft()
            for lane in lanes:
                if lane[ticket] != sequence:
                    in_flight.append(entry)
                    break
            else:
                self._free.append(ticket)
                self._account(-1, -nbytes, large=nbytes > self._large)

    def _account(self, frames: int, nbytes: int, *, large: bool) -> None:
        self._bytes_in_flight += nbytes
        if large:
            self._large_in_flight += frames
            self._large_bytes_in_flight += nbytes

    def send(self, parcel: ShmParcel, stamp: Stamp) -> None:
        sample, nbytes = parcel.sample, parcel.nbytes
        ticket = self._free.pop()
        self._sequence = sequence = self._sequence + 1
        HEADER.pack_into(
            _Header.from_address(sample.user_header_ptr),
            0,
            sequence,
            stamp.number,
            stamp.session,
            stamp.index,
            ticket,
            parcel.kind,
            stamp.flags,
            nbytes,
            parcel.offset,
            parcel.tail,
            parcel.ndim,
            parcel.dtype,
            *parcel.shape,
        )
        self._in_flight.append((sequence, ticket, nbytes))
        self._account(1, nbytes, large=nbytes > self._large)
        reached = getattr(sample, "__assume_init")().send()
        for bell in self._bells:
            bell.ring_for(DATA)
        if reached != self._receivers:
            raise ChannelBroken(self.name, f"only {reached} of {self._receivers} receivers are connected")

    def unreleased(self) -> int:
        self._collect()
        return len(self._in_flight)

    def close(self) -> None:
        """Nothing to do: the port lives in the participant, and leaves with it once everything is released."""


class Lease(_Memory):  # type: ignore[valid-type,misc]
    """A borrowed sample: the base of every array made from it. The last of them gives the ticket back, in whatever
    thread.
    """

    __slots__ = ("receiver", "sample", "sequence", "ticket")

    receiver: ShmReceiver
    sample: Any
    sequence: int
    ticket: int

    def __del__(self) -> None:
        receiver = self.receiver
        receiver._held.pop(self.ticket, None)  # before the ticket: it may be back with another frame at once
        receiver._lane[self.ticket] = self.sequence
        self.sample = None  # after the ticket: this drop is the fence between writing it and reading the sender's word
        receiver._sender_bell.ring_for(CREDIT)


class ShmReceiver:
    """One receiving end (see remotemedia.ipc.channel.Receiver). Belongs to one thread; frames may be dropped in any."""

    def __init__(
        self, participant: Participant, spec: ChannelSpec, lane: int, ledger: Ledger, sender_bell: Doorbell
    ) -> None:
        config = spec.config
        self.name = spec.name
        self.copies = 0
        self.bytes_copied = 0
        self._lane = ledger.region(spec.lanes[lane], config.queue_frames)
        self._sender_bell = sender_bell
        self._sequence = 0
        self._held: dict[int, int] = {}  # ticket → bytes of the frames that somebody still holds
        self._most_held = _share_frames(spec)
        self._most_held_bytes = _share_bytes(spec)
        self._port = participant.subscriber(spec.open(participant), queue_frames=config.queue_frames)
        self._receive = self._port.receive
        self._port.has_samples()  # connects to the sender if it is there already

    def receive(self) -> Frame | None:
        sample = self._receive()
        if sample is None:
            return None
        (sequence, number, session, index, ticket, kind, flags, nbytes, offset, tail, ndim, dtype, *shape) = (
            HEADER.unpack_from(_Header.from_address(sample.user_header_ptr))
        )
        lease = Lease.from_address(sample.payload_ptr)
        lease.sample, lease.receiver, lease.ticket, lease.sequence = sample, self, ticket, sequence
        if sequence != self._sequence + 1:
            raise ChannelError(self.name, f"frame {sequence} came after frame {self._sequence}: frames were lost")
        self._sequence = sequence
        held = self._held
        copy = kind != BARE and self._holds_too_much(nbytes)
        held[ticket] = nbytes
        frame = Frame()
        frame.number, frame.index, frame.session, frame.flags, frame.nbytes = number, index, session, flags, nbytes
        frame.lease = lease
        if kind == ARRAY:
            array = _read_only_array(lease, dtype_of(dtype), offset, nbytes)
            if ndim != 1:
                array = array.reshape(shape[:ndim])
            if copy:
                array = array.copy()
                array.flags.writeable = False  # like the views: no node may depend on which of them it gets
                self._count_copy(nbytes)
            frame.value = array
        elif kind == BARE:
            frame.value = MARK
        elif kind == BYTES:
            frame.value = ctypes.string_at(sample.payload_ptr, nbytes)
            self._count_copy(nbytes)
        elif kind == OBJECT:
            memory = memoryview(lease).cast("B").toreadonly()
            if copy:
                memory = memoryview(bytes(memory[:nbytes]))
                self._count_copy(nbytes)
            frame.value = codec.read(memory, offset, tail)
        return frame

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


def _share_frames(spec: ChannelSpec) -> int:
    """How many frames one receiver may hold as views: together they leave half of the tickets, at least one, free."""
    tickets, receivers = spec.config.queue_frames, spec.receivers
    return max(tickets // (2 * receivers), min(1, (tickets - 1) // receivers))


def _share_bytes(spec: ChannelSpec) -> int:
    """How many bytes one receiver may hold as several views. A frame larger than this is a large one."""
    return spec.config.window_bytes // (2 * spec.receivers)


def _read_only_array(lease: Lease, dtype: np.dtype[Any], offset: int, end: int) -> npt.NDArray[Any]:
    """The bytes from `offset` to `end` as one dimension.

    By `frombuffer`, because its arrays lean on the read-only memoryview: `numpy.ndarray(buffer=)` looks through that to
    the lease, and then `setflags(write=True)` succeeds, and writing is a segmentation fault.
    """
    memory = memoryview(lease).toreadonly()
    array: npt.NDArray[Any] = _from_buffer(memory, dtype, (end - offset) // dtype.itemsize, offset)
    return array


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def free_shared_memory() -> int:
    """Free bytes of /dev/shm."""
    facts = os.statvfs("/dev/shm")  # noqa: S108 - the directory of POSIX shared memory, fixed on Linux
    return facts.f_bavail * facts.f_frsize


_MADV_POPULATE_WRITE = 23  # madvise(2), since Linux 5.14
_libc = ctypes.CDLL(None, use_errno=True)


def _madvise(start: int, length: int, advice: int) -> int:
    return int(_libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(advice)))
