"""multiprocessing.Pool with `apply_async` and its callbacks."""

from __future__ import annotations

import multiprocessing
from typing import Any

from benchmarks.peers.pool_chain import ApplyAsyncChain


class MultiprocessingPool(ApplyAsyncChain):
    def make_pool(self) -> Any:
        return multiprocessing.get_context("spawn").Pool(1)

    def close_pool(self, pool: Any) -> None:
        pool.terminate()
        pool.join()
