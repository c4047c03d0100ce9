"""The multiprocess executor: a worker pool for one execution."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.graph import Graph
from remotemedia.executors.base import Output, RunOptions, Source
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.serving import StatusPage


class MultiprocessExecution:
    """One execution of a graph in worker processes (see remotemedia.executors.base.Execution)."""

    def __init__(self, graph: Graph, places: tuple[str, ...], options: RunOptions) -> None:
        config = options.config or PoolConfig()
        if config.restart is None:
            config = replace(config, restart=RestartPolicy.never())
        self._pool = WorkerPool(graph, config=config, places=places)
        self._copy = options.own_outputs

    async def __aenter__(self) -> Self:
        await self._pool.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()
        if error is None and self._pool.cleanup_errors:
            raise self._pool.cleanup_errors[0]

    async def stream(self, source: Source) -> AsyncGenerator[Output, None]:
        async with aclosing(self._pool.numbered_stream(source, copy=self._copy)) as outputs:
            async for number, value in outputs:
                yield Output(number, value)

    async def serve_status(self, port: int) -> StatusPage:
        """See WorkerPool.serve_status."""
        return await self._pool.serve_status(port)

    def metrics(self) -> list[dict[str, Any]]:
        return self._pool.metrics()
