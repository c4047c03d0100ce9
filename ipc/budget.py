"""How much shared memory channels need: checked first, so that a full /dev/shm is a clear error."""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from remotemedia.config import ChannelConfig

_HEADERS_BYTES = 256
_PORTS_BYTES = 64 * 1024
"""iceoryx2's own segments of one channel with a receiver or two: measured 30 to 50 KiB."""

MAX_LOANS = 8
"""Slots that a sender may hold unsent at once: a node's `self.empty()` arrays and the frame being packed."""
SPARE_SLOTS = 2
"""Per receiving port: slots whose credit is back already but whose memory is still on its way."""


def slots_of_sender(config: ChannelConfig, receivers: int, *, retain: bool) -> int:
    """How many slots each segment of a sender has: for each ticket, and, where it may have to send again, for the
    copies: each receiver may have all that was sent again for its own sake still in its queue, while the others drop
    theirs.
    """
    frames = config.queue_frames * (1 + receivers * retain)
    return frames + MAX_LOANS + SPARE_SLOTS * (receivers + 1)  # the sender may have a port itself, which keeps frames


def least_bytes(config: ChannelConfig, receivers: Iterable[int], *, retain: bool) -> int:
    """What channels take as soon as they exist and carry frames that fit into their slots' first page, which is backed
    by memory from the start. `receivers`: of each channel.
    """
    slots = [slots_of_sender(config, count, retain=retain) for count in receivers]
    slot_bytes = min(mmap.PAGESIZE, config.slot_bytes + _HEADERS_BYTES)
    return sum(_PORTS_BYTES + count * slot_bytes for count in slots)


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
        slots = slots_of_sender(config, count, retain=retain)
        total += (1 + retain) * (_PORTS_BYTES * (1 + retain) + slots * (largest + older))
    return total


def _pages(nbytes: int) -> int:
    """Whole pages for a payload and its headers."""
    return (-(-nbytes // mmap.PAGESIZE) + 1) * mmap.PAGESIZE
