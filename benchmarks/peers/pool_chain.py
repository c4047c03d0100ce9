"""Stages as pools of one process each; a finished call is the next stage's input, through the main process."""

from __future__ import annotations

import queue
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.peers.base import BlockingContestant
from benchmarks.work import Array, Work


def run_stage(work: Work, frame: Array) -> Array:
    """In a worker process: works in place where the array that arrived may be written to."""
    return work.result_for(frame, lambda given: given if given.flags.writeable else given.copy())


class PoolChain(BlockingContestant):
    """Pools have no channels between workers: their result goes back to the caller, who hands it on. One worker per
    stage, as a stage with a model has it, keeps the order.
    """

    _pools: Sequence[Any]

    @abstractmethod
    def make_pool(self) -> Any:
        """A pool of one process, by a start method that is safe with threads."""

    @abstractmethod
    def call(
        self,
        pool: Any,
        function: Callable[[Array], Array],
        frame: Array,
        then: Callable[[Array], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Have the pool call the function without waiting for it; `then` gets its result, in whatever thread."""

    @abstractmethod
    def close_pool(self, pool: Any) -> None:
        """End the pool and its process."""

    async def start(self, stages: int, work: Work, size: int) -> None:
        self._function = partial(run_stage, work)
        self._results: queue.SimpleQueue[Array | BaseException] = queue.SimpleQueue()
        self._pools = [self.make_pool() for _ in range(stages)]

    def send(self, frame: Array) -> None:
        self._pass_on(0, frame)

    def receive(self) -> Array:
        result = self._results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    async def stop(self) -> None:
        for pool in self._pools:
            self.close_pool(pool)

    def _pass_on(self, stage: int, frame: Array) -> None:
        if stage == len(self._pools):
            self._results.put(frame)
        else:
            then = partial(self._pass_on, stage + 1)
            try:
                self.call(self._pools[stage], self._function, frame, then, self._results.put)
            except Exception as error:
                self._results.put(error)


class ApplyAsyncChain(PoolChain):
    """What has the interface of multiprocessing.Pool: `apply_async` and its callbacks."""

    def call(
        self,
        pool: Any,
        function: Callable[[Array], Array],
        frame: Array,
        then: Callable[[Array], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        pool.apply_async(function, (frame,), callback=then, error_callback=failed)
