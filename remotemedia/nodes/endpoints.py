"""Where data enters and leaves a pipeline: sources and sinks for any kind of data."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from remotemedia.core.node import Node


class IterableSource(Node):
    """A source: gives the `items` one after the other (None items are left out: None means no output).

    Raises TypeError for what cannot be iterated over.

    >>> run_pipeline([IterableSource([1, 2])])
    [1, 2]
    """

    def __init__(self, items: Iterable[Any], *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, items=items, **options)
        if not isinstance(items, Iterable):
            raise TypeError(f"IterableSource(items=...) takes an iterable, not {type(items).__name__}")
        self.items = items

    def process(self) -> Iterator[Any]:  # type: ignore[override]  # a source takes no input
        yield from self.items


class CollectSink(Node):
    """Keeps what comes in `items` and gives that list at the end of the stream, as its only output.

    `items` stays readable after the run (in the process the node ran in); the next stream starts a new list.

    >>> run_pipeline([CollectSink()], [1, 2])
    [[1, 2]]
    """

    def __init__(self, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.items: list[Any] = []
        self._ended = False

    def process(self, data: Any) -> None:
        if self._ended:
            self.items, self._ended = [], False
        self.items.append(data)

    def flush(self) -> list[Any]:
        if self._ended:  # a stream without any input
            self.items = []
        self._ended = True
        return list(self.items)


class PrintSink(Node):
    """Prints each input on a line, through `template` (str.format with the input as its only argument).

    >>> run_pipeline([PrintSink("got {}")], [1])
    got 1
    []
    """

    def __init__(self, template: str = "{}", *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, template=template, **options)
        self.template = template

    def process(self, data: Any) -> None:
        stream: TextIO = sys.stdout  # looked up per call: the program may have redirected it
        stream.write(self.template.format(data) + "\n")
        stream.flush()
