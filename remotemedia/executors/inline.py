"""The inline executor: every node in the calling process, the very instances that were passed."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Self

from remotemedia.core.exceptions import ConfigurationError, WorkerIdentity
from remotemedia.core.graph import Graph
from remotemedia.core.stats import NodeStats
from remotemedia.executors.base import Output, RunOptions, Source, close_stream
from remotemedia.executors.life import NodeLives
from remotemedia.executors.metering import metered
from remotemedia.executors.segment import NodeCall, Segment, straight_runs
from remotemedia.executors.sources import has_own_sources, items_of
from remotemedia.executors.streaming import StreamingDriver
from remotemedia.executors.turn import Turn

_NOTHING = object()


class InlineExecution:
    """One execution of a graph in this process; see remotemedia.executors.base.Execution for the contract.

    Arrays are handed on as they are: nothing is copied, so a node that changes its input in place changes it for
    whoever else holds it.
    """

    def __init__(self, graph: Graph, places: tuple[str, ...], options: RunOptions) -> None:
        elsewhere = [node_id for node_id, place in zip(graph.ids, places, strict=True) if place != "inline"]
        if elsewhere:
            raise ConfigurationError(f"the inline executor cannot run {', '.join(map(repr, elsewhere))} elsewhere")
        self._graph, self._enable_metrics = graph, options.enable_metrics
        self._stats = [NodeStats() for _ in graph.nodes]
        self._lives = NodeLives()
        self._stream: AsyncGenerator[Output, None] | None = None
        self._runs = straight_runs(graph)
        by_tail = {run[-1]: index for index, run in enumerate(self._runs)}
        self._feeds = [[by_tail[tail] for tail in graph.predecessors(run[0])] for run in self._runs]
        self._entries = [index for index, feeds in enumerate(self._feeds) if not feeds]
        self._sinks = [by_tail[sink] for sink in graph.sinks]

    # -- life ----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            for index in self._graph.order:
                await self._lives.initialize(self._identity(index), self._graph.nodes[index])
        except BaseException as error:
            await self._lives.end(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        await self._lives.end(error, None if stream is None else stream.aclose)

    def _identity(self, index: int) -> WorkerIdentity:
        """Who a node is in errors, as in a pool."""
        return WorkerIdentity(node=self._graph.ids[index], worker_id=index, pid=os.getpid())

    def metrics(self) -> list[dict[str, Any]]:
        """See Execution.metrics; all zero without RunOptions(enable_metrics=True). Nothing is copied or sent inline."""
        return [stats.as_dict(node_id) for stats, node_id in zip(self._stats, self._graph.ids, strict=True)]

    # -- streaming -----------------------------------------------------------------------------------------------------

    def stream(self, source: Source) -> AsyncGenerator[Output, None]:
        """See Execution.stream. A stream that was left unfinished is closed when the next one starts.

        Raises NodeProcessError if a node raises; an error of the source itself passes unchanged. ConfigurationError if
        there is an input and the first node takes none, PipelineError while another task still reads a stream.
        """
        previous = self._stream
        self._stream = self._run(source, previous)
        return self._stream

    async def _run(self, source: Source, previous: AsyncGenerator[Output, None] | None) -> AsyncGenerator[Output, None]:
        if previous is not None:
            await close_stream(previous)
        own = has_own_sources(self._graph, source)
        async with AsyncExitStack() as stack:
            segments = self._segments(stack, own=own)
            inputs: AsyncGenerator[Any, None]
            if len(segments) == 1:
                inputs = segments[0].items() if own else items_of(source)
                outputs = self._run_chain(segments[0], inputs, first=int(own))
            else:
                inputs = self._own_rounds(segments) if own else self._rounds(source)
                outputs = self._run_graph(segments, inputs, first=int(own))
            await stack.enter_async_context(aclosing(inputs))
            await stack.enter_async_context(aclosing(outputs))
            async for output in outputs:
                yield output

    def _segments(self, stack: AsyncExitStack, *, own: bool) -> list[Segment]:
        """Fresh segments for one stream; `stack` closes what runs in them."""
        turn = Turn()
        sources = self._graph.sources if own else ()
        return [Segment([self._call(index, stack, index in sources) for index in run], turn) for run in self._runs]

    def _call(self, index: int, stack: AsyncExitStack, is_source: bool) -> NodeCall:
        node = self._graph.nodes[index]
        call: Callable[..., Any] = node.process
        driver: StreamingDriver | None = None
        if node.is_streaming and not is_source:
            driver = StreamingDriver(node)
            stack.push_async_callback(driver.aclose)
            call = driver.feed
        if self._enable_metrics:
            call = metered(call, self._stats[index], per_output=is_source)
        return NodeCall(self._identity(index), node, call, driver)

    async def _rounds(self, source: Source) -> AsyncGenerator[tuple[Any, ...], None]:
        """Each item once for every first node."""
        count, turn = len(self._entries), Turn()
        async for item in items_of(source):
            yield (item,) * count
            if turn.is_over():
                await turn.pass_on()

    async def _own_rounds(self, segments: Sequence[Segment]) -> AsyncGenerator[tuple[Any, ...], None]:
        """One item of each source node at a time; _NOTHING from those that have ended."""
        async with AsyncExitStack() as stack:
            makers = [segments[index].items() for index in self._entries]
            for maker in makers:
                await stack.enter_async_context(aclosing(maker))
            while True:
                values = tuple([await anext(maker, _NOTHING) for maker in makers])
                if all(value is _NOTHING for value in values):
                    return
                yield values

    async def _run_chain(
        self, segment: Segment, items: AsyncGenerator[Any, None], *, first: int
    ) -> AsyncGenerator[Output, None]:
        step, end, turn = segment.step, segment.end, Turn()
        number = 0
        async for value in items:
            position, result = step(first, value)
            if position == end:
                if result is not None:
                    yield Output(number, result)
            else:
                async with aclosing(segment.resume(position, result)) as outputs:
                    async for output in outputs:
                        yield Output(number, output)
            number += 1
            segment.number = number
            if turn.is_over():
                await turn.pass_on()
        async with aclosing(segment.finish(())) as outputs:
            async for output in outputs:
                yield Output(number, output)

    async def _run_graph(
        self, segments: Sequence[Segment], rounds: AsyncGenerator[tuple[Any, ...], None], *, first: int
    ) -> AsyncGenerator[Output, None]:
        number = 0
        ended: set[int] = set()
        async for values in rounds:
            given = {entry: [v] for entry, v in zip(self._entries, values, strict=True) if v is not _NOTHING}
            async with aclosing(self._round(segments, given, first, ended)) as outputs:
                async for output in outputs:
                    yield Output(number, output)
            number += 1
            for segment in segments:
                segment.number = number
        async with aclosing(self._round(segments, {}, 0, ended)) as outputs:
            async for output in outputs:
                yield Output(number, output)

    async def _round(
        self, segments: Sequence[Segment], given: Mapping[int, list[Any]], first: int, ended: set[int]
    ) -> AsyncGenerator[Any, None]:
        """The results for one input: what is `given` to each first segment.

        A first segment that is given nothing ends, and so does each segment when all that feed it have (`ended`).
        The outputs of a segment are collected for those who take them, except where they are the only results.
        """
        found: list[list[Any]] = []
        for index, segment in enumerate(segments):
            inputs = [value for feed in self._feeds[index] for value in found[feed]]
            if index in given:
                outputs = segment.feed_all(first, given[index])
            elif index not in ended and ended.issuperset(self._feeds[index]):
                ended.add(index)
                outputs = segment.finish(inputs)
            else:
                outputs = segment.feed_all(0, inputs)
            async with aclosing(outputs):
                if self._sinks == [index]:
                    async for output in outputs:
                        yield output
                    return
                found.append([output async for output in outputs])
        for sink in self._sinks:
            for output in found[sink]:
                yield output
