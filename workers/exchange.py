"""The coordinator's end of the frames: numbers what goes in, and gives what comes out to whoever put it in.

Outputs are taken from the channels only while somebody wants one. So a slow consumer holds back the whole line, by the
bounds of the channels alone, and nothing piles up here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from remotemedia.core.calling import as_list
from remotemedia.core.exceptions import ChannelBroken, PipelineError
from remotemedia.ipc.channel import END, LAST, MARK, START, Frame, Sender, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, OwnDoorbell
from remotemedia.workers.delivery import Window
from remotemedia.workers.inbox import Inbox

_BREATHE_S = 0.001
"""How long a stream goes on without waiting before other tasks of the loop get their turn."""
_TOP_UP_S = 0.0005
"""How long a stream looks after its inputs while outputs are there to be taken."""
_MOST_UNREAD = 64
"""Outputs of a stream that may be queued unread because others need the room."""

_MOST_PACKED = 4
"""Streams whose next input may wait in a slot; a sender has few slots for frames that are not sent."""


class Output(NamedTuple):
    """One output of a stream, and the number of the input it was made from (what `flush` gave: the number after the
    last).
    """

    number: int
    value: Any


class _Call:
    """One `process()`: collects the outputs of one number."""

    __slots__ = ("future", "sent", "values", "waits")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.waits = True
        """Counted among the calls for which outputs are taken."""
        self.sent = 0
        self.values: list[Any] = []

    def deliver(self, frame: Frame, _index: int) -> None:
        if frame.value is not MARK:
            self.values.append(frame.value)
        if frame.flags & LAST and not self.future.done():
            self.future.set_result(as_list(self.values))

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Stream:
    """One `stream()`: a queue of outputs, and a sleeping place for its consumer."""

    __slots__ = ("abandoned", "error", "feed", "finished", "results", "sent", "waiter")

    def __init__(self) -> None:
        self.feed: _Feed | None = None
        self.sent = 0
        self.results: deque[Output] = deque()
        self.finished = False
        self.abandoned = False
        self.error: BaseException | None = None
        self.waiter: asyncio.Future[None] | None = None

    @property
    def wants(self) -> bool:
        return self.waiter is not None and not self.results and not self.finished

    def deliver(self, frame: Frame, index: int) -> None:
        if frame.flags & END:
            self.finished = True
        elif frame.value is not MARK and not self.abandoned:
            self.results.append(Output(index, frame.value))

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Exchange:
    """Feeds the sources of a pipeline and collects from its sinks. Belongs to one event loop."""

    def __init__(self, feed: Sender, collect: Inbox, bell: OwnDoorbell, window: Window) -> None:
        self._feed, self._collect, self._bell = feed, collect, bell
        self._loop = asyncio.get_running_loop()
        self._next_number = 0
        self._stamp = Stamp(0)
        self._window = window
        self._owners: dict[int, tuple[_Call | _Stream, int, int]] = {}
        """By number in the pool: who put it in, as its how-manieth, and its size in bytes."""
        self._calls = 0
        self._streams: list[_Stream] = []
        self._source_run: _Stream | None = None
        self._source_start = 0
        self._lock = asyncio.Lock()
        self._error: BaseException | None = None

    # -- one in, its outputs out ---------------------------------------------------------------------------------------

    async def process(self, value: Any) -> Any:
        """Send one value through; its output, a list of several, or None."""
        call = _Call(self._loop.create_future())
        self._calls += 1
        # Listening before there is anything to hear: as long as a call waits, the bell is either asked for or rung.
        self._bell.park(DATA)
        try:
            await self._submit(value, LAST, call)
            return await call.future
        finally:
            self._settle(call)

    def _settle(self, call: _Call) -> None:
        if call.waits:
            call.waits = False
            self._calls -= 1

    async def _submit(self, value: Any, flags: int, owner: _Call | _Stream) -> None:
        if self._error is not None:
            raise self._error
        if not self._lock.locked():
            parcel = self._feed.pack(value)
            if self._may_send(parcel.nbytes):
                self._send(parcel, flags, owner)
                return
            del parcel
        async with self._lock:  # first come, first served
            if self._error is not None:
                raise self._error
            parcel = self._feed.pack(value)
            try:
                nbytes = parcel.nbytes
                await self._bell.until(
                    lambda: self._may_send_after_taking(nbytes) or None, CREDIT | DATA, self._feed.demand
                )
                self._send(parcel, flags, owner)
            finally:
                del parcel  # who keeps the exception of a call must not keep a slot with it

    def _may_send_after_taking(self, nbytes: int) -> bool:
        self._take_wanted()
        return self._may_send(nbytes)

    def _may_send(self, nbytes: int) -> bool:
        if self._error is not None:
            raise self._error
        return self._window.has_room(nbytes) and self._feed.has_credit(nbytes)

    def _send(self, parcel: Any, flags: int, owner: _Call | _Stream) -> None:
        stamp = self._stamp
        stamp.number, stamp.flags = self._next_number, flags
        if flags & START:  # a source numbers its frames itself, from here on
            self._source_start = stamp.number
        else:
            self._owners[stamp.number] = owner, owner.sent, parcel.nbytes
            self._window.enter(parcel.nbytes)
            owner.sent += 1
        self._next_number += 1
        try:
            self._feed.send(parcel, stamp)
        except ChannelBroken:
            return  # a worker has ended: its supervisor tells everybody who waits which, and why

    # -- many in, many out ---------------------------------------------------------------------------------------------

    async def stream(
        self, source: Iterable[Any] | AsyncIterable[Any] | None, *, own_sources: bool = False, copy: bool = False
    ) -> AsyncGenerator[Output, None]:
        """All outputs for all items of `source`, in order; with `own_sources` those of the pipeline's own source nodes.

        `copy`: give arrays of the caller's own instead of views of shared memory.
        """
        stream = _Stream()
        feeder: asyncio.Task[None] | None = None
        feed: _Feed | None = None
        if own_sources:
            if self._source_run is not None:
                raise PipelineError("the pipeline's own sources run already, or their stream was left before its end")
            self._source_run = stream
            feed = stream.feed = _Feed(self, iter(()), stream, first_flags=LAST | START)
        elif isinstance(source, AsyncIterable):
            feeder = self._loop.create_task(self._feed_from(source, stream))
        else:
            feed = stream.feed = _Feed(self, iter((None,) if source is None else source), stream)
        self._streams.append(stream)
        try:
            async for output in self._outputs(stream, feed):
                yield Output(output.number, owned(output.value)) if copy else output
        finally:
            stream.abandoned = True
            stream.feed = None
            self._streams.remove(stream)
            if self._source_run is stream and stream.finished:
                self._source_run = None
            if feeder is not None:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)

    async def _feed_from(self, source: AsyncIterable[Any], stream: _Stream) -> None:
        try:
            async for item in source:
                await self._submit(item, LAST, stream)
            await self._submit(MARK, LAST | END, stream)
        except Exception as error:  # noqa: BLE001 - raised where the stream is consumed
            stream.fail(error)

    async def _outputs(self, stream: _Stream, feed: _Feed | None) -> AsyncIterator[Output]:
        breathe_at = 0.0
        while True:
            if feed is not None and feed.top_up():
                feed = None
            if monotonic() > breathe_at:
                await asyncio.sleep(0)
                breathe_at = monotonic() + _BREATHE_S
            if not stream.results and not stream.finished and not self._take_one():
                await self._next_result(stream, feed)
            if stream.results:
                yield stream.results.popleft()
            elif stream.finished:
                return
            elif stream.error is not None:
                raise stream.error

    async def _next_result(self, stream: _Stream, feed: _Feed | None) -> None:
        """Returns when there may be a result, or room for another input."""
        stream.waiter = self._loop.create_future()
        try:
            self._listen(DATA if feed is None else DATA | CREDIT)
            if stream.results or stream.finished or stream.error or (feed is not None and feed.may_go_on()):
                return
            await stream.waiter
        finally:
            stream.waiter = None

    def spare_slot(self, feed: _Feed) -> None:
        """The item of `feed` has to wait: if too many do, it gives its slot back and is packed again later."""
        if sum(stream.feed is not None and stream.feed.parcel is not None for stream in self._streams) > _MOST_PACKED:
            feed.parcel = None

    # -- taking outputs ------------------------------------------------------------------------------------------------

    def on_ring(self) -> None:
        """The doorbell rang: take what is wanted, and stay listening."""
        if not self._feed.attend():  # no room for all that is to be sent again: go on when there is
            self._bell.park(CREDIT)
            self._feed.attend()
        self._take_wanted()
        if self._wanted():
            self._listen()
        for stream in self._streams:
            stream.wake()

    def _listen(self, what: int = DATA) -> None:
        """Ask to be rung, then take what came in between."""
        self._take_wanted()
        self._bell.park(what)
        self._take_wanted()
        if what & CREDIT:
            self._feed.demand()

    def _wanted(self) -> bool:
        """Whether somebody waits for an output, or for the room that taking one makes.

        For the latter the outputs of others are queued, unless one of them has left too many of its own unread.
        """
        if self._calls or (self._streams and any(stream.wants for stream in self._streams)):
            return True
        return self._lock.locked() and all(len(stream.results) < _MOST_UNREAD for stream in self._streams)

    def _take_wanted(self) -> None:
        while self._wanted():
            frame = self._collect.take()
            if frame is None:
                return
            self._deliver(frame)

    def _take_one(self) -> bool:
        frame = self._collect.take()
        if frame is None:
            return False
        self._deliver(frame)
        return True

    def _deliver(self, frame: Frame) -> None:
        if self._source_run is not None:
            self._source_run.deliver(frame, frame.number - self._source_start)
            if frame.flags & END:
                self._next_number = frame.number + 1
            return
        if not frame.flags & LAST:
            owner, index, _ = self._owners[frame.number]
            owner.deliver(frame, index)
            return
        owner, index, nbytes = self._owners.pop(frame.number)
        self._window.leave(nbytes)
        owner.deliver(frame, index)
        if isinstance(owner, _Call):
            self._settle(owner)
        if self._lock.locked():
            self._bell.ring()  # somebody in this process waits for the room

    # -- the end -------------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """The pool is broken: everybody who waits gets `error`, and so does everybody who comes."""
        if self._error is not None:
            return  # what comes later follows from the first
        self._error = error
        for owner, _, _ in self._owners.values():
            owner.fail(error)
        for stream in self._streams:
            stream.fail(error)


class _Feed:
    """A plain iterable as the input of a stream: topped up by the consumer itself, without a task of its own."""

    def __init__(self, exchange: Exchange, items: Iterator[Any], stream: _Stream, first_flags: int = 0) -> None:
        self._exchange, self._items, self._stream = exchange, items, stream
        self._item: Any = None
        self._flags = 0
        self._waits = False
        """Whether `_item` is still to be sent."""
        self._nbytes = 0
        self.parcel: Any = None
        """The item in its slot, if it has one already."""
        self._exhausted = False
        if first_flags:
            self._next(MARK, first_flags)
            self._exhausted = True

    def may_go_on(self) -> bool:
        """Whether the next frame is still to be made, or waits for credit and has it now."""
        return not self._waits or self._may_send()

    def _may_send(self) -> bool:
        exchange = self._exchange
        return not exchange._lock.locked() and exchange._may_send(self._nbytes)

    def top_up(self) -> bool:
        """Send as much as there is credit for; True when everything, the end mark included, is sent."""
        exchange = self._exchange
        until = monotonic() + _TOP_UP_S
        while True:
            if not self._waits:
                self._next_item()
            if not self._may_send():
                exchange.spare_slot(self)
                return False
            if self.parcel is None:
                self._pack()
            exchange._send(self.parcel, self._flags, self._stream)
            self.parcel = self._item = None
            self._waits = False
            if self._exhausted:
                return True
            if monotonic() > until and (self._stream.results or exchange._take_one()):
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
        self._waits = True

    def _pack(self) -> None:
        self.parcel = self._exchange._feed.pack(self._item)
        self._nbytes = self.parcel.nbytes


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
