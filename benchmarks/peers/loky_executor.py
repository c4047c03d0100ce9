"""loky's ProcessPoolExecutor, with its own start method. Its reusable executor is one per process: too few here."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from loky import ProcessPoolExecutor

from benchmarks.peers.futures_chain import FuturesChain


class LokyExecutor(FuturesChain):
    def make_pool(self) -> Executor:
        executor: Executor = ProcessPoolExecutor(max_workers=1)
        return executor

    def stage_pids(self) -> Sequence[int]:
        return [pid for pool in self._pools for pid in pool._processes]
