"""A node's part in tracing: what stands around its `process`, in a pool that traces, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from time import perf_counter_ns
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from remotemedia.core.node import Node
from remotemedia.workers.board import Board
from remotemedia.workers.traces import BEGAN, CALLS, ENDED, FAILED, GENERATION, NUMBER, PID, TraceTable


class TracedNode:
    """Notes in the table when a node works on frames that are traced, and shows it their context."""

    def __init__(self, node: Node, table: TraceTable, worker_id: int, generation: int = 0) -> None:
        self._node, self._table, self._worker_id = node, table, worker_id
        self._generation, self._pid = generation, os.getpid()
        self._entry: memoryview | None = None
        """Of the frame that the node works on, if that is traced."""

    def process_of(self, taken: Callable[[], int]) -> Callable[[Any], Any]:
        """The node's `process`, watched. `taken()`: number of the frame that it is called for."""
        process, words, rows, width = self._node.process, self._table.words, self._table.rows, self._table.width
        watched = self._watched

        def traced(value: Any) -> Any:
            number = taken()
            if words[number % rows * width] != number + 1:
                return process(value)
            return watched(process, number, value)

        return traced

    def board_of(self, board: Board) -> Board:
        """The board of a stage whose node iterates over its inputs itself: there, it says what the node works on."""
        return _TracedBoard(board, self)

    def begin(self, number: int) -> None:
        """The node starts on a frame; several with one number, which a generator before it has made, are one run."""
        context = self._table.traceparent(number)
        if context is None:
            return
        self._node.traceparent = context
        entry = self._entry = self._table.entry(number, self._worker_id)
        if entry[NUMBER] != number + 1 or entry[GENERATION] != self._generation:
            entry[NUMBER] = 0  # so that whoever looks after a death here does not read half of it
            entry[GENERATION], entry[PID] = self._generation, self._pid
            entry[CALLS] = entry[FAILED] = 0
            entry[BEGAN] = perf_counter_ns()
        entry[ENDED] = 0
        entry[CALLS] += 1
        entry[NUMBER] = number + 1

    def end(self, *, failed: bool = False) -> None:
        """It is done with that frame."""
        entry, self._entry = self._entry, None
        if entry is not None:
            if failed:
                entry[FAILED] = 1
            entry[ENDED] = perf_counter_ns()
            self._node.traceparent = None

    # -- what process() gives ------------------------------------------------------------------------------------------

    def _watched(self, process: Callable[[Any], Any], number: int, value: Any) -> Any:
        self.begin(number)
        try:
            result = process(value)
        except BaseException:
            self.end(failed=True)
            raise
        return self._ended(result)

    def _ended(self, result: Any) -> Any:
        """What `process` has returned; if its work is still to be done, with the end noted when it is."""
        kind = result.__class__
        if kind is CoroutineType:
            return self._awaited(result)
        if kind is GeneratorType:
            return self._generated(result)
        if kind is AsyncGeneratorType:
            return self._generated_async(result)
        self.end()
        return result

    async def _awaited(self, result: Coroutine[Any, Any, Any]) -> Any:
        try:
            value = await result
        except BaseException:
            self.end(failed=True)
            raise
        return self._ended(value)

    # Neither of these holds an output that it has yielded: else that would be copied (see ShmSender.pack).

    def _generated(self, result: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        failed = True
        try:
            yield from result
            failed = False
        finally:
            self.end(failed=failed)

    async def _generated_async(self, result: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
        failed = True
        try:
            while True:
                yield await anext(result)
        except StopAsyncIteration:
            failed = False
        finally:
            await result.aclose()
            self.end(failed=failed)


class _TracedBoard(Board):
    """Says what is said on the board to the trace as well."""

    __slots__ = ("_traced",)

    def __init__(self, board: Board, traced: TracedNode) -> None:
        self.words, self.stats, self._traced = board.words, board.stats, traced

    def begin(self, number: int) -> None:
        super().begin(number)
        self._traced.begin(number)

    def end(self) -> None:
        self._traced.end()
        super().end()
