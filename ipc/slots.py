"""The slots of one sender: given out by iceoryx2, with memory behind them."""

from __future__ import annotations

import mmap
from typing import Any

from remotemedia.config import KIB
from remotemedia.core.exceptions import ChannelError, FrameTooLarge, SharedMemoryExhausted
from remotemedia.ipc.credit import NEVER, Credit
from remotemedia.ipc.participant import LoanError, Participant
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.ipc.shm_memory import free_shared_memory, populate
from remotemedia.ipc.wire import BLOCK_BYTES, blocks

_KEPT_BYTES = 256 * KIB
"""A sender that keeps frames and has more than this in flight looks at once for what it need not keep any more: the
fewer slots are in use, the more of them stay in the processor's cache.
"""


class Slots:
    """Loans slots of any size that is allowed. Belongs to the sender's thread."""

    def __init__(self, participant: Participant, service: Any, spec: ChannelSpec, credit: Credit) -> None:
        """`credit`: what is taken back, where the sender keeps frames, before a slot is loaned."""
        self._name = spec.name
        self._credit = credit
        self._most_kept = _KEPT_BYTES if spec.keeps else NEVER
        self.most_bytes = spec.config.max_frame_bytes
        self._slots = spec.slots
        self._blocks = blocks(spec.config.slot_bytes)
        self._backed: dict[int, int] = {}  # address of a slot → blocks of it that have memory behind them
        self._port = participant.publisher(service, slot_blocks=self._blocks, slots=self._slots)
        self._loan = getattr(self._port, "__loan_slice_uninit")  # the name itself would be mangled here
        first, second = (self._loan(self._blocks) for _ in range(2))
        self._stride = second.payload_ptr - first.payload_ptr
        self._overhead = self._stride - self._blocks * BLOCK_BYTES

    def loan(self, nbytes: int) -> Any:
        """A free slot of at least `nbytes`, with memory behind it. Raises FrameTooLarge, SharedMemoryExhausted."""
        if self._credit.bytes > self._most_kept:
            self._credit.collect()
        count = -(-nbytes // BLOCK_BYTES) or 1
        if count > self._blocks:
            self._grow(nbytes, count)
        try:
            sample = self._loan(count)
        except LoanError as error:
            raise ChannelError(self._name, f"no free slot for {nbytes} bytes: {error}") from error
        address = sample.payload_ptr
        if self._backed.get(address, 0) < count:
            self._back(address, count)
        return sample

    def _grow(self, nbytes: int, count: int) -> None:
        """Before iceoryx2 makes a larger segment: is that allowed, is there room?

        Its slots, their headers included, are then the next power of two.
        """
        if nbytes > self.most_bytes:
            raise FrameTooLarge(self._name, nbytes, self.most_bytes)
        need = 2 * count * BLOCK_BYTES + self._slots * mmap.PAGESIZE  # two such frames, and a header for each slot
        free = free_shared_memory()
        if need > free:
            raise SharedMemoryExhausted(self._name, need, free)
        self._stride = 1 << (count * BLOCK_BYTES + self._overhead - 1).bit_length()
        self._blocks = (self._stride - self._overhead) // BLOCK_BYTES
        self._backed.clear()

    def _back(self, address: int, count: int) -> None:
        """Put memory behind a slot that is used for the first time: a full /dev/shm must be an error, not a SIGBUS.

        In a new segment the headers of all slots come first, because iceoryx2 writes them when it gives out the slot.
        """
        if not self._backed:
            for slot in range(self._slots):  # a segment that has grown has fewer
                header = address + slot * self._stride - self._overhead
                if not populate(self._name, header, self._overhead):
                    break
        populate(self._name, address, count * BLOCK_BYTES)
        self._backed[address] = count

    def reclaim(self) -> None:
        """Take back what is finished with."""
        self._credit.collect()

    def connect(self) -> None:
        """Reach receivers that have come, and take back what those that are gone had borrowed."""
        self._port.update_connections()
