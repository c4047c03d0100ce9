"""What the command line prints: results, metrics, graphs and errors, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from remotemedia.core.exceptions import (
    ConfigurationError,
    NodeInitializeError,
    NodeNotLoadable,
    SharedMemoryExhausted,
    WorkerStartError,
)
from remotemedia.core.graph import Graph

OK, PIPELINE_ERROR, USAGE, ENVIRONMENT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


def exit_code(error: BaseException) -> int:
    """Which exit code stands for `error`: the pipeline's fault, the user's or the machine's."""
    causes = list(_causes(error))
    if any(isinstance(cause, (SharedMemoryExhausted, ImportError)) for cause in causes):
        return ENVIRONMENT
    if isinstance(error, WorkerStartError) and not isinstance(error, (NodeInitializeError, NodeNotLoadable)):
        return ENVIRONMENT
    return USAGE if isinstance(error, ConfigurationError) else PIPELINE_ERROR


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def error_text(error: BaseException) -> str:
    """The error in one line, with the cause if the line does not name it, and what to try on a second."""
    lines = str(error).splitlines() or [type(error).__name__]
    text = f"error: {lines[0]}"
    cause = error.__cause__
    if cause is not None and str(cause).partition("\n")[0] not in lines[0]:
        text += f" ({type(cause).__name__}: {str(cause).partition(chr(10))[0]})"
    hints = [line.strip() for line in lines[1:] if line.strip().startswith("Try:")]
    return "\n  ".join([text, *hints[:1]])


def say(text: str) -> None:
    """A line of the command's result, to stdout."""
    print(text)  # noqa: T201 - printing is what this file is for


def complain(text: str) -> None:
    """A line about the command, to stderr."""
    print(text, file=sys.stderr)  # noqa: T201 - as above


def print_outputs(outputs: Sequence[Any]) -> None:
    """One line per output: text as it is, arrays by shape, the rest as JSON where that is possible."""
    for output in outputs:
        if dataclasses.is_dataclass(output) and type(output).__str__ is not object.__str__:
            say(str(output))
        else:
            say(output if isinstance(output, str) else json.dumps(output, default=jsonable))


def print_json(document: Any) -> None:
    """One line of JSON."""
    say(json.dumps(document, default=jsonable))


def jsonable(value: Any) -> Any:
    """A JSON value for what json does not know: dataclasses by field, arrays by shape and dtype, the rest as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "__array_interface__"):
        if value.ndim == 0:
            return value.item()
        return {"shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return dict(value) if hasattr(value, "keys") else str(value)


def metrics_table(node_metrics: Sequence[dict[str, Any]]) -> str:
    """Calls, latency and copies of each node, as aligned text."""
    heads = ("node", "calls", "p50 ms", "p99 ms", "MB in", "MB out", "copies", "errors", "restarts")
    rows = [heads, *(_row(m) for m in node_metrics)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _row(m: dict[str, Any]) -> tuple[str, ...]:
    numbers = (f"{m['p50_us'] / 1e3:.2f}", f"{m['p99_us'] / 1e3:.2f}")
    sizes = (f"{m['bytes_in'] / 1e6:.1f}", f"{m['bytes_out'] / 1e6:.1f}")
    counts = (m["copies"], m["errors"], m["restarts"])
    return (str(m["node_id"]), str(m["calls"]), *numbers, *sizes, *map(str, counts))


def mermaid(graph: Graph) -> str:
    """The graph as a mermaid flow chart; nodes that run in a worker process have double borders."""
    lines = ["flowchart LR"]
    for index, (node_id, node) in enumerate(zip(graph.ids, graph.nodes, strict=True)):
        kind = type(node).__name__
        label = (node_id if kind == node_id else f"{node_id}<br/>{kind}").replace('"', "#quot;")
        opening, closing = ("[[", "]]") if node.executor not in {None, "inline"} else ("[", "]")
        lines.append(f'    n{index}{opening}"{label}"{closing}')
    lines += [f"    n{start} --> n{end}" for start, end in graph.edges]
    return "\n".join(lines)


def configure_logging(log_format: str, level: str) -> None:
    """Send the library's and the workers' records to stderr, rendered by structlog."""
    import structlog

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    if log_format == "json":
        renderers: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        renderers = [structlog.dev.ConsoleRenderer(colors=_colours_wanted())]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _colours_wanted() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stderr.isatty()
