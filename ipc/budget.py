"""How much shared memory channels need: checked first, so that a full /dev/shm is a clear error."""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from remotemedia.config import ChannelConfig

_PORTS_BYTES = 64 * 1024
"""iceoryx2's own segments of one channel with a receiver or two: measured 30 to 50 KiB."""

SLOTS_BESIDE_TICKETS = 10
"""Slots of a sender beyond `queue_frames`: seven open arrays, one being packed, two on their way back."""

_LOANS, _SPARE = 8, 2
"""Slots of a sender beyond tickets: loans, and for each receiver those that are on their way back."""


def least_bytes(config: ChannelConfig, channels: int) -> int:
    """What `channels` channels take as soon as they exist and carry frames that fit into their slots' first page."""
    slots = config.queue_frames + SLOTS_BESIDE_TICKETS
    return channels * (_PORTS_BYTES + slots * mmap.PAGESIZE)


def most_bytes(config: ChannelConfig, receivers: Iterable[int], max_frame_bytes: int, *, retain: bool) -> int:
    """What channels can take at most, with frames of up to `max_frame_bytes`: nothing here grows with time.

    `receivers`: of each channel. A slot keeps the memory of the largest frame that it ever held. When frames outgrow
    the slots, a new segment takes over; older ones stay while one of their slots is in use, and since each is half as
    large as its successor, all of them together are no larger than one more. `retain`: there are slots to send again,
    and beside the segments of a sender those of its dead predecessor, until nobody reads them any more.
    """
    largest = _pages(min(max_frame_bytes, config.max_frame_bytes))
    start = _pages(config.slot_bytes)
    older = 0 if largest <= start else 1 << (largest - 1).bit_length()
    total = 0
    for count in receivers:
        slots = config.queue_frames * (1 + retain) + _LOANS + _SPARE * (count + retain)
        total += (1 + retain) * (_PORTS_BYTES * (1 + retain) + slots * (largest + older))
    return total


def _pages(nbytes: int) -> int:
    """Whole pages for a payload and its headers."""
    return (-(-nbytes // mmap.PAGESIZE) + 1) * mmap.PAGESIZE
