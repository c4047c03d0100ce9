"""How the items of a stream's source get into the pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from remotemedia.ipc.channel import END, LAST, MARK
from remotemedia.workers.owners import Stream

if TYPE_CHECKING:
    from remotemedia.workers.exchange import Exchange

_TOP_UP_S = 0.0005
"""How long a stream looks after its inputs while outputs are there to be taken."""
MOST_UNREAD = 64
"""A stream whose consumer has left this many outputs unread gets no new inputs."""


class Feed:
    """A plain iterable as the input of a stream: topped up by the consumer itself, without a task of its own."""

    def __init__(self, exchange: Exchange, items: Iterator[Any], stream: Stream, first_flags: int = 0) -> None:
        self._exchange, self._items, self._stream = exchange, items, stream
        self._item: Any = None
        self._flags = 0
        self.waits = False
        """Whether an item is still to be sent."""
        self._nbytes = 0
        self.parcel: Any = None
        """The item in its slot, if it has one already."""
        self._exhausted = False
        if first_flags:
            self._next(MARK, first_flags)
            self._exhausted = True

    def may_go_on(self) -> bool:
        """Whether the next frame is still to be made, or waits for credit and has it now."""
        return not self.waits or self._may_send()

    def _may_send(self) -> bool:
        exchange, stream = self._exchange, self._stream
        return len(stream.results) < MOST_UNREAD and exchange.line.lets(stream) and exchange.may_send(self._nbytes)

    def top_up(self) -> bool:
        """Send as much as there is credit for; True when everything, the end mark included, is sent."""
        exchange, stream = self._exchange, self._stream
        until = monotonic() + _TOP_UP_S
        while True:
            if not self.waits:
                self._next_item()
            if not self._may_send():
                exchange.spare_slot(self)
                return False
            if self.parcel is None:
                self._pack()
            exchange.send(self.parcel, self._flags, stream)
            self.parcel = self._item = None
            self.waits = False
            if exchange.line.waiting:
                exchange.line.leave(stream)
            if self._exhausted:
                return True
            if monotonic() > until and (stream.results or exchange.take_one()):
                return False  # a slow source must not hold back outputs that are there

    def _next_item(self) -> None:
        for item in self._items:
            self._next(item, LAST)
            return
        self._exhausted = True
        self._next(MARK, LAST | END)

    def _next(self, item: Any, flags: int) -> None:
        self._item, self._flags = item, flags
        self._pack()
        self.waits = True

    def _pack(self) -> None:
        self.parcel = self._exchange.pack(self._item)
        self._nbytes = self.parcel.nbytes

    async def finish(self) -> None:
        """Send what was read already, and the end mark. From now on it is not to be topped up any more."""
        waits, item, flags, exhausted = self.waits, self._item, self._flags, self._exhausted
        self.waits, self.parcel, self._item = False, None, None
        if waits:
            await self._exchange.submit(item, flags, self._stream)
        if not exhausted:
            await self._exchange.submit(MARK, LAST | END, self._stream)


async def feed_from(source: AsyncIterable[Any], stream: Stream, exchange: Exchange) -> None:
    """An async iterable as the input of a stream: the body of a task, which is cancelled when the stream is left."""
    items = aiter(source)
    try:
        while exchange.reads_sources():
            try:
                stream.is_reading = True
                item = await anext(items)
            except StopAsyncIteration:
                break
            except asyncio.CancelledError:
                if stream.abandoned or exchange.reads_sources():
                    raise
                _this_task().uncancel()  # cancelled by Exchange.drain: only the reading
                break
            finally:
                stream.is_reading = False
            while len(stream.results) >= MOST_UNREAD and stream.error is None and exchange.reads_sources():
                stream.room = asyncio.get_running_loop().create_future()
                await stream.room
            await exchange.submit(item, LAST, stream)
        await exchange.submit(MARK, LAST | END, stream)
    except Exception as error:  # noqa: BLE001 - raised where the stream is consumed
        stream.fail(error)


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def owned(value: Any, copies: Callable[[np.ndarray[Any, Any]], Any] = np.array) -> Any:
    """`value` with every array in it that is a view of shared memory replaced by a copy."""
    if isinstance(value, np.ndarray):
        return value if value.flags.owndata else copies(value)
    if type(value) in (list, tuple):
        return type(value)(owned(item) for item in value)
    if type(value) is dict:
        return {key: owned(item) for key, item in value.items()}
    with_array = getattr(value, "with_array", None)
    return with_array(owned(value.array)) if with_array is not None else value
