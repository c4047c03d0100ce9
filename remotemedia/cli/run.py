"""`remotemedia run`: a pipeline from its start to its end."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext

from remotemedia.cli import output
from remotemedia.cli.execution import Collected, Printed, Sink, add_execution_arguments, file_sink, run_graph
from remotemedia.cli.loading import add_input_argument, add_pipeline_arguments, load_graph, load_input

HELP = "run a pipeline: a manifest, or module:pipeline"
DESCRIPTION = (
    "Run a pipeline from its start to its end, and print each output on a line of its own: text as it is, the rest as "
    "JSON, arrays by shape and type."
)
EPILOG = """\
examples:
  remotemedia run pipeline.json --input '[1, 2, 3]'
  remotemedia run pipeline.json --set decode.path=clip.mp4 --executor multiprocess --restarts 3
  remotemedia run my_module:pipeline --input @frames.rmf --output levels.jsonl
  echo '"hello"' | remotemedia run app.py:pipeline --input @-
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_pipeline_arguments(parser)
    add_input_argument(parser)
    parser.add_argument(
        "--output", metavar="FILE",
        help="write the outputs there: a list for .json, lines for .jsonl, else a recording with the arrays in it",
    )  # fmt: skip
    add_execution_arguments(parser)
    parser.add_argument("--metrics", action="store_true", help="print calls, latency and copies of each node")
    parser.add_argument(
        "--metrics-port", type=int, metavar="PORT",
        help="serve /metrics for Prometheus and /healthz on this port of this machine while it runs (with --executor "
        "multiprocess)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print outputs (and metrics) as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    graph, source = load_graph(arguments), load_input(arguments.input)
    collected = Collected()
    sink: Sink = Printed()
    if arguments.output:
        sink = file_sink(arguments.output)
    elif arguments.json:
        sink = collected
    with _served(arguments.metrics_port):
        metrics = run_graph(graph, source, sink, arguments)
    if arguments.json:
        document = {} if arguments.output else {"outputs": _outputs(collected.values, one=source is None)}
        output.print_json({**document, "metrics": metrics} if arguments.metrics else document)
    elif arguments.metrics:
        output.complain(output.metrics_table(metrics["node_metrics"]))
    return output.OK


def _served(port: int | None) -> AbstractContextManager[object]:
    if port is None:
        return nullcontext()
    try:
        from remotemedia.metrics import MetricsServer

        return MetricsServer(port)
    except ImportError as error:
        raise ImportError("--metrics-port needs prometheus_client: pip install 'remotemedia[metrics]'") from error


def _outputs(values: list[object], *, one: bool) -> object:
    """As execute_pipeline gives them: without an input, the output itself if there is one."""
    if not one:
        return values
    return (values or [None])[0] if len(values) < 2 else values  # noqa: PLR2004 - no output, one output
