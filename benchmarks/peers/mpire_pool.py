"""MPIRE's WorkerPool with `apply_async` and its callbacks, kept alive between calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpire import WorkerPool

from benchmarks.peers.pool_chain import PoolChain
from benchmarks.work import Array


class MpirePool(PoolChain):
    def make_pool(self) -> Any:
        return WorkerPool(n_jobs=1, start_method="spawn", keep_alive=True)

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
