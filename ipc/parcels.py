"""What a sender of the shared-memory channel has in its hands: open slots, frames to be sent, frames in flight."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from remotemedia.ipc.shm_memory import Memory

if TYPE_CHECKING:
    from remotemedia.ipc.packing import Packer


class Slot(Memory):  # type: ignore[valid-type,misc]
    """A loaned slot: owns the loan, and is the base of the array that lies in it. The loan goes back with the last
    view.
    """

    __slots__ = ("packer", "room", "sample")

    sample: Any
    packer: Packer | None
    """Whose open slot it is; None: its loan is a parcel's now."""
    room: int

    def __del__(self) -> None:
        if self.packer is not None:
            self.packer.open_slots.discard(id(self))


InFlight: TypeAlias = tuple[int, int, int, Any, int]
"""sequence, ticket, bytes of the payload, the sender's own hold on the sample (None: it does not keep it; Lent: the
payload lies elsewhere), number of the source frame.
"""


class Lent:
    """What is kept of a frame that is sent by reference."""

    __slots__ = ("address", "around", "data_at", "entry_at", "hold", "layout", "sample")

    def __init__(
        self, address: int, layout: bytes, hold: Any, *, around: int = 0, data_at: int = 0, entry_at: int = 0
    ) -> None:
        """`address`: of the data in this process, kept there by `hold`. `layout`: of a copy. `around`: bytes of the
        slot that a copy begins with. `data_at`: where in a copy the data come. `entry_at`: where it says that.
        """
        self.address, self.layout, self.hold = address, layout, hold
        self.around, self.data_at, self.entry_at = around, data_at, entry_at
        self.sample: Any = None
        """The sender's own hold on the reference."""

    def copy_to(self, payload: int, nbytes: int) -> None:
        """Make the payload of a copy."""
        ctypes.memmove(payload, self.sample.payload_ptr, self.around)
        ctypes.memmove(payload + self.data_at, self.address, nbytes - self.data_at)
        if self.around:
            ctypes.c_uint64.from_address(payload + self.entry_at).value = self.data_at


class ShmParcel(msgspec.Struct, gc=False):
    """A slot that is ready to be sent."""

    sample: Any
    layout: bytes
    nbytes: int
    lent: Lent | None = None
