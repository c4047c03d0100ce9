"""How a node's `process` wants to be called. Shared by the executors, so that a node behaves alike in all of them."""

from __future__ import annotations

import enum
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Self

from remotemedia.core.node import Node


class CallStyle(enum.Enum):
    """What calling `process` gives, as far as its definition tells."""

    PLAIN = "plain"  # a value, or whatever the function decides to return
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"
    STREAMING = "streaming"  # takes an async iterator over all inputs


def call_style(node: Node) -> CallStyle:
    """The call style of `node.process`."""
    if node.is_streaming:
        return CallStyle.STREAMING
    if inspect.isasyncgenfunction(node.process):
        return CallStyle.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(node.process):
        return CallStyle.COROUTINE
    if inspect.isgeneratorfunction(node.process):
        return CallStyle.GENERATOR
    return CallStyle.PLAIN


def needs_event_loop(node: Node) -> bool:
    """Whether the node has coroutines or async generators, so that it must run inside asyncio."""
    if call_style(node) not in (CallStyle.PLAIN, CallStyle.GENERATOR):
        return True
    methods = (
        node.initialize, node.cleanup, node.flush, node.on_control, node.snapshot_state, node.restore_state
    )  # fmt: skip
    return any(inspect.iscoroutinefunction(m) or inspect.isasyncgenfunction(m) for m in methods)


def has_snapshots(node: Node) -> bool:
    """Whether the node can give its state, for a successor to go on from."""
    return type(node).snapshot_state is not Node.snapshot_state


def takes_input(node: Node) -> bool:
    """False for a source: its `process` can be called with no argument at all."""
    try:
        parameters = inspect.signature(node.process).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in positional or p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)


# A result of one of these types is not the output but yields it.
SPECIAL_RESULTS = frozenset({GeneratorType, CoroutineType, AsyncGeneratorType})


class outputs_of:  # noqa: N801 - used like a function: `async for output in outputs_of(node.process(data))`
    """The outputs in whatever `process` or `flush` returned: a value, None, or something that yields them.

    A class and not an async generator, because that would keep a reference to the output it has just yielded: the one
    who takes it can then tell whether the node still holds it.
    """

    __slots__ = ("_next_sync", "_result", "_source")

    def __init__(self, result: Any) -> None:
        self._result = result
        self._source: AsyncIterator[Any] | None = None
        self._next_sync: Callable[[], Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        result, self._result = self._result, None
        if result is not None:
            if type(result) is CoroutineType or inspect.isawaitable(result):
                result = await result
            if isinstance(result, AsyncIterator):
                self._source = result
            elif type(result) is GeneratorType:
                self._next_sync = result.__next__
            elif result is not None:
                return result
        try:
            if self._next_sync is not None:
                while (output := self._next_sync()) is None:
                    pass
                return output
        except StopIteration:
            raise StopAsyncIteration from None
        if self._source is not None:
            while (output := await self._source.__anext__()) is None:
                pass
            return output
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the node's generator now, not when the garbage collector finds it."""
        if self._next_sync is not None:
            self._next_sync.__self__.close()  # type: ignore[attr-defined]  # the __next__ of a generator
        elif isinstance(self._source, AsyncGeneratorType):
            await self._source.aclose()
        elif self._result is not None and type(self._result) is CoroutineType:
            self._result.close()


async def maybe_await(result: Any) -> Any:
    """`result`, awaited if it is awaitable."""
    return await result if inspect.isawaitable(result) else result


def as_list(outputs: Iterable[Any]) -> Any:
    """None for no output, the output for one, a list for several: what one input gives to a caller."""
    found = list(outputs)
    if not found:
        return None
    return found[0] if len(found) == 1 else found
