"""The command line: `remotemedia COMMAND`, or `python -m remotemedia COMMAND`. One module per command."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from remotemedia.cli import output


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with `argv` (default: the program's arguments) and return the exit code."""
    from remotemedia.cli.parser import build_parser

    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.version:
            arguments = parser.parse_args(["version"])
        if not hasattr(arguments, "command"):
            parser.error("the following arguments are required: COMMAND")
    except SystemExit as stop:  # the help or the error has been printed
        return stop.code if isinstance(stop.code, int) else output.USAGE
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        output.complain("interrupted")
        return output.INTERRUPTED
    except output.Terminated:
        output.complain("terminated")
        return output.TERMINATED
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.PIPELINE_ERROR
    except Exception as error:  # noqa: BLE001 - the end of the line: told to the user in one line
        if arguments.debug:
            traceback.print_exception(error)
        output.complain(output.error_text(error))
        return output.exit_code(error)
