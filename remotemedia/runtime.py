"""Running a pipeline in one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from time import perf_counter_ns
from typing import Any

from remotemedia.core.calling import as_list
from remotemedia.core.exceptions import ConfigurationError, PipelineError
from remotemedia.core.pipeline import Pipeline
from remotemedia.executors import Output, RunOptions, Source, open_execution
from remotemedia.executors.sources import check_source
from remotemedia.log import get_logger
from remotemedia.manifest import to_graph
from remotemedia.options import pool_config

__all__ = ["execute_pipeline", "execute_pipeline_with_input", "run_pipeline"]

ProgressOption = bool | Callable[[list[dict[str, Any]]], object] | None

_log = get_logger("remotemedia.runtime")


async def execute_pipeline(
    pipeline: Any,
    input_data: Source = None,
    *,
    executor: str | None = None,
    enable_metrics: bool = False,
    progress: ProgressOption = False,
    **options: Any,
) -> Any:
    """Run a pipeline from its start to its end and return its outputs.

    `pipeline`: a Pipeline; a list of Nodes, of node dicts (`{"node_type": ..., "params": {...}}`) or of both; a
    manifest as dict or JSON text. `input_data`: an iterable or async iterable of items; None: the first node makes the
    items (its `process` takes nothing), or the single item None is processed.

    `executor`: "inline", "multiprocess" or another that is installed; None: each node's own mark decides, nodes without
    one run inline. `progress`: True (a live display on stderr) or a callable that gets the metrics of all nodes.
    `options`: `config=PoolConfig(...)` or single settings of it by name, e.g. `queue_frames=8`.

    Returns the list of all outputs; without `input_data` the output itself if there is one, None if there is none. With
    `enable_metrics`: `{"outputs": ..., "metrics": {"total_duration_us": ..., "node_metrics": [...]}}`.

    Raises TypeError and ManifestError for what is no pipeline, ConfigurationError for an unknown executor or a setting
    that cannot work, NodeInitializeError and NodeProcessError (`__cause__`: the node's own exception), WorkerDied.
    """
    check_source(input_data)
    run = _Run(pipeline, executor, enable_metrics, progress, options, "execute_pipeline")
    outputs: list[Any] = []
    async with aclosing(run.outputs(input_data)) as found:
        async for _, value in found:
            outputs.append(value)
    return run.result(as_list(outputs) if input_data is None else outputs)


async def execute_pipeline_with_input(
    pipeline: Any,
    input_data: list[Any],
    enable_metrics: bool = False,
    *,
    executor: str | None = None,
    progress: ProgressOption = False,
    **options: Any,
) -> Any:
    """Run a pipeline on a list of inputs and return one result per input, in their order.

    A result is the output for that input, None if there is none, a list if there are several. What the nodes give at
    the end of the stream (`flush`) is added to the result of the last input. Other arguments and errors as for
    `execute_pipeline`; TypeError if `input_data` is no list, ConfigurationError if it is empty.
    """
    if not isinstance(input_data, list):
        raise TypeError(f"input_data must be a list with one item per input, not {type(input_data).__name__}")
    if not input_data:
        raise ConfigurationError("input_data is empty: expected a list of at least one input")
    run = _Run(pipeline, executor, enable_metrics, progress, options, "execute_pipeline_with_input")
    results: list[list[Any]] = [[] for _ in input_data]
    async with aclosing(run.outputs(input_data)) as found:
        async for number, value in found:
            results[min(number, len(results) - 1)].append(value)
    return run.result([as_list(result) for result in results])


def run_pipeline(pipeline: Any, input_data: Source = None, **options: Any) -> Any:
    """`execute_pipeline` for programs without asyncio: same arguments, result and errors, in an event loop of its own.

    Raises PipelineError inside a running event loop (a notebook cell has one): use `await execute_pipeline(...)` there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise PipelineError(
            "run_pipeline() cannot be called where an event loop is running; "
            "write `await execute_pipeline(pipeline, input_data)` there"
        )
    with asyncio.Runner() as runner:
        return runner.run(execute_pipeline(pipeline, input_data, **options))


class _Run:
    """One call: its graph, its options and, afterwards, its metrics."""

    def __init__(
        self,
        pipeline: Any,
        executor: str | None,
        enable_metrics: bool,
        progress: ProgressOption,
        options: dict[str, Any],
        caller: str,
    ) -> None:
        if isinstance(pipeline, Pipeline) and pipeline.is_initialized:
            raise PipelineError(f"{pipeline!r} holds its nodes ready: run it with `await pipeline.run(input_data)`")
        self.graph = to_graph(pipeline)
        _log.debug("pipeline detected", given=type(pipeline).__name__, nodes=list(self.graph.ids), executor=executor)
        config = pool_config(options, caller=caller)
        measured = enable_metrics or bool(progress)
        run_options = RunOptions(config=config, enable_metrics=measured, own_outputs=True)  # all of them are kept
        self._execution = open_execution(self.graph, executor, run_options)
        self._enable_metrics, self._progress = enable_metrics, progress
        self._metrics: dict[str, Any] = {}

    async def outputs(self, source: Source) -> AsyncGenerator[Output, None]:
        """Start the nodes, give all outputs, stop the nodes."""
        started, count = perf_counter_ns(), 0
        async with AsyncExitStack() as stack:
            execution = await stack.enter_async_context(self._execution)
            _log.debug("pipeline started", nodes=len(self.graph.nodes))
            if self._progress:
                from remotemedia.progress import Progress

                stack.enter_context(Progress(self._progress, self.graph)).attach(execution)
            stream = await stack.enter_async_context(aclosing(execution.stream(source)))
            async for output in stream:
                count += 1
                yield output
            self._metrics = {
                "total_duration_us": (perf_counter_ns() - started) / 1e3,
                "node_metrics": execution.metrics(),
            }
        _log.debug("pipeline finished", outputs=count, duration_us=self._metrics["total_duration_us"])

    def result(self, outputs: Any) -> Any:
        """What the call returns."""
        return {"outputs": outputs, "metrics": self._metrics} if self._enable_metrics else outputs
