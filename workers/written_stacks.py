"""The Python stacks that faulthandler writes to a worker's stderr, told from what the worker writes there by itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Literal

_TAIL_LINES = 20
_QUIET_S = 0.3
"""Stacks to which so long nothing was added are complete."""
_FATAL = "Fatal Python error: "
_THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]+)")
_STACK_LINE = re.compile(
    rf"{_FATAL}|(?:Current thread|Thread) 0x[0-9a-f]+|Current thread's C stack|Extension modules: "
    r"|  (?:File |Binary file |\.\.\.|<)"
)


class StackLines:
    """Tells the lines of stacks that faulthandler wrote from the process's own, given one after the other."""

    def __init__(self) -> None:
        self._threads: set[str] = set()
        self._inside = False

    def kind(self, line: str) -> Literal["own", "first", "more"]:
        """`first`, `more`: of the stacks of one moment. These end where a thread comes for the second time."""
        if not _STACK_LINE.match(line) and not (self._inside and not line):
            self._inside = False
            return "own"
        thread = _THREAD.match(line)
        begins = line.startswith(_FATAL) or (thread is not None and (not self._inside or thread[1] in self._threads))
        if not self._inside and not begins:
            return "own"  # it only looks like a line from the middle
        if begins:
            self._threads.clear()
        if thread is not None:
            self._threads.add(thread[1])
        self._inside = True
        return "first" if begins else "more"


def split_stacks(stderr: str) -> tuple[str, str]:
    """What a worker wrote to stderr: (its own last lines, the Python stacks that faulthandler wrote last).

    Stacks may have been written before, when the worker was slow and went on: those are left out.
    """
    own: list[str] = []
    stacks: list[str] = []
    lines = StackLines()
    for line in stderr.splitlines():
        match lines.kind(line):
            case "own":
                own.append(line)
            case "first":
                stacks = [line]
            case "more":
                stacks.append(line)
    return "\n".join(own[-_TAIL_LINES:]), "\n".join(stacks).rstrip()


class AskedStacks:
    """The stacks that a worker writes to stderr because it was asked to: kept apart from what it writes by itself.

    What a node, or a process that it has started, dumps of its own accord is its own output.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        """`on_end()`: the stacks have been written, and somebody wants to hear of it."""
        self._loop, self._on_end = loop, on_end
        self._lines = StackLines()
        self._asked = self._wanted = self._taking = False
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, *, tell: bool) -> None:
        """The next stacks were asked for, whenever they come. `tell`: `on_end` is to be called."""
        self.stop()
        self._asked, self._wanted = True, self._wanted or tell

    def take(self, line: str) -> bool:
        """Whether a line of stderr belongs to stacks that were asked for."""
        kind = self._lines.kind(line)
        if kind != "more":
            self._taking = kind == "first" and self._asked and not line.startswith(_FATAL)
        if self._taking:
            self.stop()
            self._timer = self._loop.call_later(_QUIET_S, self._end)
        return self._taking

    def finish(self) -> None:
        """The process has ended: stacks that have come are complete. Idempotent."""
        if self._timer is not None:
            self.stop()
            self._end()

    def stop(self) -> None:
        """Nothing is told any more of what has come. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        wanted, self._timer = self._wanted, None
        self._asked = self._wanted = False
        if wanted:
            self._on_end()
