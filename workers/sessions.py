"""Sessions: many independent ordered streams over the same warm workers.

In the data plane a session is a frame with the flag OPEN, which carries its name, then its inputs, all stamped with its
number, and at last an end mark. By that number every stage knows whose state its node works with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from remotemedia.core.exceptions import ConfigurationError, PipelineError
from remotemedia.core.node import NO_SESSION
from remotemedia.ipc.channel import END, LAST, MARK, OPEN, Frame

if TYPE_CHECKING:
    from remotemedia.workers.exchange import Exchange

_NUMBERS = 2**32 - 1  # as many as the field of the frame's header can tell apart; 0 is no session


class _Raised:
    """In the place of an output: reading it raises."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


_DONE: Any = object()
"""In the queue of outputs: everything of one input has been read."""


class _Sleepers:
    """Tasks that wait for one thing."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        await future

    def wake(self) -> None:
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)


class Track:
    """The pool's side of one session, which lives on until its last frame has come out."""

    def __init__(self, exchange: Exchange, name: str, number: int, most: int) -> None:
        """`most`: inputs that may be under way or unread."""
        self._exchange, self.name, self.number, self._most = exchange, name, number, most
        self.sent = 0
        self._under_way = 0
        self._results: deque[Any] = deque()
        self._readers, self._senders = _Sleepers(), _Sleepers()
        self._sending = asyncio.Lock()
        self._failed = -1
        self._end: asyncio.Task[None] | None = None
        self._finished = False
        self.is_left = False
        self._error: BaseException | None = None

    # -- in ------------------------------------------------------------------------------------------------------------

    async def send(self, value: Any) -> None:
        async with self._sending:  # one at a time in the line, so that sessions take turns
            while True:
                self._refuse_if_over()
                if self._under_way < self._most:
                    break
                await self._senders.wait()
            self._under_way += 1
            try:
                await self._exchange.submit(value, LAST, self, self.number)
            except BaseException:
                self._under_way -= 1
                raise

    def _refuse_if_over(self) -> None:
        if self.is_left or self._end is not None:
            raise PipelineError(f"session {self.name!r} is {'closed' if self.is_left else 'finished'}: no more input")
        self._exchange.refuse_input_if_over()

    def end(self) -> asyncio.Task[None]:
        """Have the end mark sent behind the inputs so far."""
        if self._end is None:
            self._end = asyncio.get_running_loop().create_task(self._send_end())
        return self._end

    async def _send_end(self) -> None:
        async with self._sending:
            await self._exchange.submit(MARK, LAST | END, self, self.number)

    def leave(self) -> None:
        """Nobody will read any more: what is under way is dropped as it comes out."""
        if self.is_left:
            return
        self.is_left = True
        self._results.clear()
        self._senders.wake()
        self._readers.wake()
        if self._error is None:
            self._exchange.sessions.end_in_background(self)

    # -- out -----------------------------------------------------------------------------------------------------------

    async def receive(self) -> Any:
        while not self._results:
            if self.is_left:
                raise PipelineError(f"session {self.name!r} is closed")
            if self._error is not None:
                raise self._error
            if self._finished:
                raise StopAsyncIteration(f"session {self.name!r} has ended")
            await self._readers.wait()
        output = self._results.popleft()
        if self._results and self._results[0] is _DONE:
            self._results.popleft()
            self._make_room()
        if type(output) is _Raised:
            raise output.error
        return output

    def deliver(self, frame: Frame, _index: int) -> None:
        flags = frame.flags
        if flags & OPEN:
            return
        if flags & END:
            self._finished = True
            self._exchange.sessions.ended_with(self)
            self._readers.wake()
            return
        if frame.value is not MARK and not self.is_left and frame.number != self._failed:
            self._results.append(frame.value)
            self._readers.wake()
        if flags & LAST:
            self._complete()

    def frame_failed(self, error: BaseException, frame: Frame) -> None:
        if frame.number != self._failed and not self.is_left:  # branches may fail each for itself: the first tells
            self._failed = frame.number
            self._results.append(_Raised(error))
            self._readers.wake()
        if frame.flags & LAST:
            self._complete()

    def _complete(self) -> None:
        """An input has given everything: it makes room when that has been read."""
        if self._results and self._results[-1] is not _DONE:  # what stands last is its own
            self._results.append(_DONE)
        else:
            self._make_room()

    def _make_room(self) -> None:
        self._under_way -= 1
        self._senders.wake()

    def stop_input(self) -> None:
        """Who waits for room is refused."""
        self._senders.wake()

    def fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._readers.wake()
        self._senders.wake()


class Sessions:
    """The sessions of one pool."""

    def __init__(self, exchange: Exchange, names: dict[int, str]) -> None:
        self._exchange, self._names = exchange, names
        self._last_number = 0
        self._by_name: dict[str, Track] = {}
        """Those whose end mark has not been sent."""
        self.under_way: dict[int, Track] = {}
        """Those whose end mark has not come out."""
        self._ends: set[asyncio.Task[None]] = set()

    async def open(self, name: str, most: int) -> Track:
        """A new session, as soon as one of the same name that was left has ended. Raises ConfigurationError for the
        name of an open one.
        """
        while (other := self._by_name.get(name)) is not None:
            if not other.is_left:
                raise ConfigurationError(f"a session named {name!r} is open already: names of open sessions differ")
            await asyncio.wait([other.end()])
        self._exchange.refuse_input_if_over()
        while (number := self._next_number()) in self.under_way:
            pass
        track = Track(self._exchange, name, number, most)
        self._by_name[name] = self.under_way[number] = track
        self._names[number] = name
        self._exchange.listen()
        try:
            await self._exchange.submit(name.encode(), OPEN | LAST, track, number)
        except BaseException:
            self._forget_name(track)
            self.ended_with(track)
            raise
        return track

    def _next_number(self) -> int:
        self._last_number = self._last_number % _NUMBERS + 1
        return self._last_number

    def end_in_background(self, track: Track) -> None:
        """Send its end mark when there is room; then another session may have its name."""
        task = track.end()
        self._ends.add(task)
        task.add_done_callback(lambda _: self._on_end_sent(track, task))

    def _on_end_sent(self, track: Track, task: asyncio.Task[None]) -> None:
        self._ends.discard(task)
        self._forget_name(track)
        if not task.cancelled():
            task.exception()  # of a pool that has failed: told to those who wait

    def _forget_name(self, track: Track) -> None:
        if self._by_name.get(track.name) is track:
            del self._by_name[track.name]

    def ended_with(self, track: Track) -> None:
        """Its last frame has come out."""
        self.under_way.pop(track.number, None)
        self._names.pop(track.number, None)

    def stop_input(self) -> None:
        for track in self.under_way.values():
            track.stop_input()

    async def ended(self) -> None:
        """Returns when the end marks of all sessions that were left have been sent."""
        await asyncio.gather(*self._ends, return_exceptions=True)

    def fail(self, error: BaseException) -> None:
        for track in [*self.under_way.values(), *self._by_name.values()]:
            track.fail(error)


class Session:
    """One caller's own ordered stream through a pool, made by `WorkerPool.session`:

        async with pool.session("caller-42") as call:
            await call.send(frame)
            output = await call.receive()

    Nodes keep the state of each session apart: `Node.get_session_state()`.
    """

    _track: Track | None = None

    def __init__(self, exchange: Exchange, name: str, most: int) -> None:
        self.name = name
        self._exchange, self._most = exchange, most
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Raises ConfigurationError while another session of that name is open."""
        if self._track is not None:
            raise PipelineError(f"session {self.name!r} was entered before; make a new one")
        self._track = await self._exchange.sessions.open(self.name, self._most)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened().leave()

    def _opened(self) -> Track:
        if self._track is None:
            raise PipelineError(f"session {self.name!r} is not open: use `async with pool.session(...) as call:`")
        return self._track

    async def send(self, value: Any) -> None:
        """Put one value in. Waits while `PoolConfig.session_frames` values are under way or have unread outputs.

        Raises PipelineError after `finish()` or the end of the block, PoolClosed, WorkerDied, SerializationError.
        """
        await self._opened().send(value)

    async def receive(self) -> Any:
        """The next output, in order; arrays are read-only views of shared memory. A value may have several outputs, or
        none.

        Raises StopAsyncIteration after the last output of a finished session; NodeProcessError (or WorkerDied) in the
        place of the outputs of a value that a node failed on, after which the session goes on; PoolClosed, WorkerDied
        when the pool has failed.
        """
        return await self._opened().receive()

    async def finish(self) -> None:
        """No more values will be sent: every node's `flush()` runs, and what that gives ends the outputs."""
        await asyncio.shield(self._opened().end())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.receive()

    def __del__(self) -> None:
        track = self._track
        if track is not None and not track.is_left:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(track.leave)

    def __repr__(self) -> str:
        track = self._track
        state = "new" if track is None else "closed" if track.is_left else "open"
        return f"<Session {self.name!r} ({state})>"


def check_name(name: str) -> None:
    """Raise ConfigurationError for what cannot be the name of a session."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"session({name!r}): the name of a session is a str that is not empty")
    if name == NO_SESSION:
        raise ConfigurationError(f"session({name!r}): that name stands for frames without a session")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"session({name!r}): the name is no valid Unicode text") from error


__all__ = ["Session", "Sessions", "Track", "check_name"]
