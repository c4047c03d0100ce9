"""What the arrays of received frames lean on: leases. The last array that leans on one lets go of the frame, in
whatever thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from remotemedia.ipc.acceptance import GENERATION_SHIFT
from remotemedia.ipc.doorbell import CREDIT
from remotemedia.ipc.shm_memory import Memory

if TYPE_CHECKING:
    from remotemedia.ipc.references import Origin, Reference
    from remotemedia.ipc.segments import Segment
    from remotemedia.ipc.shm_receiver import ShmReceiver

Terms = tuple["ShmReceiver", int, int, memoryview]
"""The receiver, and what is written when a frame goes back: sequence number, ticket, the words of the tickets."""


def _give_back(terms: Terms) -> None:
    receiver, sequence, ticket, tickets = terms
    # The words of a sender that is dead may be in use again by the second after it.
    if receiver._acceptance.generation - (sequence >> GENERATION_SHIFT) < 2:  # noqa: PLR2004
        tickets[ticket] = sequence


class Lease(Memory):  # type: ignore[valid-type,misc]
    """A borrowed sample: the base of every array made from it. The last of them gives the ticket back."""

    __slots__ = ("sample", "terms")

    sample: Any
    """The sample of iceoryx2; or the Hold that has it now, because the frame was passed on."""
    terms: Terms

    def __del__(self) -> None:
        receiver, sequence, ticket, tickets = self.terms
        receiver._held.pop(sequence, None)
        if receiver._acceptance.generation - (sequence >> GENERATION_SHIFT) < 2:  # noqa: PLR2004 - see _give_back
            tickets[ticket] = sequence
        self.sample = None  # after the ticket: this drop is the fence between writing it and reading the sender's word
        receiver._sender_bell.ring_for(CREDIT)

    def hold(self) -> Hold:
        """What keeps the frame beside the arrays. The arrays alone count as held by the node."""
        sample = self.sample
        if sample.__class__ is Hold:
            return sample
        hold = Hold(sample, self.terms)
        receiver, sequence, ticket, _ = self.terms
        self.terms = receiver, sequence, ticket, receiver._no_tickets
        self.sample = hold
        return hold


class Hold:
    """A sample that is kept for what was passed on by reference, and by the lease for its arrays."""

    __slots__ = ("sample", "terms")

    def __init__(self, sample: Any, terms: Terms) -> None:
        self.sample, self.terms = sample, terms

    def __del__(self) -> None:
        _give_back(self.terms)
        self.sample = None  # see Lease
        self.terms[0]._sender_bell.ring_for(CREDIT)


class Pin:
    """Keeps the sender of a frame that came by reference from using its slot again (see Origin)."""

    __slots__ = ("origin", "sequence", "ticket")

    def __init__(self, origin: Origin, sequence: int, ticket: int) -> None:
        self.origin, self.sequence, self.ticket = origin, sequence, ticket
        origin.pin(self)

    def __del__(self) -> None:
        self.origin.unpin(self)


class Borrowed(Memory):  # type: ignore[valid-type,misc]
    """The memory that a reference leads to: the base of every array made from it."""

    __slots__ = ("pin", "receiver", "reference", "segment", "sequence")

    pin: Pin
    receiver: ShmReceiver
    """Where the reference came from, as its frame number `sequence`."""
    sequence: int
    reference: Reference
    segment: Segment

    def __del__(self) -> None:
        self.pin.origin.held.pop(id(self), None)


def lease_under(array: npt.NDArray[Any]) -> Lease | Borrowed | None:
    """The lease of the received frame that an array is a view of.

    The array made from a frame leans on a memoryview of the lease, and its views lean on that array.
    """
    root: Any = array.base
    if root.__class__ is np.ndarray:
        root = root.base
    lease: Any = root.obj if root.__class__ is memoryview else None
    return lease if lease.__class__ is Lease or lease.__class__ is Borrowed else None
