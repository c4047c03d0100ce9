"""torch.multiprocessing: tensors in shared memory go through its queues as handles; a stage works in place and sends
the tensor on. The producer has as many tensors as can be under way and uses them in turn: none is made per frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from multiprocessing.context import SpawnContext

import numpy as np
import torch
import torch.multiprocessing  # teaches the queues of multiprocessing to send tensors, here and in the stages

from benchmarks.peers.mp_queue import QueueLink
from benchmarks.peers.spawned import Link, SpawnedChain
from benchmarks.work import WINDOW, Array, Work


class TensorLink(QueueLink):
    """A queue of tensors."""

    def send(self, frame: Array) -> None:
        """What `receive` gave is in shared memory already; a fresh array is moved there by the queue."""
        tensor = frame.base if isinstance(frame.base, torch.Tensor) else torch.from_numpy(frame)
        self._queue.put(tensor)

    def receive(self) -> Array:
        frame: Array = self._queue.get().numpy()
        return frame


class TorchQueue(SpawnedChain):
    _buffers: Iterator[Array]

    def make_link(self, context: SpawnContext, size: int) -> Link:
        return TensorLink(context)

    async def start(self, stages: int, work: Work, size: int) -> None:
        # Besides the window, the output that is being looked at: it lies in the tensor of its frame.
        tensors = [torch.empty(size, dtype=torch.uint8).share_memory_() for _ in range(WINDOW + 1)]
        self._buffers = itertools.cycle([tensor.numpy() for tensor in tensors])
        await super().start(stages, work, size)

    def send(self, frame: Array) -> None:
        buffer = next(self._buffers)
        np.copyto(buffer, frame)
        super().send(buffer)
