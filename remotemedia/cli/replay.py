"""`remotemedia replay`: the frames of a recording into a pipeline, or onto the screen."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Any

from remotemedia.cli import output
from remotemedia.cli.execution import Printed, add_execution_arguments, file_sink, run_graph
from remotemedia.cli.loading import add_pipeline_arguments, load_graph
from remotemedia.core.exceptions import ConfigurationError

HELP = "feed the frames of a recording to a pipeline, or list them"
DESCRIPTION = (
    "Feed the frames of a recording to a pipeline, as fast as it takes them or in their original rhythm. Without a "
    "pipeline, list them: when each was recorded, what it is."
)
EPILOG = """\
examples:
  remotemedia replay camera.rmf                             what is in it
  remotemedia replay camera.rmf pipeline.json --speed 1     as it was recorded
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the recording to read")
    add_pipeline_arguments(parser, optional=True)
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N frames")
    parser.add_argument(
        "--speed", type=float, metavar="X", help="in the rhythm of the recording, X times as fast (default: no waiting)"
    )
    parser.add_argument("--output", metavar="FILE", help="write the outputs there, as `run --output` does")
    add_execution_arguments(parser)
    parser.add_argument("--json", action="store_true", help="list the frames as JSON lines")


def run(arguments: argparse.Namespace) -> int:
    from remotemedia.recording import Recording

    if arguments.speed is not None and not arguments.speed > 0:
        raise ConfigurationError(f"--speed {arguments.speed}: expected a number greater than 0")
    try:
        recording = Recording(arguments.file)
    except OSError as error:
        raise ConfigurationError(f"cannot read {arguments.file}: {error.strerror}") from None
    frames = islice(recording, arguments.frames)
    if arguments.pipeline is None:
        output.configure_logging(arguments.log_format, arguments.log_level)
        for number, (at_s, value) in enumerate(frames):
            _list(number, at_s, value, as_json=arguments.json)
        return output.OK
    graph = load_graph(arguments)
    sink = file_sink(arguments.output) if arguments.output else Printed()
    if arguments.speed is None:
        run_graph(graph, (value for _, value in frames), sink, arguments)
    else:
        run_graph(graph, _paced(frames, arguments.speed), sink, arguments)
    return output.OK


async def _paced(frames: Iterable[tuple[float, Any]], speed: float) -> AsyncIterator[Any]:
    """Each frame when its time has come, counted from the first one."""
    loop = asyncio.get_running_loop()
    began: float | None = None
    first_s = 0.0
    for at_s, value in frames:
        if began is None:
            began, first_s = loop.time(), at_s
        await asyncio.sleep(max(0.0, began + (at_s - first_s) / speed - loop.time()))
        yield value


def _list(number: int, at_s: float, value: Any, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"number": number, "at_s": at_s, "type": type(value).__name__, "value": value})
    else:
        output.say(f"{number:>6}  {at_s:>9.3f} s  {output.short_text(value)}")
