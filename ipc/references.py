"""Passing a frame on without copying it: instead of the data, a *reference* is sent, which says where they lie.

The sender in whose slot the data lie is the reference's *origin*. Whoever gets the reference maps the origin's segment
by its name and reads the data there. The slot must not be used again meanwhile, whoever dies. Two things see to that,
the second taking over from the first:

* Until a reference is taken, its sender holds the origin's frame like a view of its own (Hold), and when that dies, the
origin still keeps the frame as unacknowledged: what was made of it, the reference, has not been acknowledged. That is
so only for the frame that is being worked on, hence `Lender`'s `is_current`.
* Who takes a reference *pins* the frame, before it releases the reference: it writes the frame's sequence number into
its own word for the origin's ticket, a word of the ledger (Origin). The origin leaves a slot alone as long as anybody
pins it. A word that a dead process has written is cleared by its next generation.

An origin that dies may take its files with it before a reference is taken. Then the receiver asks for the frame again,
and what is sent again is always a copy (see Replay). Copies that were sent again are not passed on by reference: the
origin keeps the first slot of a frame, not that of its copy.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy.typing as npt

from remotemedia.config import KIB
from remotemedia.ipc.acceptance import GENERATION_SHIFT
from remotemedia.ipc.doorbell import ACKNOWLEDGEMENT, CREDIT, Doorbell, fence
from remotemedia.ipc.leases import Borrowed, Lease, Pin, lease_under
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.segments import Segment, Segments
from remotemedia.ipc.shm_memory import Header, Memory, address_of
from remotemedia.ipc.wire import KIND_AT, REFERENCE, REPEATED_AT

if TYPE_CHECKING:
    from remotemedia.ipc.shm_channel import ChannelSpec
    from remotemedia.ipc.shm_receiver import ShmReceiver
    from remotemedia.ipc.shm_sender import ShmSender

LEAST_BYTES = 16 * KIB
"""Smaller arrays are copied: that is quicker."""

_FACTS = struct.Struct("<QQQIHH")


class Reference(NamedTuple):
    """Where data lie, and whose they are."""

    sequence: int
    """The origin's number of the frame."""
    header_at: int
    """Where the frame's header lies in the file."""
    data_at: int
    """Where the data lie in the file."""
    origin: int
    """The origin's channel (ChannelSpec.key)."""
    ticket: int
    """The origin's ticket of the frame."""
    name: bytes
    """The file's, in /dev/shm."""

    @property
    def nbytes(self) -> int:
        """What it takes in a slot."""
        return _FACTS.size + len(self.name)

    def write(self, address: int) -> None:
        """Write it into memory."""
        memory: Any = Memory.from_address(address)
        _FACTS.pack_into(memory, 0, *self[:-1], len(self.name))
        ctypes.memmove(address + _FACTS.size, self.name, len(self.name))

    @classmethod
    def read(cls, address: int) -> Reference:
        """The inverse of `write`."""
        memory: Any = Memory.from_address(address)
        sequence, header_at, data_at, origin, ticket, length = _FACTS.unpack_from(memory)
        name = ctypes.string_at(address + _FACTS.size, length)
        return cls(sequence, header_at, data_at, origin, ticket, name)

    @property
    def generation(self) -> int:
        """Of the origin."""
        return self.sequence >> GENERATION_SHIFT


class Origin:
    """A channel whose frames may reach this process by reference: which of them this process pins.

    One word per ticket, twice, because generations of the origin take turns (see remotemedia.ipc.lane).
    """

    def __init__(self, spec: ChannelSpec, lane: int, ledger: Ledger, bell: Doorbell, generation: int = 0) -> None:
        """`lane`: which of the channel's borrowers this process is. `generation`: of this process."""
        self._words = spec.borrowed(lane, ledger)
        self._bell = bell
        self._most_held, self._most_held_bytes = spec.borrowed_frames(), spec.borrowed_bytes()
        self.held: dict[int, int] = {}
        """Lease → bytes of the frames that somebody in this process looks at."""
        self._pins: dict[int, set[int]] = {}
        self._is_copy = False
        self._lock = threading.RLock()  # pins die in any thread, also while this very thread makes one
        if generation:
            for words in self._words:
                for ticket in range(len(words)):
                    words[ticket] = 0
            bell.ring()
        _origins.add(self)

    def pin(self, pin: Pin) -> None:
        """From now on the origin leaves the frame alone."""
        with self._lock:
            pins = self._pins.get(pin.sequence) or set()
            pins.add(id(pin))
            self._pins[pin.sequence] = pins
            words = self._words[(pin.sequence >> GENERATION_SHIFT) % 2]
            # What is there already may be of a later generation: then this frame is of an origin that died long ago.
            words[pin.ticket] = max(words[pin.ticket], pin.sequence)

    def unpin(self, pin: Pin) -> None:
        """This pin is gone; with the last one, the origin may use the slot again."""
        if self._is_copy:
            return
        with self._lock:
            pins = self._pins.get(pin.sequence, set())
            pins.discard(id(pin))
            if pins:
                return
            self._pins.pop(pin.sequence, None)
            words = self._words[(pin.sequence >> GENERATION_SHIFT) % 2]
            if words[pin.ticket] == pin.sequence:  # else a later generation of the origin uses the ticket
                words[pin.ticket] = 0
        fence()
        self._bell.ring_for(CREDIT)

    def holds_too_much(self, nbytes: int) -> bool:
        """Whether a view of one more frame would be more than this process's share: then it gets copied instead."""
        held = self.held
        if not held:
            return False
        return len(held) >= self._most_held or sum(list(held.values())) + nbytes > self._most_held_bytes


_origins: weakref.WeakSet[Origin] = weakref.WeakSet()


def _forget_in_forked_child() -> None:
    """What a forked copy of this process drops is still held by the original."""
    for origin in list(_origins):
        origin._is_copy = True


os.register_at_fork(after_in_child=_forget_in_forked_child)


class References:
    """What one process knows of references: the origins it may get some to, and their segments."""

    def __init__(self, origins: Mapping[int, Origin], upstream: Iterable[Doorbell]) -> None:
        """`upstream`: the doorbells of all whose frames this process may have passed on."""
        self._origins, self._upstream = origins, list(dict.fromkeys(upstream))
        self.segments = Segments()
        self.senders: list[ShmSender] = []

    def borrow(self, reference: Reference, receiver: ShmReceiver, sequence: int) -> Borrowed | None:
        """A lease of what a reference leads to, which came as frame `sequence`; None if it is out of reach."""
        origin = self._origins.get(reference.origin)
        if origin is None:
            return None
        segment = self.segments.open(reference.name.decode(), reference.origin, reference.generation)
        if segment is None:
            return None
        pin = Pin(origin, reference.sequence, reference.ticket)
        if not segment.shows(reference.header_at, reference.sequence):
            return None
        return _borrowed(pin, segment, reference, receiver, sequence)

    @property
    def is_in_demand(self) -> bool:
        """Whether one whose frames may have been passed on sleeps for want of credit."""
        return any(bell.word[0] & (CREDIT | ACKNOWLEDGEMENT) for bell in self._upstream)

    def collect(self, but: ShmSender) -> None:
        """Let go of what the other senders of this process have passed on, if it has been taken."""
        for sender in self.senders:
            if sender is not but and sender.lends:
                sender.recall()


    def close(self) -> None:
        """Let go of senders and segments: views that somebody keeps lead here."""
        self.senders.clear()
        self.segments.close()
        self._origins, self._upstream = {}, []


def _borrowed(
    pin: Pin, segment: Segment, reference: Reference, receiver: ShmReceiver, sequence: int
) -> Borrowed:
    lease: Any = Borrowed.from_address(segment.address + reference.data_at)
    lease.pin, lease.segment, lease.reference = pin, segment, reference
    lease.receiver, lease.sequence = receiver, sequence
    return lease  # type: ignore[no-any-return]


class Loan(NamedTuple):
    """A reference, and what must live until its receivers have taken it."""

    reference: Reference
    hold: Any


class Lender:
    """Finds out whether an array that is to be sent can be passed on by reference."""

    def __init__(
        self,
        references: References,
        origins: Collection[int],
        is_current: Callable[[ShmReceiver, int], bool] | None = None,
    ) -> None:
        """`origins`: the channels whose frames all receivers may borrow (ChannelSpec.key). `is_current(receiver,
        sequence)`: whether that frame is being worked on; None: that does not matter, because this process is not
        replaced.
        """
        self.references = references
        self._origins, self._is_current = origins, is_current

    def lend(self, array: npt.NDArray[Any]) -> Loan | None:
        """A reference to `array`; None if it must be copied."""
        if not self._origins or not array.flags.c_contiguous:
            return None
        lease = lease_under(array)
        if lease is None:
            return None
        if isinstance(lease, Borrowed):
            receiver, sequence = lease.receiver, lease.sequence
        else:
            receiver, sequence = lease.terms[:2]
        if receiver.references is not self.references:  # of another pool
            return None
        if self._is_current is not None and not self._is_current(receiver, sequence):
            return None
        if isinstance(lease, Borrowed):
            return self._pass_on(lease, array)
        return self._refer(lease, array)

    def _pass_on(self, lease: Borrowed, array: npt.NDArray[Any]) -> Loan | None:
        reference = lease.reference
        if reference.origin not in self._origins:
            return None
        data_at = reference.data_at + address_of(array) - ctypes.addressof(lease)
        return Loan(reference._replace(data_at=data_at), (lease.pin, lease.segment))

    def _refer(self, lease: Lease, array: npt.NDArray[Any]) -> Loan | None:
        receiver, sequence, ticket, _ = lease.terms
        origin, generation = receiver.channel, sequence >> GENERATION_SHIFT
        if origin not in self._origins or generation != receiver._acceptance.generation:
            return None  # of an origin that is dead, others may not find the files any more
        hold = lease.hold()
        header = hold.sample.user_header_ptr
        facts = Header.from_address(header)
        if facts[REPEATED_AT] or facts[KIND_AT] == REFERENCE:  # or an array beside one that lies elsewhere
            return None
        found = self.references.segments.find(header, origin, generation)
        if found is None:
            return None
        name, header_at = found
        data_at = header_at + address_of(array) - header
        return Loan(Reference(sequence, header_at, data_at, origin, ticket, name.encode()), hold)
