"""How much shared memory channels need: checked first, so that a full /dev/shm is a clear error."""

from __future__ import annotations

import mmap

from remotemedia.config import ChannelConfig

_PORTS_BYTES = 64 * 1024
"""iceoryx2's own segments of one channel with a receiver or two: measured 30 to 50 KiB."""

SLOTS_BESIDE_TICKETS = 10
"""Slots of a sender beyond `queue_frames`: seven open arrays, one being packed, two on their way back."""


def least_bytes(config: ChannelConfig, channels: int) -> int:
    """What `channels` channels take as soon as they exist and carry frames that fit into their slots' first page."""
    slots = config.queue_frames + SLOTS_BESIDE_TICKETS
    return channels * (_PORTS_BYTES + slots * mmap.PAGESIZE)

