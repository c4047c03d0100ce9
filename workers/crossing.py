"""Items from a thread into the pool's loop and outputs back, many for each time that one of the two has to be woken."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from remotemedia.core.exceptions import PoolClosed
from remotemedia.workers.portal import Portal
from remotemedia.workers.vigil import SOON_S, Vigil, begin_vigil, is_interruptible

_TOP_UP_S = 0.0005
"""How long a thread looks after its inputs while outputs are there to be taken."""

_END = object()
_ROOM = object()

OpenStream = Callable[[Any], AsyncGenerator[Any, None]]


class _Ended:
    """The last thing that comes back."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Crossing:
    """One `map()`. The source is iterated in the caller's thread, which is interruptible and where its errors belong;
    the pool's stream in the loop. Neither is more than `most` ahead of the other.

    Both sides follow the rule of the doorbells: who is going to sleep says so, looks once more, and then sleeps; who
    brings something looks afterwards whether it was asked for.
    """

    def __init__(self, portal: Portal, open_stream: OpenStream, most: int) -> None:
        self._portal, self._open_stream, self._most = portal, open_stream, most
        self._items: deque[Any] = deque()
        self._outputs: SimpleQueue[Any] = SimpleQueue()
        """Its `get` sleeps in C, and its `put` wakes only who sleeps."""
        self._vigil: Vigil | None = None
        """Where the caller sleeps, if that is the main thread and it has waited for a while."""
        self._given = self._taken = 0
        self._starved = False
        """The thread waits, and has more items when there is room for them."""
        self._hungry: asyncio.Future[None] | None = None
        self._full: asyncio.Future[None] | None = None
        """What the loop's side waits for: items, and that outputs are taken."""
        self._asking = False
        self._gate: asyncio.Future[None] | None = None
        """Whether the loop's side has passed on all outputs and wants more; who waits for that."""

    # -- in the caller's thread ----------------------------------------------------------------------------------------

    def outputs(self, source: Iterable[Any] | AsyncIterable[Any] | None) -> Generator[Any, None, None]:
        """All outputs, as they come. Closing it stops everything, and returns when it has stopped."""
        items: Iterator[Any] | None = None
        if source is None or isinstance(source, AsyncIterable):
            call = self._portal.begin(lambda: self._pump(source))
        else:
            items = iter(source)
            call = self._portal.begin(lambda: self._pump(self._crossed_items()))
        try:
            while True:
                self._portal.refuse_foreign()  # nobody would wake us in a forked copy
                if items is not None and self._top_up(items):
                    items = None
                if items is not None and self._outputs.empty():
                    self._starved = True
                    if self._has_room():
                        continue
                output = self._next_output()
                if output is _ROOM:
                    continue
                if isinstance(output, _Ended):
                    if output.error is not None:
                        raise output.error
                    return
                self._take()
                yield output
                del output  # while we wait for the next one, only the caller holds this one's memory
        finally:
            self._portal.end(call)

    def _next_output(self) -> Any:
        if not is_interruptible():
            return self._outputs.get()
        with contextlib.suppress(Empty):
            return self._outputs.get(timeout=SOON_S)
        self._vigil = vigil = begin_vigil()
        if vigil is not None:
            with vigil:
                while self._outputs.empty():
                    vigil.sleep()
            self._vigil = None
        return self._outputs.get()

    def _has_room(self) -> bool:
        return len(self._items) <= self._most // 2

    def _top_up(self, items: Iterator[Any]) -> bool:
        """Give as many items as there is room for; True when all are given."""
        until = monotonic() + _TOP_UP_S
        while len(self._items) < self._most:
            item = next(items, _END)
            self._give(item)
            if item is _END:
                return True
            if monotonic() > until and not self._outputs.empty():
                return False  # a slow source must not hold back outputs that are there
        return False

    def _give(self, item: Any) -> None:
        self._items.append(item)
        waiter, self._hungry = self._hungry, None
        self._wake(waiter)

    def _take(self) -> None:
        self._taken += 1
        if self._full is not None and self._given - self._taken <= self._most // 2:
            waiter, self._full = self._full, None
            self._wake(waiter)

    def _wake(self, waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None:
            with contextlib.suppress(PoolClosed):  # told by what comes back
                self._portal.wake(_settle, waiter)

    # -- in the loop ---------------------------------------------------------------------------------------------------

    async def _pump(self, source: AsyncIterable[Any] | None) -> None:
        error: BaseException | None = None
        try:
            async with contextlib.aclosing(self._open_stream(source)) as outputs:
                while True:
                    self._asking = True
                    self._open_gate()
                    output = await anext(outputs, _END)
                    self._asking = False
                    if output is _END:
                        break
                    self._given += 1
                    self._put(output)
                    del output
                    await self._until_taken()
        except asyncio.CancelledError:
            error = PoolClosed("the pool was closed")  # or nobody reads it
            raise
        except BaseException as raised:
            error = raised
            if not isinstance(raised, Exception):
                raise
        finally:
            self._put(_Ended(error))

    def _put(self, output: Any) -> None:
        self._outputs.put(output)
        vigil = self._vigil
        if vigil is not None:
            vigil.ring()

    async def _until_taken(self) -> None:
        """Returns when there is room for another output."""
        while self._is_full:
            self._full = waiter = self._portal.loop.create_future()
            if self._is_full:
                await waiter

    @property
    def _is_full(self) -> bool:
        return self._given - self._taken >= self._most

    async def _until_asking(self) -> None:
        """Returns when every output that was there is on its way to the caller.

        An item that goes in earlier makes the exchange queue outputs for want of room: a slow caller would hold back
        nothing.
        """
        while not self._asking:
            self._gate = self._portal.loop.create_future()
            await self._gate

    def _open_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            _settle(gate)

    async def _crossed_items(self) -> AsyncGenerator[Any, None]:
        while True:
            while not self._items:
                self._hungry = waiter = self._portal.loop.create_future()
                if not self._items:
                    await waiter
            await self._until_asking()
            item = self._items.popleft()
            if self._starved and self._has_room():
                self._starved = False
                self._put(_ROOM)
            if item is _END:
                return
            yield item
            del item


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
