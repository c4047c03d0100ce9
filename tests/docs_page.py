"""One page of the documentation, done as a reader would do it: its blocks in order, in one process and one folder.

    python tests/docs_page.py docs/quickstart.md

* A block with a caption is a file: it is written under that name.
* A `python` block is run, all of a page in one namespace. `await` may stand at the top level, as in a notebook.
* An `output` block is what the block before it prints; `...` stands for any text.
* The `$ remotemedia ...` lines of a `console` block must be accepted by the command line; where the block shows what
  they print, they are run and compared.
* A `python` block whose first line is `# Not run by the tests: <reason>` is only compiled.

Prints what is wrong, with page and line; exit code 1 then.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import os
import re
import shlex
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path

NOT_RUN = "# Not run by the tests: "
_FENCE = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"\{code-block\} (\w+)$")
_CAPTION = re.compile(r":caption: (\S+)\n+")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line`: of the page, on which its text begins. `file`: its caption, "" without one."""

    kind: str
    text: str
    line: int
    file: str = ""

    @property
    def is_run(self) -> bool:
        return self.kind == "python" and not self.file and not self.text.startswith(NOT_RUN)

    def commands(self) -> list[tuple[str, str]]:
        """Of a console block: each command, and what the page shows that it prints."""
        found: list[tuple[str, str]] = []
        for line in self.text.replace("\\\n", "").splitlines(keepends=True):
            if line.startswith("$ "):
                found.append((line[2:].strip(), ""))
            elif found:
                found[-1] = (found[-1][0], found[-1][1] + line)
        return found


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page's text."""
    found = []
    for fence in _FENCE.finditer(page):
        kind, text, line = fence["info"].strip(), fence["text"], page.count("\n", 0, fence.start()) + 2
        directive = _DIRECTIVE.match(kind)
        caption = _CAPTION.match(text) if directive else None
        if caption:
            text, line = text[caption.end() :], line + caption[0].count("\n")
        found.append(Block(directive[1] if directive else kind, text, line, caption[1] if caption else ""))
    return found


def arguments_of(command: str) -> list[str] | None:
    """The arguments in a shell line that calls this command line, without redirections; None for another program."""
    call = re.match(r"(?:[A-Z_]+=\S* )*(?:remotemedia|python3? -m remotemedia)(?= |$)", command)
    return shlex.split(re.split(r" [|>&]", command[call.end() :])[0], comments=True) if call else None


class Reader:
    """Goes through the blocks of one page."""

    def __init__(self, name: str, runner: asyncio.Runner) -> None:
        self._name, self._runner = name, runner
        self._main = types.ModuleType("__main__")
        sys.modules["__main__"] = self._main  # classes of a page travel as those of a script do
        self.problems: list[str] = []

    def read(self, page: list[Block]) -> None:
        for block, following in zip(page, [*page[1:], Block("", "", 0)], strict=True):
            expected = following.text if following.kind == "output" else None
            if block.file:
                Path(block.file).write_text(block.text)
            elif block.is_run:
                self._compare(block, expected, self._printed_by(block))
            elif block.kind == "python":
                ast.parse(block.text)
            elif block.kind == "console":
                for command, shown in block.commands():
                    self._type(block, command, shown)
            if self.problems:
                return  # what follows builds on it

    def _printed_by(self, block: Block) -> str:
        # A file, so that tracebacks show the lines, in workers as well; at the lines that they have in the page.
        file, source = Path(f"{self._name}-{block.line}.py").absolute(), "\n" * (block.line - 1) + block.text
        file.write_text(source)
        code = compile(source, str(file), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                if code.co_flags & inspect.CO_COROUTINE:
                    self._runner.run(eval(code, self._main.__dict__))
                else:
                    exec(code, self._main.__dict__)
            except BaseException:
                self.problems.append(f"{self._name}, line {block.line}: the block raised\n{traceback.format_exc()}")
        return printed.getvalue()

    def _compare(self, block: Block, expected: str | None, printed: str) -> None:
        if self.problems or expected is None:
            return
        checker = doctest.OutputChecker()
        if not checker.check_output(expected, printed, doctest.ELLIPSIS):
            self.problems.append(
                f"{self._name}, line {block.line}: the block prints\n{printed}\nthe page shows\n{expected}"
            )

    def _type(self, block: Block, command: str, shown: str) -> None:
        from remotemedia.cli import main
        from remotemedia.cli.parser import build_parser

        arguments = arguments_of(command)
        if arguments is None:
            return
        if not shown:
            try:
                build_parser().parse_args(arguments)
            except SystemExit as stop:
                if stop.code:
                    self.problems.append(f"{self._name}, line {block.line}: the command line refuses `{command}`")
            return
        # A command prints its results to stdout and its findings to stderr: the reader sees both.
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
            main(arguments)
        self._compare(block, shown, printed.getvalue())


def read(path: Path) -> list[str]:
    """Do what the page says, in the present folder; returns what is wrong."""
    from remotemedia import keep_fork_server

    with keep_fork_server(), asyncio.Runner() as runner:
        reader = Reader(path.name, runner)
        reader.read(blocks(path.read_text()))
    return reader.problems


if __name__ == "__main__":
    found = read(Path(sys.argv[1]).absolute())
    sys.stderr.write("\n".join(found))
    sys.stderr.flush()
    os._exit(1) if found else sys.exit(0)  # a failed block may have left a pool behind: its workers end with us
