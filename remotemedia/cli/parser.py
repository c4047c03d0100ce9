"""The arguments of the command line: one module per command, and help that one wants to read."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from remotemedia.cli import (
    clean,
    completion,
    doctor,
    metrics,
    nodes,
    output,
    record,
    replay,
    run,
    top,
    validate,
    version,
)

EXIT_CODES = """\
exit codes:
  0    done
  1    the pipeline failed
  2    usage: arguments, manifest or input
  3    environment: shared memory, limits, a library that is missing
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)
"""
_GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "run pipelines": (run, validate, record, replay),
    "look after them": (top, metrics, doctor, clean),
    "about": (nodes, version, completion),
}
_WIDTH = 80
_EXAMPLES = """\
examples:
  remotemedia nodes                                        what a manifest can be made of
  remotemedia validate pipeline.json --graph mermaid       check it, and draw it
  remotemedia run pipeline.json --input '[1, 2, 3]'        run it here
  remotemedia run my_module:pipeline --executor multiprocess
  remotemedia top                                          see the running pools at work
"""
_ENVIRONMENT = """\
environment:
  NO_COLOR, FORCE_COLOR       never, or always, use colours
  REMOTEMEDIA_RUNTIME_DIR     where pools keep their sockets
"""


def commands() -> dict[str, ModuleType]:
    """The module of each command, by the command's name."""
    return {_name(module): module for modules in _GROUPS.values() for module in modules}


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line that says what to type instead."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        given = re.search(r"invalid choice: '(.*?)'", message)
        if given and "COMMAND" in message:
            near = difflib.get_close_matches(given[1], commands(), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(commands())}"
            message = f"there is no command {given[1]!r}; {hint}"
        elif "required: COMMAND" in message:
            message = f"which command? There are {', '.join(commands())}"
        unknown = re.fullmatch(r"unrecognized arguments: (.*)", message)
        if unknown:
            options = [text for action in self.all_actions() for text in action.option_strings]
            near = difflib.get_close_matches(unknown[1].split()[0].partition("=")[0], options, n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        output.complain(f"error: {message}\n  Try: {self._program()} --help")
        sys.exit(output.USAGE)

    def _program(self) -> str:
        return self.prog

    def all_actions(self) -> list[argparse.Action]:
        """The options of this parser and of its commands."""
        found = list(self._actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    found += sub._actions
        return found


class _RootParser(Parser):
    _command: str | None = None

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        self._command = next((word for word in given if word in commands()), None)
        return super().parse_args(given, namespace)

    def _program(self) -> str:
        return " ".join(filter(None, [self.prog, self._command]))

    def format_help(self) -> str:
        lines = [f"usage: {self.prog} COMMAND [arguments]", "", self.description or "", ""]
        for group, modules in _GROUPS.items():
            lines.append(f"{group}:")
            lines += [f"  {_name(module):<12} {module.HELP}" for module in modules]
            lines.append("")
        lines += [f"Each command explains itself: {self.prog} COMMAND --help", "", _EXAMPLES, EXIT_CODES, _ENVIRONMENT]
        return "\n".join(lines)


def build_parser() -> Parser:
    """The parser of the whole command line. The namespace that it gives has `command`, a function of it."""
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and debug logs")
    parser = _RootParser(prog="remotemedia", description="Run media pipelines over worker processes.")
    parser.add_argument("--version", action="store_true", help="print the version")
    subs = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for name, module in commands().items():
        epilog = "\n".join(filter(None, [getattr(module, "EPILOG", ""), EXIT_CODES]))
        text = textwrap.fill(module.DESCRIPTION, _WIDTH)
        sub = subs.add_parser(name, help=module.HELP, description=text, parents=[common], epilog=epilog)
        module.configure(sub)
        act: Callable[[argparse.Namespace], int] = module.run
        sub.set_defaults(command=act)
    return parser
