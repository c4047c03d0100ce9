"""concurrent.futures.ProcessPoolExecutor, spawned: the start method that is safe with the threads it has itself."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor

from benchmarks.peers.futures_chain import FuturesChain


class ProcessPools(FuturesChain):
    def make_pool(self) -> Executor:
        return ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))
