"""What the command line prints: results, metrics, graphs and errors, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from remotemedia.core.exceptions import (
    ConfigurationError,
    NodeInitializeError,
    NodeNotLoadable,
    SharedMemoryExhausted,
    WorkerStartError,
)
from remotemedia.core.graph import Graph

OK, PIPELINE_ERROR, USAGE, ENVIRONMENT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


class Terminated(Exception):  # noqa: N818 - not an error
    """SIGTERM arrived and the pipeline has been stopped."""


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


def print_output(value: Any) -> None:
    """One output on one line: text as it is, arrays by shape, the rest as JSON where that is possible."""
    if dataclasses.is_dataclass(value) and type(value).__str__ is not object.__str__:
        say(str(value))
    else:
        say(value if isinstance(value, str) else json_text(value))


def print_json(document: Any) -> None:
    """One line of JSON."""
    say(json_text(document))


def json_text(value: Any) -> str:
    """The value as JSON, what JSON does not know as `jsonable` says."""
    return json.dumps(value, default=jsonable)


def short_text(value: Any, width: int = 100) -> str:
    """What a value is, in one line: type, shape and time stamp of frames and arrays, the rest as JSON."""
    array = getattr(value, "array", value)
    if hasattr(array, "__array_interface__"):
        text = f"{type(value).__name__} {'x'.join(map(str, array.shape)) or 'scalar'} {array.dtype}"
        time_s = getattr(value, "time_s", None)
        return text if time_s is None else f"{text}  pts {value.pts} ({time_s:.3f} s)"
    text = json_text(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


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


def dot(graph: Graph) -> str:
    """The graph for Graphviz; nodes that run in a worker process have double borders."""
    lines = ["digraph pipeline {", "    rankdir=LR;", "    node [shape=box];"]
    for index, (node_id, node) in enumerate(zip(graph.ids, graph.nodes, strict=True)):
        kind = type(node).__name__
        label = (node_id if kind == node_id else f"{node_id}\n{kind}").replace("\\", "\\\\").replace('"', '\\"')
        label = label.replace("\n", "\\n")
        borders = ", peripheries=2" if node.executor not in {None, "inline"} else ""
        lines.append(f'    n{index} [label="{label}"{borders}];')
    lines += [f"    n{start} -> n{end};" for start, end in graph.edges]
    return "\n".join([*lines, "}"])


def size_text(nbytes: float) -> str:
    """Bytes for people: 640 B, 12.3 KB, 1.5 GB."""
    for unit in ("B", "KB", "MB", "GB"):
        if nbytes < 1000 or unit == "GB":  # noqa: PLR2004 - a unit is a thousand of the one before
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    raise AssertionError


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
        renderers = [structlog.dev.ConsoleRenderer(colors=colours_wanted())]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def colours_wanted(stream: TextIO | None = None) -> bool:
    """By NO_COLOR, FORCE_COLOR, and whether the stream (default: stderr) is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream or sys.stderr).isatty()
