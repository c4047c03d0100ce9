"""`remotemedia record`: the outputs of a pipeline into a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from remotemedia.cli import output
from remotemedia.cli.execution import add_execution_arguments, file_sink, run_graph
from remotemedia.cli.loading import add_input_argument, add_pipeline_arguments, load_graph, load_input
from remotemedia.core.exceptions import ConfigurationError

HELP = "write the frames that a pipeline gives to a file"
DESCRIPTION = (
    "Run a pipeline and write each output, arrays, typed frames and their time stamps, to a recording, which "
    "`remotemedia replay` and `--input @FILE` read. What was recorded until a crash or Ctrl-C can be read."
)
EPILOG = """\
examples:
  remotemedia record camera.rmf camera.json --frames 100
  remotemedia record levels.rmf my_module:pipeline --input @camera.rmf
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the recording to write")
    add_pipeline_arguments(parser)
    add_input_argument(parser)
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--force", action="store_true", help="write over a file that exists")
    add_execution_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(arguments: argparse.Namespace) -> int:
    from remotemedia.recording import Recording

    path = Path(arguments.file)
    if path.exists() and not arguments.force:
        raise ConfigurationError(f"{path} exists; --force writes over it")
    if arguments.frames is not None and arguments.frames < 1:
        raise ConfigurationError(f"--frames {arguments.frames}: expected at least 1")
    graph, source = load_graph(arguments), load_input(arguments.input)
    sink = file_sink(arguments.file, recording=True)
    run_graph(graph, source, sink, arguments, most=arguments.frames)
    frames, size = sum(1 for _ in Recording(path)), path.stat().st_size
    if arguments.json:
        output.print_json({"file": str(path), "frames": frames, "bytes": size})
    else:
        output.say(f"{path}: {frames} frames, {output.size_text(size)}")
    return output.OK
