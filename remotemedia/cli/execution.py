"""Running a pipeline from the command line: progress, signals, and where the outputs go."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterable, Coroutine, Iterable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Protocol, TextIO

from remotemedia.cli import output
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.recording import Recorder


def add_execution_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `run_graph` reads."""
    parser.add_argument(
        "--executor", metavar="NAME",
        help="where unmarked nodes run: inline (default; overrides marks) or multiprocess",
    )  # fmt: skip
    parser.add_argument(
        "--restarts", type=int, default=0, metavar="N",
        help="replace a worker that dies, up to N times a minute; no frame is lost (default: 0, the first death ends "
        "the run)",
    )  # fmt: skip
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=None, help="live numbers (default: on a terminal)"
    )
    parser.add_argument(
        "--status-port", type=int, metavar="PORT",
        help="serve a live page about the workers on this port of this machine while it runs (with --executor "
        "multiprocess); 0: any free one",
    )  # fmt: skip
    parser.add_argument("--log-format", choices=["console", "json"], default="console", help="default: console")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="warning")


_JSON_MARKS = {".json": ("[\n", ",\n", "\n]\n"), ".jsonl": ("", "\n", "\n"), ".ndjson": ("", "\n", "\n")}


class Sink(Protocol):
    """Takes the outputs of a run, one after the other."""

    def add(self, value: Any) -> None: ...

    def close(self) -> None: ...


class Printed:
    """One line of standard output for each."""

    def add(self, value: Any) -> None:
        output.print_output(value)

    def close(self) -> None:
        sys.stdout.flush()


class Collected:
    """Kept as what JSON can say of them."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any) -> None:
        self.values.append(json.loads(output.json_text(value)))

    def close(self) -> None:
        pass


class _Json:
    """Each on a line of its own, with what begins, separates and ends them."""

    def __init__(self, file: TextIO, begin: str, between: str, end: str) -> None:
        self._file, self._before, self._between, self._end = file, begin, between, end

    def add(self, value: Any) -> None:
        self._file.write(self._before + output.json_text(value))
        self._before = self._between

    def close(self) -> None:
        if self._before != self._between:  # there was none
            self._file.write(self._before.rstrip("\n") and self._before + self._end)
        else:
            self._file.write(self._end)
        self._file.close()


class _Recorded:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def add(self, value: Any) -> None:
        self._recorder.write(value)

    def close(self) -> None:
        self._recorder.close()


def file_sink(path: str, *, recording: bool = False) -> Sink:
    """A JSON list for *.json, JSON lines for *.jsonl and *.ndjson, else a recording. Raises ConfigurationError."""
    try:
        if not recording and (marks := _JSON_MARKS.get(Path(path).suffix)) is not None:
            return _Json(Path(path).open("w", encoding="utf-8"), *marks)
        return _Recorded(Recorder(path))
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None


def run_graph(
    graph: Graph,
    source: Iterable[Any] | AsyncIterable[Any] | None,
    sink: Sink,
    arguments: argparse.Namespace,
    *,
    most: int | None = None,
) -> dict[str, Any]:
    """Run to the end, or until `most` outputs have come; gives the metrics. Raises output.Terminated after
    SIGTERM."""
    output.configure_logging(arguments.log_format, "debug" if arguments.debug else arguments.log_level)
    try:
        return asyncio.run(_until_terminated(_execute(graph, source, sink, arguments, most)))
    finally:
        sink.close()


async def _execute(
    graph: Graph,
    source: Iterable[Any] | AsyncIterable[Any] | None,
    sink: Sink,
    arguments: argparse.Namespace,
    most: int | None,
) -> dict[str, Any]:
    from remotemedia.config import PoolConfig, RestartPolicy
    from remotemedia.executors import RunOptions, open_execution
    from remotemedia.progress import Progress

    progress = sys.stderr.isatty() if arguments.progress is None else arguments.progress
    config = PoolConfig(restart=RestartPolicy(max_restarts=arguments.restarts))
    loop = asyncio.get_running_loop()
    began, count = loop.time(), 0
    async with AsyncExitStack() as stack:
        options = RunOptions(config=config, enable_metrics=True)
        execution = await stack.enter_async_context(open_execution(graph, arguments.executor, options))
        if arguments.status_port is not None:
            await _serve_status(execution, arguments.status_port)
        stack.enter_context(Progress(progress, graph)).attach(execution)
        outputs = await stack.enter_async_context(aclosing(execution.stream(source)))
        if most != 0:
            async for _, value in outputs:
                sink.add(value)
                count += 1
                if count == most:
                    break
        return {"total_duration_us": (loop.time() - began) * 1e6, "node_metrics": execution.metrics()}


async def _serve_status(execution: Any, port: int) -> None:
    serve = getattr(execution, "serve_status", None)
    if serve is None:
        raise ConfigurationError("--status-port: no node runs in a worker process; add --executor multiprocess")
    page = await serve(port)  # closed with the pool
    output.complain(f"status: {page.url}")


async def _until_terminated(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`; SIGTERM cancels it, so that nodes are cleaned up, and raises output.Terminated."""
    task = asyncio.ensure_future(work)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if not terminated:
            raise
        raise output.Terminated from None
