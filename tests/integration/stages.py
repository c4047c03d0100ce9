"""Nodes of every behaviour. In a module of their own, so that a worker can import them quickly.

In random pipelines values are whole numbers below 2**31; each node mixes its own number into them, so that a value
tells its way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np

from remotemedia.core.node import Node


def mix(value: int, salt: int) -> int:
    """Another number, different for different ways."""
    return (value * 1_000_003 + salt * 7919 + 1) % (1 << 31)


class Mixer(Node):
    """One output for one input."""

    def __init__(self, salt: int, *, executor: str | None = None) -> None:
        super().__init__(f"n{salt}", executor=executor)
        self.salt = salt

    def process(self, value: int) -> Any:
        return mix(value, self.salt)


class AsyncMixer(Mixer):
    """The same as a coroutine that really waits."""

    async def process(self, value: int) -> Any:
        await asyncio.sleep(0)
        return mix(value, self.salt)


class Sieve(Mixer):
    """Lets half of the values pass."""

    def process(self, value: int) -> int | None:
        return mix(value, self.salt) if value % 2 else None


class Nothing(Mixer):
    """Lets nothing pass."""

    def process(self, value: int) -> None:
        return None


class Burst(Mixer):
    """Up to five outputs for one input, as a generator."""

    def process(self, value: int) -> Iterator[Any]:
        for index in range(value % 6):
            yield mix(value, self.salt + index)


class AsyncBurst(Mixer):
    """The same as an async generator, with holes in between."""

    async def process(self, value: int) -> AsyncIterator[Any]:
        for index in range(value % 6):
            await asyncio.sleep(0)
            yield mix(value, self.salt + index) if index != 1 else None


class Pause(Mixer):
    """Sometimes a value and sometimes a generator."""

    def process(self, value: int) -> Any:
        if value % 3 == 0:
            return (mix(value, self.salt + index) for index in range(2))
        return mix(value, self.salt)


class Sum(Mixer):
    """Nothing but, at the end of the stream, the sum and the number of all values."""

    def initialize(self) -> None:
        self.total = self.seen = 0

    def process(self, value: int) -> None:
        self.total, self.seen = self.total + value, self.seen + 1

    def flush(self) -> Any:
        total, seen = self.total, self.seen
        self.initialize()
        return (mix(part, self.salt) for part in (total, seen))


class Delay(Mixer):
    """Each value one input late; the last one at the end, by an async flush."""

    def initialize(self) -> None:
        self.held: list[int] = []

    def process(self, value: int) -> Any:
        self.held.append(mix(value, self.salt))
        return self.held.pop(0) if len(self.held) > 1 else None

    async def flush(self) -> AsyncIterator[Any]:
        while self.held:
            yield self.held.pop(0)


class Pairs(Mixer):
    """Streaming: begins with an output of its own, then one for each two inputs and one for a rest."""

    is_streaming = True

    async def process(self, inputs: Any) -> AsyncIterator[Any]:
        yield self.salt
        waiting: int | None = None
        async for value in inputs:
            if waiting is None:
                waiting = value
            else:
                yield mix(waiting, value)
                waiting = None
        if waiting is not None:
            yield mix(waiting, self.salt)


class FirstThree(Mixer):
    """Streaming: leaves after three inputs."""

    is_streaming = True

    async def process(self, inputs: Any) -> AsyncIterator[Any]:
        seen = 0
        async for value in inputs:
            yield mix(value, self.salt)
            seen += 1
            if seen == 3:
                return


class Counter(Mixer):
    """A source of `salt % 7` values."""

    def process(self) -> Iterator[Any]:  # type: ignore[override]
        yield from range(self.salt % 7)


class AsyncCounter(Mixer):
    """The same as an async generator, with something to flush."""

    async def process(self) -> AsyncIterator[Any]:  # type: ignore[override]
        for value in range(self.salt % 7):
            await asyncio.sleep(0)
            yield value

    def flush(self) -> int:
        return self.salt


INNER = (Mixer, AsyncMixer, Sieve, Nothing, Burst, AsyncBurst, Pause, Sum, Delay, Pairs, FirstThree)
SOURCES = (Counter, AsyncCounter)


class Brighten(Node):
    """An array plus one, written straight into the outgoing slot."""

    def process(self, data: np.ndarray[Any, Any]) -> Any:
        output = self.empty_like(data)
        np.add(data, 1, out=output)
        return output


class Hoarder(Node):
    """Passes every array on, and keeps the first `most` of them for ever."""

    def __init__(self, most: int) -> None:
        super().__init__("hoarder")
        self.most = most
        self.kept: list[tuple[Any, Any]] = []

    def process(self, data: np.ndarray[Any, Any]) -> Any:
        if len(self.kept) < self.most:
            self.kept.append((data, data.copy()))
        return data

    def flush(self) -> Any:
        """How many of the kept ones still have their content."""
        return np.array([sum(bool(np.array_equal(view, copy)) for view, copy in self.kept)])


class TryToWrite(Node):
    """What happens when an input is written: the error, and whether setflags undoes that."""

    def process(self, data: np.ndarray[Any, Any]) -> Any:
        found = []
        attempts: list[Callable[[], object]] = [lambda: data.fill(0), lambda: data.setflags(write=True)]
        for attempt in attempts:
            try:
                attempt()
            except ValueError as error:
                found.append(str(error))
        return found


class Facts(Node):
    """Where it runs: process, event loop or not, thread."""

    def process(self, _data: Any) -> Any:
        return {"pid": os.getpid(), "asyncio": "asyncio" in sys.modules, "thread": threading.current_thread().name}


class Impatient(Node):
    """Streaming: says "nothing yet" when an input takes its time, and goes on waiting for it."""

    is_streaming = True

    async def process(self, inputs: Any) -> AsyncIterator[Any]:
        asked = asyncio.ensure_future(anext(inputs, None))
        while True:
            done, _ = await asyncio.wait([asked], timeout=0.001)
            if not done:
                yield "nothing yet"
            elif (value := asked.result()) is None:
                return
            else:
                yield value
                asked = asyncio.ensure_future(anext(inputs, None))


class GivesUp(Node):
    """Streaming: gives up asking again and again, which must lose nothing."""

    is_streaming = True

    async def process(self, inputs: Any) -> AsyncIterator[Any]:
        while True:
            try:
                async with asyncio.timeout(0.0005):
                    value = await anext(inputs)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                return
            yield value


class Ticker(Node):
    """A source that never ends."""

    def process(self) -> Iterator[int]:  # type: ignore[override]
        value = 0
        while True:
            yield value
            value += 1


class Speaker(Node):
    """Logs, prints and warns what it gets."""

    def process(self, data: str) -> str:
        self.logger.warning("logged %s", data)
        logging.getLogger("elsewhere").info("also %s", data)
        print(f"printed {data}")
        print(f"complained {data}", file=sys.stderr)
        try:
            raise KeyError(data)
        except KeyError:
            self.logger.exception("failed %s", data)
        return data


class Tally(Node):
    """(input, how many its session has had, what it was tuned to); at the end of a session, their sum."""

    def initialize(self) -> None:
        self.tuned: Any = 0

    def process(self, data: int) -> Any:
        state = self.get_session_state()
        assert state is not None
        state["count"] = state.get("count", 0) + 1
        state["sum"] = state.get("sum", 0) + data
        return (data, state["count"], self.tuned)

    def flush(self) -> Any:
        state = self.get_session_state()
        assert state is not None
        return ("sum", state.get("sum", 0), sorted(self.state or ()))

    def on_control(self, message: Any) -> None:
        if message == "fail":
            raise ValueError("cannot be tuned to that", *["x" * 10_000] * 200)
        self.tuned = message


class AsyncTally(Tally):
    """The same in an event loop of its worker, tuned by a coroutine that waits."""

    async def process(self, data: int) -> Any:
        await asyncio.sleep(0)
        return super().process(data)

    async def on_control(self, message: Any) -> None:
        await asyncio.sleep(0)
        super().on_control(message)


class Gate(Node):
    """Lets an input pass when a file of its name is in `folder`; shows that it waits by a file `<input>.waits`."""

    def __init__(self, folder: str, *, executor: str | None = None) -> None:
        super().__init__("gate", executor=executor)
        self.folder = folder

    def process(self, data: str) -> str:
        if data:
            with open(os.path.join(self.folder, f"{data}.waits"), "w"):  # noqa: PTH118, PTH123
                pass
            with open(os.path.join(self.folder, data), "rb"):  # noqa: PTH118, PTH123 - a fifo: until somebody opens it
                pass
        return data
