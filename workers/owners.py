"""Who may put inputs into a pool, and gets what is made of them: calls and streams (sessions: see
remotemedia.workers.sessions).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from remotemedia.core.calling import as_list
from remotemedia.ipc.channel import END, LAST, MARK, Frame

if TYPE_CHECKING:
    from remotemedia.workers.feed import Feed


class Output(NamedTuple):
    """One output of a stream, and the number of the input it was made from (what `flush` gave: the number after the
    last).
    """

    number: int
    value: Any


class _Done:
    """The type of DONE."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DONE"


DONE = _Done()
"""In place of an output, in a stream with `marks`: there is no further one for this number."""


class Owner(Protocol):
    """Who has put an input in."""

    sent: int
    """How many inputs it has put in."""

    def deliver(self, frame: Frame, index: int) -> None:
        """An output, or a mark, for its input number `index`."""
        ...

    def frame_failed(self, error: BaseException, frame: Frame) -> None:
        """There is no (further) output for the input that `frame` tells of."""
        ...

    def fail(self, error: BaseException) -> None:
        """There is no further output at all: the pool has failed or was closed."""
        ...


class Call:
    """One `process()`: collects the outputs of one number."""

    __slots__ = ("_error", "_values", "_waiter", "is_over", "sent", "waits")

    def __init__(self) -> None:
        self.waits = True
        """Counted among the calls for which outputs are taken."""
        self.sent = 0
        self.is_over = False
        self._values: list[Any] = []
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Returns when all outputs are there, or it has failed."""
        if not self.is_over:
            self._waiter = loop.create_future()
            await self._waiter

    def result(self) -> Any:
        """The outputs. Raises why there are none."""
        if self._error is not None:
            raise self._error
        return as_list(self._values)

    def deliver(self, frame: Frame, _index: int) -> None:
        if frame.value is not MARK:
            self._values.append(frame.value)
        if frame.flags & LAST:
            self._end()

    def frame_failed(self, error: BaseException, _frame: Frame) -> None:
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        if not self.is_over:
            self._error = error
            self._end()

    def _end(self) -> None:
        self.is_over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Stream:
    """One `stream()`: a queue of outputs, and a sleeping place for its consumer."""

    __slots__ = ("abandoned", "error", "feed", "finished", "is_reading", "results", "room", "sent", "waiter")

    def __init__(self) -> None:
        self.feed: Feed | None = None
        self.sent = 0
        self.results: deque[Output] = deque()
        self.finished = False
        self.abandoned = False
        self.is_reading = False
        """Whether its feeder waits for the source, with nothing in hand."""
        self.error: BaseException | None = None
        """Raised when the results so far have been consumed; nothing comes after it."""
        self.waiter: asyncio.Future[None] | None = None
        self.room: asyncio.Future[None] | None = None
        """Its feeder waits for results to be consumed."""

    @property
    def wants(self) -> bool:
        return self.waiter is not None and not self.results and not self.finished and self.error is None

    def deliver(self, frame: Frame, index: int) -> None:
        if frame.flags & END:
            self.finished = True
        elif frame.value is not MARK and not self.abandoned and self.error is None:
            self.results.append(Output(index, frame.value))

    def frame_failed(self, error: BaseException, _frame: Frame) -> None:
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        if self.error is None and not self.finished:
            self.error = error
        self.wake()
        self.consumed()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def consumed(self) -> None:
        """There are fewer results than before."""
        if self.room is not None and not self.room.done():
            self.room.set_result(None)


class MarkedStream(Stream):
    """A stream that also tells when all outputs of a number have come: a last Output, DONE."""

    __slots__ = ()

    def deliver(self, frame: Frame, index: int) -> None:
        super().deliver(frame, index)
        if frame.flags & LAST and not (frame.flags & END or self.abandoned or self.error is not None):
            self.results.append(Output(index, DONE))
