"""Nodes that the tests share. In a module of their own, so that a worker process can import them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from remotemedia.core.node import Node


class Add(Node):
    """input + amount."""

    def __init__(self, amount: Any = 1, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, amount=amount, **options)
        self.amount = amount

    def process(self, data: Any) -> Any:
        return data + self.amount


class AsyncAdd(Add):
    """The same as a coroutine that really waits."""

    async def process(self, data: Any) -> Any:
        await asyncio.sleep(0)
        return data + self.amount


class Keep(Node):
    """Drops what is not divisible by `divisor`."""

    def __init__(self, divisor: int, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, divisor=divisor, **options)
        self.divisor = divisor

    def process(self, data: int) -> int | None:
        return data if data % self.divisor == 0 else None


class Repeat(Node):
    """Each input `times` times, as a generator of (input, index)."""

    def __init__(self, times: int, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, times=times, **options)
        self.times = times

    def process(self, data: Any) -> Iterator[Any]:
        for index in range(self.times):
            yield (data, index)


class AsyncRepeat(Repeat):
    """The same as an async generator."""

    async def process(self, data: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        for index in range(self.times):
            await asyncio.sleep(0)
            yield (data, index)


class Tag(Node):
    """(name of the node, input): shows which way a value went."""

    def process(self, data: Any) -> Any:
        return (self.name, data)


class Hold(Node):
    """Nothing until the end of the stream, then everything at once, as one list."""

    def __init__(self, name: str | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.held: list[Any] = []

    def process(self, data: Any) -> None:
        self.held.append(data)

    def flush(self) -> list[Any]:
        held, self.held = self.held, []
        return held


class Count(Node):
    """A source of 0 .. n-1."""

    def __init__(self, n: int, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, n=n, **options)
        self.n = n

    def process(self) -> Iterator[int]:  # type: ignore[override]
        yield from range(self.n)


class AsyncCount(Count):
    """The same as an async generator."""

    async def process(self) -> AsyncIterator[int]:  # type: ignore[override]
        for i in range(self.n):
            await asyncio.sleep(0)
            yield i


class RunningPairs(Node):
    """Streaming: ("pair", a, b) for each two inputs, ("rest", a) for one that is left over at the end."""

    is_streaming = True

    async def process(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        pending: list[Any] = []
        async for value in inputs:
            pending.append(value)
            if len(pending) == 2:
                yield ("pair", *pending)
                pending.clear()
        if pending:
            yield ("rest", *pending)


class TakeFirst(Node):
    """Streaming: gives the first `n` inputs and then leaves."""

    is_streaming = True

    def __init__(self, n: int, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, n=n, **options)
        self.n = n

    async def process(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        taken = 0
        async for value in inputs:
            yield value
            taken += 1
            if taken == self.n:
                return


class Journal(Node):
    """Writes what happens to it into a list that all journals of a test share; can fail in any of its methods."""

    def __init__(
        self, name: str, journal: list[str], *, fails_in: str = "", error: BaseException | None = None
    ) -> None:
        super().__init__(name)
        self.journal, self.fails_in, self.error = journal, fails_in, error or ValueError("broken on purpose")

    def _note(self, method: str) -> None:
        self.journal.append(f"{method} {self.name}")
        if method == self.fails_in:
            raise self.error

    def initialize(self) -> None:
        self._note("initialize")

    def process(self, data: Any) -> Any:
        self._note("process")
        return data

    def flush(self) -> None:
        self._note("flush")

    def cleanup(self) -> None:
        self._note("cleanup")


class FailAt(Node):
    """Raises `error` when it meets `value`."""

    def __init__(self, value: Any, error: BaseException, *, name: str | None = None) -> None:
        super().__init__(name)
        self.value, self.error = value, error

    def process(self, data: Any) -> Any:
        if data == self.value:
            raise self.error
        return data
