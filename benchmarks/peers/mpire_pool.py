"""MPIRE's WorkerPool with `apply_async` and its callbacks, kept alive between calls."""

from __future__ import annotations

from typing import Any

from mpire import WorkerPool

from benchmarks.peers.pool_chain import ApplyAsyncChain


class MpirePool(ApplyAsyncChain):
    def make_pool(self) -> Any:
        return WorkerPool(n_jobs=1, start_method="spawn", keep_alive=True)

    def close_pool(self, pool: Any) -> None:
        pool.terminate()
