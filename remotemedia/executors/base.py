"""What every executor gives: one execution of one graph."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import PipelineError
from remotemedia.core.graph import Graph

Source = Iterable[Any] | AsyncIterable[Any] | None
"""Where inputs come from; None: the graph's own source nodes make them."""


class Output(NamedTuple):
    """One output of the pipeline."""

    number: int
    """Number of the input it was made from, from 0; what `flush` gives carries the number after the last input."""
    value: Any


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a call may ask of an executor beside the graph."""

    config: PoolConfig = field(default_factory=PoolConfig)
    enable_metrics: bool = False
    """Measure each call (costs some 0.7 µs per node and frame in the inline executor)."""
    own_outputs: bool = False
    """Give arrays of the caller's own instead of views of shared memory, because it keeps all of them."""


class Execution(Protocol):
    """A graph that is ready to run: nodes initialized on entry, cleaned up in reverse order on exit, whatever fails."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def stream(self, source: Source) -> AsyncGenerator[Output, None]:
        """All outputs for all of the source's items, in order of the inputs, the connections and the index.

        Ends the stream: every node's `flush()` has run when the iterator is exhausted. Close the iterator
        (`aclose()`) to stop early. One stream at a time.
        """
        ...

    def metrics(self) -> list[dict[str, Any]]:
        """Per node, in graph order: node_id, calls, avg_duration_us, p50_us, p99_us, errors, restarts, bytes_in,
        bytes_out, copies, bytes_copied."""
        ...


ExecutorFactory = Callable[[Graph, tuple[str, ...], RunOptions], Execution]
"""(graph, where each node runs: Graph.with_executor(...), options) → Execution. What the entry point group
`remotemedia.executors` names."""


async def close_stream(stream: AsyncGenerator[Output, None]) -> None:
    """Close a stream that was left unfinished. Raises PipelineError while another task still reads it."""
    try:
        await stream.aclose()
    except RuntimeError as error:
        raise PipelineError(
            "another task is still reading a stream of this execution: one stream at a time"
        ) from error
