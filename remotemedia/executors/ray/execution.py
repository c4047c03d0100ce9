"""The executor "ray": the islands of one graph, each on a host of a Ray cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from remotemedia.config import RestartPolicy
from remotemedia.core.calling import CallStyle, call_style
from remotemedia.core.exceptions import NodeError, RemoteMediaError
from remotemedia.core.graph import Graph
from remotemedia.core.node_serialization import serialize_node_async
from remotemedia.executors.base import Output, RunOptions, Source, close_stream
from remotemedia.executors.ray.cluster import Cluster, demand_of
from remotemedia.executors.ray.island_pool import IslandSpec
from remotemedia.executors.ray.islands import Island, Layout, partition
from remotemedia.executors.ray.member import Member
from remotemedia.executors.ray.run import Run
from remotemedia.executors.sources import has_own_sources
from remotemedia.workers.tasks import finish


class RayExecution:
    """One execution of a graph on a Ray cluster (see remotemedia.executors.base.Execution for the contract).

    Nodes that may be on one host are an island: a worker pool in one Ray actor. Nodes marked "inline" stay in this
    process. Raises ConfigurationError for an address or a host that does not exist, PipelineError if no cluster can be
    joined, WorkerStartError if an island cannot be started.
    """

    def __init__(self, graph: Graph, places: tuple[str, ...], options: RunOptions) -> None:
        config = options.config
        self._policy = config.restart or RestartPolicy.never()
        self._config = replace(config, restart=self._policy)
        self._graph, self._places, self._copy = graph, places, options.own_outputs
        self._cluster: Cluster | None = None
        self._layout = Layout((), ())
        self._members: list[Member] = []
        self._runs = 0
        self._stream: AsyncGenerator[Output, None] | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            cluster = await self._join()
            demands = [demand_of(node, place) for node, place in zip(self._graph.nodes, self._places, strict=True)]
            self._layout = partition(self._graph, demands, await asyncio.to_thread(cluster.hosts))
            for index, island in enumerate(self._layout.islands):
                self._members.append(await self._member(index, island, cluster))
            await _all(member.start() for member in self._members)
        except BaseException:
            await self._end()
            raise
        return self

    async def _join(self) -> Cluster:
        joining = asyncio.ensure_future(asyncio.to_thread(Cluster.join, self._config.ray_address))
        try:
            self._cluster = await asyncio.shield(joining)
        except asyncio.CancelledError:
            with suppress(RemoteMediaError):
                self._cluster = await joining  # the thread goes on: what it has joined is to be left again
            raise
        return self._cluster

    async def _member(self, index: int, island: Island, cluster: Cluster) -> Member:
        graph = island.subgraph(self._graph)
        is_local = island.demand.is_local
        spec = IslandSpec(
            nodes=graph.nodes if is_local else tuple([await serialize_node_async(node) for node in graph.nodes]),
            ids=graph.ids,
            edges=graph.edges,
            config=replace(self._config, ray_address=None, runtime_dir=self._runtime_dir(is_local)),
            is_local=is_local,
            most_ahead=self._config.in_flight_frames,
        )
        streaming = any(call_style(node) is CallStyle.STREAMING for node in graph.nodes)
        return Member(index, spec, island.demand, cluster, policy=self._policy, is_replaceable=not streaming)

    def _runtime_dir(self, is_local: bool) -> str | None:
        return self._config.runtime_dir if is_local else None  # a path of this host

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cleanup_errors = await self._end()
        if error is None and cleanup_errors:
            raise cleanup_errors[0]

    async def _end(self) -> list[NodeError]:
        """Stop everything, whatever interrupts us."""
        return await finish(asyncio.ensure_future(self._stop()))

    async def _stop(self) -> list[NodeError]:
        stream, self._stream = self._stream, None
        if stream is not None:
            await close_stream(stream)
        found = await asyncio.gather(*(member.stop() for member in reversed(self._members)))
        self._members.clear()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            await asyncio.to_thread(cluster.leave)
        return [error for errors in found for error in errors]

    # -- streaming -----------------------------------------------------------------------------------------------------

    def stream(self, source: Source) -> AsyncGenerator[Output, None]:
        """See Execution.stream. A stream that was left unfinished is closed when the next one starts.

        Raises what the other executors raise for nodes and sources; WorkerDied or RestartLimitExceeded for an island
        that was lost with its host, PipelineError while another task still reads a stream.
        """
        previous = self._stream
        self._stream = self._run(source, previous)
        return self._stream

    async def _run(self, source: Source, previous: AsyncGenerator[Output, None] | None) -> AsyncGenerator[Output, None]:
        if previous is not None:
            await close_stream(previous)
        own = has_own_sources(self._graph, source)
        self._runs += 1
        run = Run(self._runs, self._layout, self._members, self._config, len(self._graph.nodes))
        async with aclosing(run.outputs(source, own_sources=own, copy=self._copy)) as outputs:
            async for output in outputs:
                yield output

    def metrics(self) -> list[dict[str, Any]]:
        """See Execution.metrics; up to date at the end of a stream, and a quarter of a second old at most before."""
        by_node = {
            node: metrics
            for island, member in zip(self._layout.islands, self._members, strict=False)
            for node, metrics in zip(island.nodes, member.metrics(), strict=True)
        }
        return [by_node[node] for node in range(len(self._graph.nodes)) if node in by_node]


async def _all(starts: Any) -> None:
    """Await all of them; raises the first error when every one has ended, so that nothing starts behind our back."""
    for result in await asyncio.gather(*starts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
