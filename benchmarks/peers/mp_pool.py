"""multiprocessing.Pool with `apply_async` and its callbacks."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from benchmarks.peers.pool_chain import PoolChain
from benchmarks.work import Array


class MultiprocessingPool(PoolChain):
    def make_pool(self) -> Any:
        return multiprocessing.get_context("spawn").Pool(1)

    def call(
        self,
        pool: Any,
        function: Callable[[Array], Array],
        frame: Array,
        then: Callable[[Array], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        pool.apply_async(function, (frame,), callback=then, error_callback=failed)

    def close_pool(self, pool: Any) -> None:
        pool.terminate()
        pool.join()
