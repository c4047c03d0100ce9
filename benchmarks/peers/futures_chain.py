"""What has the interface of concurrent.futures: `submit` and futures with callbacks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from benchmarks.peers.pool_chain import PoolChain
from benchmarks.work import Array


class FuturesChain(PoolChain):
    @abstractmethod
    def make_pool(self) -> Executor: ...

    def call(
        self,
        pool: Any,
        function: Callable[[Array], Array],
        frame: Array,
        then: Callable[[Array], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        def when_done(future: Future[Array]) -> None:
            error = future.exception()
            if error is None:
                then(future.result())
            else:
                failed(error)

        pool.submit(function, frame).add_done_callback(when_done)

    def close_pool(self, pool: Any) -> None:
        pool.shutdown(wait=True)
