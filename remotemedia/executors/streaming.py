"""Driving an `is_streaming` node one input at a time, while it iterates over its inputs at its own will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from remotemedia.core.calling import outputs_of
from remotemedia.core.node import Node

_ASKS, _DONE, _END = object(), object(), object()


class _Output:
    """A value the node yielded (in a box: the value may be anything, even one of the marks)."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Raised:
    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class StreamingDriver:
    """Runs `node.process(inputs)` as a task that is one input ahead of nobody.

    `feed(value)` gives what the node yields until it asks for the next input, so its outputs stay beside the input that
    caused them and nothing piles up: one input and one output wait at most. What it yields later without having asked
    (after a time-out of its own, say) comes with the next input. The node may ask from any task, and may cancel asking.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._task: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Any] = asyncio.Queue(1)
        self._events: asyncio.Queue[Any] = asyncio.Queue(1)
        self._asked = False  # the node's side: it has said that it wants an input
        self._asks = False  # our side: we have heard it
        self._ended = False
        self._finished = False

    async def feed(self, value: Any) -> AsyncGenerator[Any, None]:
        """Hand over one input; what the node yields before it asks for the next."""
        async for output in self._until_it_asks():
            yield output
        if self._finished:
            return  # it has left its loop: the remaining inputs are of no interest to it
        self._asks = False
        self._inbox.put_nowait(value)
        async for output in self._until_it_asks():
            yield output

    async def end(self) -> AsyncGenerator[Any, None]:
        """The inputs have ended; what the node still yields."""
        async for output in self.feed(_END):
            yield output

    async def aclose(self) -> None:
        """Cancel the node's iteration and wait until it is over. Raises what the node raises on that."""
        task, self._task = self._task, None
        if task is None or task.done():
            return
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _until_it_asks(self) -> AsyncGenerator[Any, None]:
        if self._task is None:
            self._task = asyncio.create_task(self._drive(), name=f"remotemedia streaming {self._node.name}")
        while not (self._asks or self._finished):
            event = await self._events.get()
            if event is _ASKS:
                self._asks = True
            elif event is _DONE:
                self._finished = True
            elif isinstance(event, _Raised):
                self._finished = True
                raise event.error
            else:
                yield event.value

    async def _drive(self) -> None:
        last: Any = _DONE
        try:
            process: Any = self._node.process
            async with aclosing(outputs_of(process(self))) as outputs:
                async for output in outputs:
                    await self._events.put(_Output(output))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code; raised again where the outputs are taken
            last = _Raised(error)
        await self._events.put(last)

    # -- the node's side: an async iterator over its inputs ----------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if not self._asked:
            await self._events.put(_ASKS)
            self._asked = True
        value = await self._inbox.get()
        self._asked = False
        if value is _END:
            self._ended = True
            raise StopAsyncIteration
        return value
