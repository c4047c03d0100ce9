"""How a value becomes a frame that can be sent: as it lies in its slot, by copy, or as a reference to where it lies."""

from __future__ import annotations

import ctypes
from sys import getrefcount
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.frames import MediaFrame
from remotemedia.ipc import codec, references
from remotemedia.ipc.channel import MARK
from remotemedia.ipc.parcels import Lent, ShmParcel, Slot
from remotemedia.ipc.participant import max_open_slots
from remotemedia.ipc.references import Lender, Loan
from remotemedia.ipc.shm_memory import Memory, address_of, array_at
from remotemedia.ipc.slots import Slots
from remotemedia.ipc.wire import BARE, BYTES, OBJECT, array_layout, as_reference, layout_of

_TAIL_ROOM = 1024
"""Bytes kept free behind an array from `empty()`, so that a typed frame around it needs no copy."""

_BARE = layout_of(BARE, 0)


def _references_of_sole_owner() -> int:
    """What `pack` counts for an object that only its caller holds, in one local variable, on this interpreter."""

    def pack(value: Any) -> int:
        return getrefcount(value)

    mine = object()
    return pack(mine)


_UNSHARED = _references_of_sole_owner()
"""More references than this: a node still holds what it returned, and may read or write it later."""


class Packer:
    """Packs values into slots. Belongs to the sender's thread; arrays of `empty` may die in any."""

    def __init__(self, slots: Slots, lender: Lender | None) -> None:
        """`lender`: finds what is to be sent by reference."""
        self._slots, self._lender = slots, lender
        self.loan = slots.loan
        """Gives the slot for whatever is packed."""
        self._most_bytes = slots.most_bytes
        self.open_slots: set[int] = set()
        self.copies = 0
        self.bytes_copied = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        layout = array_layout(shape, dtype)
        if layout is None or len(self.open_slots) >= max_open_slots:
            return np.empty(shape, dtype)
        room = layout[1] + _TAIL_ROOM
        if room > self._most_bytes:
            room = max(layout[1], self._most_bytes)
        slot: Any = Slot.from_address((sample := self.loan(room)).payload_ptr)
        slot.sample, slot.packer, slot.room = sample, self, room
        self.open_slots.add(id(slot))
        return np.ndarray(shape, dtype, slot)

    def pack(self, value: Any) -> ShmParcel:
        unshared = getrefcount(value) <= _UNSHARED
        kind = value.__class__
        if kind is np.ndarray:
            layout = array_layout(value.shape, value.dtype)
            if layout is not None:
                if unshared and value.base.__class__ is Slot:  # as `empty` gave it
                    slot = value.base
                    if slot.packer is self and value.flags.c_contiguous:
                        return ShmParcel(self._take(slot), *layout)
                return self._pack_array(value, layout, unshared)
        elif value is MARK:
            return ShmParcel(self.loan(0), _BARE, 0)
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
            if self._lender is not None and nbytes >= references.LEAST_BYTES:
                loan = self._lender.lend(array)
                if loan is not None:
                    return self._pack_reference(loan, address_of(array), layout)
        sample = self.loan(nbytes)
        np.copyto(array_at(sample.payload_ptr, array.shape, array.dtype), array)
        self.copies += 1
        self.bytes_copied += nbytes
        return ShmParcel(sample, *layout)

    def _pack_reference(self, loan: Loan, address: int, layout: tuple[bytes, int]) -> ShmParcel:
        self._slots.reclaim()  # what was lent before may be finished with
        reference = loan.reference
        sample = self.loan(reference.nbytes)
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
        if slot.__class__ is not Slot or slot.packer is not self or not array.flags.c_contiguous:
            return None
        return slot

    def _take(self, slot: Slot) -> Any:
        """The loan out of the slot: it is the parcel's now."""
        sample, slot.sample, slot.packer = slot.sample, None, None
        self.open_slots.discard(id(slot))
        return sample

    def _pack_bytes(self, value: bytes) -> ShmParcel:
        sample = self.loan(len(value))
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
        if self._lender is not None:
            large = [(b.nbytes, index) for index, b in enumerate(parts.buffers) if b.nbytes >= references.LEAST_BYTES]
            for _, index in sorted(large, reverse=True):
                parcel = self._pack_around(parts, index, self._lender)
                if parcel is not None:
                    return parcel
        offsets, tail_at = codec.place([buffer.nbytes for buffer in parts.buffers])
        nbytes = tail_at + codec.tail_size(parts)
        sample = self.loan(nbytes)
        memory = memoryview(Memory.from_address(sample.payload_ptr)).cast("B")
        for offset, buffer in zip(offsets, parts.buffers, strict=True):
            memory[offset : offset + buffer.nbytes] = buffer
            self.copies += 1
            self.bytes_copied += buffer.nbytes
        codec.write_tail(memory, tail_at, parts, offsets)
        return ShmParcel(sample, layout_of(OBJECT, nbytes, tail_at, nbytes - tail_at), nbytes)

    def _pack_around(self, parts: codec.Pickled, index: int, lender: Lender) -> ShmParcel | None:
        """All but one buffer, and a reference to that, if it is the whole of an array that can be lent."""
        buffer = parts.buffers[index]
        array: Any = buffer.obj
        loan = lender.lend(array) if array.__class__ is np.ndarray else None
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
        self._slots.reclaim()
        sample = self.loan(around)
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

    def close(self) -> None:
        """Lend nothing any more. Arrays that somebody keeps lead here, and must not lead on to frames of others."""
        self._lender = None
