"""A straight run of nodes inside a graph, and the way of one value through it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from remotemedia.core.calling import SPECIAL_RESULTS, outputs_of
from remotemedia.core.exceptions import NodeProcessError, WorkerIdentity
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.core.remote_errors import described, raised
from remotemedia.executors.streaming import StreamingDriver
from remotemedia.executors.turn import Turn

FAILURES = (Exception, SystemExit)
"""What counts as a failure of the node. Ctrl-C and cancellation are the caller's and pass through."""


@dataclass(frozen=True)
class NodeCall:
    """One node of a segment: `call(value)` gives what its `process` gives. `identity`: who it is in errors."""

    identity: WorkerIdentity
    node: Node
    call: Callable[..., Any]
    driver: StreamingDriver | None


class Segment:
    """Nodes of which each feeds only the next, and each but the first is fed only by the one before.

    So an output travels to the end of the segment before the node makes its next one: a long generator is never
    collected. `number` is the number of the input being processed, for errors; at the end of the stream the one
    after the last.
    """

    def __init__(self, nodes: Sequence[NodeCall], turn: Turn) -> None:
        self.number = 0
        self._turn = turn
        self.end = len(nodes)
        self._nodes = nodes
        self._calls = [node.call for node in nodes]

    def step(self, position: int, value: Any) -> tuple[int, Any]:
        """Through nodes that give plain values, from `position` on.

        Returns (`end`, output or None), or the position of the first node that gave something which yields its outputs,
        and that.
        """
        calls, end = self._calls, self.end
        while position < end:
            try:
                value = calls[position](value)
            except FAILURES as error:
                raise self.failure(position, "process", error) from error
            if value is None:
                return end, None
            if value.__class__ in SPECIAL_RESULTS:
                return position, value
            position += 1
        return end, value

    async def feed(self, position: int, value: Any) -> AsyncGenerator[Any, None]:
        """All outputs of the segment for one value that enters it at `position`."""
        position, result = self.step(position, value)
        async with aclosing(self.resume(position, result)) as outputs:
            async for output in outputs:
                yield output

    async def feed_all(self, position: int, values: Iterable[Any]) -> AsyncGenerator[Any, None]:
        """All outputs of the segment for values that enter it at `position` one after the other."""
        for value in values:
            async with aclosing(self.feed(position, value)) as outputs:
                async for output in outputs:
                    yield output

    async def items(self) -> AsyncGenerator[Any, None]:
        """What the first node makes by itself, being a source."""
        try:
            result = self._calls[0]()
        except FAILURES as error:
            raise self.failure(0, "process", error) from error
        async with aclosing(self.outputs(0, "process", result)) as outputs:
            async for output in outputs:
                yield output

    async def resume(self, position: int, result: Any) -> AsyncGenerator[Any, None]:
        """All outputs of the segment, given what `step` returned."""
        if position == self.end:
            if result is not None:
                yield result
            return
        async with aclosing(self.outputs(position, "process", result)) as outputs:
            async for output in outputs:
                reached, value = self.step(position + 1, output)
                if reached == self.end:
                    if value is not None:
                        yield value
                    continue
                async with aclosing(self.resume(reached, value)) as rest:
                    async for last in rest:
                        yield last

    async def finish(self, inputs: Iterable[Any]) -> AsyncGenerator[Any, None]:
        """End of the stream: `inputs` are processed, then each node flushes once all before it have."""
        async with aclosing(self.feed_all(0, inputs)) as outputs:
            async for output in outputs:
                yield output
        for position in range(self.end):
            async with aclosing(self._last_outputs(position)) as last_outputs:
                async for value in last_outputs:
                    async with aclosing(self.feed(position + 1, value)) as outputs:
                        async for output in outputs:
                            yield output

    async def outputs(self, position: int, method: str, result: Any) -> AsyncGenerator[Any, None]:
        """The outputs in `result`, which the node at `position` gave; its errors as NodeProcessError."""
        try:
            async with aclosing(outputs_of(result)) as outputs:
                async for output in outputs:
                    yield output
                    if self._turn.is_over():
                        await self._turn.pass_on()
        except FAILURES as error:
            raise self.failure(position, method, error) from error

    async def _last_outputs(self, position: int) -> AsyncGenerator[Any, None]:
        node = self._nodes[position]
        if node.driver is not None:
            async with aclosing(self.outputs(position, "process", node.driver.end())) as outputs:
                async for output in outputs:
                    yield output
        try:
            result = node.node.flush()
        except FAILURES as error:
            raise self.failure(position, "flush", error) from error
        async with aclosing(self.outputs(position, "flush", result)) as outputs:
            async for output in outputs:
                yield output

    def failure(self, position: int, method: str, error: BaseException) -> NodeProcessError:
        """The error to raise from `error`, which `method` of the node at `position` raised."""
        told = raised(method, described(error), self.number)
        return NodeProcessError(self._nodes[position].identity, told, frame=self.number)


def straight_runs(graph: Graph) -> list[list[int]]:
    """The indices of the nodes of each segment of `graph`, segments and nodes in topological order."""
    runs: dict[int, list[int]] = {}  # by their last node so far
    for index in graph.order:
        before = graph.predecessors(index)
        joins = len(before) == 1 and len(graph.successors(before[0])) == 1
        run = runs.pop(before[0]) if joins else []
        run.append(index)
        runs[index] = run
    return sorted(runs.values(), key=lambda run: graph.order.index(run[0]))
