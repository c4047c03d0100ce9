"""iceoryx2 from Python as its examples do it: publish-subscribe for the frames, an event service for the wake-ups.

The sender loans a slot, writes into it, sends it and notifies; the receiver takes what is there and waits for the next
event when there is nothing. The subscribers' buffers hold the whole window, so nothing overflows.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import tempfile
from multiprocessing.context import SpawnContext
from typing import Any

import iceoryx2 as iox
import numpy as np

from benchmarks.peers.shm_ring import NAME_PREFIX_VARIABLE
from benchmarks.peers.spawned import Link, SpawnedChain
from benchmarks.process_tree import SHARED_MEMORY
from benchmarks.work import WINDOW, Array

PREFIX = os.environ.get(NAME_PREFIX_VARIABLE, "rmbench_")
BLOCK_BYTES = 64
MEMORY = ctypes.c_uint8 * (1 << 40)
"""One ctypes type for all sizes: making a new one per frame would cost more than the rest."""

_numbers = itertools.count()


class Block(ctypes.Structure):
    """Payloads are made of cache lines, so that they are aligned to them."""

    _fields_ = (("bytes", ctypes.c_uint8 * BLOCK_BYTES),)

    @staticmethod
    def type_name() -> str:
        return "Block"


class EventEnd:
    """What both ends of a link have: a node of this process and the two services."""

    def __init__(self, link: EventLink) -> None:
        iox.set_log_level(iox.LogLevel.Error)
        self._size = link.size
        self._node = link.make_node()
        self._frames = (
            self._node.service_builder(iox.ServiceName.new(f"{link.name}/frames"))
            .publish_subscribe(iox.Slice[Block])
            .payload_alignment(iox.Alignment.new(BLOCK_BYTES))
            .subscriber_max_buffer_size(WINDOW)
            .enable_safe_overflow(False)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
        )
        self._event = self._node.service_builder(iox.ServiceName.new(f"{link.name}/event")).event().open_or_create()


class EventInlet(EventEnd):
    def __init__(self, link: EventLink) -> None:
        super().__init__(link)
        self._subscriber = self._frames.subscriber_builder().buffer_size(WINDOW).create()
        self._listener = self._event.listener_builder().create()
        self._sample: Any = None

    def receive(self) -> Array:
        self._sample = None  # gives the slot back
        while (sample := self._subscriber.receive()) is None:
            self._listener.blocking_wait()
        self._sample = sample
        return _array_at(sample.payload_ptr, self._size)


class EventOutlet(EventEnd):
    def __init__(self, link: EventLink) -> None:
        super().__init__(link)
        self._blocks = -(-link.size // BLOCK_BYTES)
        self._publisher = self._frames.publisher_builder().initial_max_slice_len(self._blocks).create()
        self._notifier = self._event.notifier_builder().create()
        # The method behind loan_slice_uninit: without its check of the type on every call.
        self._loan = getattr(self._publisher, "__loan_slice_uninit")
        self._loaned: Array | None = None

    def loan(self, frame: Array) -> Array:
        self._slot = self._loan(self._blocks)
        self._loaned = _array_at(self._slot.payload_ptr, self._size)
        return self._loaned

    def send(self, frame: Array) -> None:
        if frame is not self._loaned:
            np.copyto(self.loan(frame), frame)
        self._loaned = None
        getattr(self._slot, "__assume_init")().send()
        self._notifier.notify()


class EventLink:
    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"link{next(_numbers)}"
        self._root = f"{tempfile.gettempdir()}/iox"

    def make_node(self) -> Any:
        """A node whose files are kept apart from those of other programs; signals are left to Python."""
        config = iox.config.default()
        config.global_cfg.prefix = iox.FileName.new(PREFIX)
        config.global_cfg.root_path = iox.Path.new(self._root)
        builder = iox.NodeBuilder.new().config(config)
        return builder.signal_handling_mode(iox.SignalHandlingMode.Disabled).create(iox.ServiceType.Ipc)

    def outlet(self) -> EventOutlet:
        return EventOutlet(self)

    def inlet(self) -> EventInlet:
        return EventInlet(self)

    def close(self) -> None:
        """Nothing to do: services vanish with their last port."""


def _array_at(address: int, size: int) -> Array:
    return np.ndarray((size,), np.uint8, memoryview(MEMORY.from_address(address)))


class Iceoryx2Event(SpawnedChain):
    def make_link(self, context: SpawnContext, size: int) -> Link:
        return EventLink(size)

    async def stop(self) -> None:
        await super().stop()
        for path in SHARED_MEMORY.glob(f"{PREFIX}*.global_mgmt"):  # iceoryx2 itself never removes this one
            path.unlink()
