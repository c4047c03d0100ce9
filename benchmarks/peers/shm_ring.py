"""A ring of slots in multiprocessing.shared_memory with two semaphores: what many projects write for themselves."""

from __future__ import annotations

import os
from itertools import count
from multiprocessing.context import SpawnContext
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from benchmarks.peers.spawned import Link, SpawnedChain
from benchmarks.work import WINDOW, Array

SLOTS = WINDOW // 2 + 1
"""Two links, the least there are, together hold the window, and each receiver keeps the slot that it works on. More
would only cool the cache."""

NAME_PREFIX_VARIABLE = "REMOTEMEDIA_BENCH_PREFIX"
_numbers = count()


class RingEnd:
    """The slots, and where this end stands."""

    def __init__(self, link: RingLink) -> None:
        self._memory, self._free, self._filled = link.memory, link.free, link.filled
        self._slots = list(np.ndarray((SLOTS, link.size), np.uint8, link.memory.buf))
        self._next = 0

    def _take_next(self) -> Array:
        slot: Array = self._slots[self._next]
        self._next = (self._next + 1) % SLOTS
        return slot


class RingInlet(RingEnd):
    _holds_slot = False

    def receive(self) -> Array:
        if self._holds_slot:
            self._free.release()
        self._filled.acquire()
        self._holds_slot = True
        return self._take_next()


class RingOutlet(RingEnd):
    _loaned: Array | None = None

    def loan(self, frame: Array) -> Array:
        self._free.acquire()
        self._loaned = self._take_next()
        return self._loaned

    def send(self, frame: Array) -> None:
        if frame is not self._loaned:
            np.copyto(self.loan(frame), frame)
        self._loaned = None
        self._filled.release()


class RingLink:
    def __init__(self, context: SpawnContext, size: int) -> None:
        name = f"{os.environ.get(NAME_PREFIX_VARIABLE, 'rmbench')}{os.getpid()}_{next(_numbers)}"
        self.size = size
        self.memory = SharedMemory(name, create=True, size=SLOTS * size)
        self.free, self.filled = context.Semaphore(SLOTS), context.Semaphore(0)

    def outlet(self) -> RingOutlet:
        return RingOutlet(self)

    def inlet(self) -> RingInlet:
        return RingInlet(self)

    def close(self) -> None:
        self.memory.close()
        self.memory.unlink()


class SharedMemoryRing(SpawnedChain):
    def make_link(self, context: SpawnContext, size: int) -> Link:
        return RingLink(context, size)
