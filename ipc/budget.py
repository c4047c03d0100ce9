"""How much shared memory channels need: before anything is created, so that a full /dev/shm is an error and not a surprise."""

from __future__ import annotations

import mmap

from remotemedia.config import ChannelConfig
from remotemedia.ipc.wire import BLOCK_BYTES

_PORTS_BYTES = 64 * 1024
"""iceoryx2's own segments of one channel with a receiver or two: measured 30 to 50 KiB."""

SLOTS_BESIDE_TICKETS = 10
"""Slots of a sender beyond `queue_frames`: seven open arrays, one being packed, two on their way back."""


def least_bytes(config: ChannelConfig, channels: int) -> int:
    """What `channels` channels take as soon as they exist and carry frames that fit into their slots' first page."""
    slots = config.queue_frames + SLOTS_BESIDE_TICKETS
    return channels * (_PORTS_BYTES + slots * mmap.PAGESIZE)


def most_bytes(config: ChannelConfig, channels: int, frame_bytes: int) -> int:
    """The bound for frames of `frame_bytes`: the window, or two frames if that is more, and the slots beside it."""
    slot = -(-frame_bytes // BLOCK_BYTES) * BLOCK_BYTES
    in_flight = min(config.queue_frames, max(2, config.window_bytes // max(slot, 1)))
    return least_bytes(config, channels) + channels * (in_flight + SLOTS_BESIDE_TICKETS) * slot
