"""The coordinator's end of the frames: numbers what goes in, and gives what comes out to whoever put it in.

Outputs are taken from the channels only while somebody waits: for an output, for the room that taking one makes, or in
an open session. So a slow consumer of a stream that is alone holds back the whole line, by the bounds of the channels.
Where outputs are taken for the sake of others, what a slow one leaves unread is bounded by the inputs that it may have:
one for a call, `MOST_UNREAD` outputs for a stream, `PoolConfig.session_frames` inputs for a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from time import monotonic, perf_counter_ns
from typing import Any

from remotemedia.core.exceptions import ChannelBroken, PipelineError, PoolClosed
from remotemedia.ipc.channel import END, FAILED, LAST, START, Frame, Sender, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, OwnDoorbell
from remotemedia.workers.delivery import Window
from remotemedia.workers.feed import Feed, feed_from, owned
from remotemedia.workers.inbox import Inbox
from remotemedia.workers.line import Line, Turn
from remotemedia.workers.owners import Call, MarkedStream, Output, Owner, Stream
from remotemedia.workers.sessions import Sessions
from remotemedia.workers.spinning import SpinBudget

_BREATHE_S = 0.001
"""How long a stream goes on without waiting before other tasks of the loop get their turn."""
_LOOKS = 4
"""Looks for the output of a call between two turns of the loop's other tasks."""
_MOST_PACKED = 4
"""Streams whose next input may wait in a slot; a sender has few slots for frames that are not sent."""


class Exchange:
    """Feeds the sources of a pipeline and collects from its sinks. Belongs to one event loop."""

    def __init__(
        self,
        feed: Sender,
        collect: Inbox,
        bell: OwnDoorbell,
        window: Window,
        error_of: Callable[[bytes], BaseException],
        session_names: dict[int, str] | None = None,
        *,
        spin_us: int = 0,
    ) -> None:
        """`error_of`: the error that a frame with the flag FAILED tells of. `session_names`: is kept up to date with
        the sessions that are under way, by their number. `spin_us`: see PoolConfig; only where nobody else parks
        `bell` for DATA.
        """
        self._feed, self._collect, self._bell = feed, collect, bell
        self._error_of = error_of
        self._loop = asyncio.get_running_loop()
        self.next_number = 0
        """Of the next input; so many have been accepted."""
        self._stamp = Stamp(0)
        self._window = window
        self._owners: dict[int, tuple[Owner, int, int]] = {}
        """By number in the pool: who put it in, as its how-manieth, and its size in bytes."""
        self._calls = 0
        self._breathe_at = 0.0
        self.spin = SpinBudget(spin_us) if spin_us else None
        self._streams: list[Stream] = []
        self._feeders: dict[Stream, asyncio.Task[None]] = {}
        self._source_run: Stream | None = None
        self._source_start = 0
        self.sessions = Sessions(self, {} if session_names is None else session_names)
        self.line = Line()
        self._error: BaseException | None = None
        self._is_draining = False
        self._drained: asyncio.Future[None] | None = None

    # -- one in, its outputs out ---------------------------------------------------------------------------------------

    async def process(self, value: Any) -> Any:
        """Send one value through; its output, a list of several, or None."""
        self.refuse_input_if_over()
        call = Call()
        self._calls += 1
        try:
            if not self._send_at_once(value, LAST, call):
                # As long as a call waits, the bell is either asked for or rung. What a stream that was left had not
                # taken comes first: the call's own output cannot come, and ring, before there is room for it.
                self.listen()
                await self.submit(value, LAST, call)
            self.listen()
            if call.is_over:  # the worker was quicker than this thread
                await self._breathe()
            elif self.spin is None:
                await call.over(self._loop)
            else:
                await self._over_soon(call, self.spin)
            return call.result()
        finally:
            self._settle(call)

    async def _over_soon(self, call: Call, spin: SpinBudget) -> None:
        """Returns when a call is over; its outputs are looked for before this goes to sleep, if it waits alone.

        Between the looks the loop does whatever else there is. Meanwhile the bell is not asked for: this call does
        that again when it has looked for long enough, and who begins to wait meanwhile does it for himself.
        """
        started = perf_counter_ns()
        end = started + spin.ns
        if spin.ns and self._is_alone:
            self._bell.unpark(DATA)
            spin.looks += 1
        while not call.is_over and self._is_alone and perf_counter_ns() < end:
            for _ in range(_LOOKS):
                self._take_wanted()
            if not call.is_over:
                await asyncio.sleep(0)
        found = call.is_over
        if not found:
            self.listen()
            await call.over(self._loop)
        spin.waited(perf_counter_ns() - started, found=found)

    @property
    def _is_alone(self) -> bool:
        """Whether the one call is all that waits here."""
        under_way = self._streams or self.line.waiting or self.sessions.under_way or self._drained is not None
        return self._calls == 1 and not under_way

    async def _breathe(self) -> None:
        """Give other tasks of the loop their turn, where nothing has to be waited for."""
        now = monotonic()
        if now > self._breathe_at:
            await asyncio.sleep(0)
            self._breathe_at = monotonic() + _BREATHE_S

    def _settle(self, call: Call) -> None:
        if call.waits:
            call.waits = False
            self._calls -= 1

    # -- the way in ----------------------------------------------------------------------------------------------------

    def refuse_input_if_over(self) -> None:
        """Raise why there can be no new input, if there can be none."""
        if self._error is not None:
            raise self._error
        if self._is_draining:
            raise PoolClosed("the pool is being drained: it takes no new input")

    async def submit(self, value: Any, flags: int, owner: Owner, session: int = 0) -> None:
        """Send one frame in as soon as there is room for it; first come, first served."""
        if self._error is not None:
            raise self._error
        if self._send_at_once(value, flags, owner, session):
            return
        turn = Turn()
        self.line.join(turn)
        try:
            while not self.line.lets(turn):
                await turn.woken()
                if self._error is not None:
                    raise self._error
            await self._submit_first(turn, value, flags, owner, session)
        finally:
            self.line.leave(turn)
            self._check_drained()

    def _send_at_once(self, value: Any, flags: int, owner: Owner, session: int = 0) -> bool:
        """Send one frame in if there is room for it and nobody else waits for that."""
        if self.line.waiting:
            return False
        parcel = self._feed.pack(value)
        if not self.may_send(parcel.nbytes):
            return False
        self.send(parcel, flags, owner, session)
        return True

    async def _submit_first(self, turn: Turn, value: Any, flags: int, owner: Owner, session: int) -> None:
        parcel = self._feed.pack(value)
        try:
            nbytes = parcel.nbytes
            while not (self.may_send(nbytes) or self._may_send_after_taking(nbytes)):
                self.listen(for_room=True)
                if self.may_send(nbytes):
                    break
                await turn.woken()
            self.send(parcel, flags, owner, session)
        finally:
            del parcel  # who keeps the exception of a call must not keep a slot with it

    def _may_send_after_taking(self, nbytes: int) -> bool:
        self._take_wanted()
        return self.may_send(nbytes)

    def may_send(self, nbytes: int) -> bool:
        """Whether there is room for a frame of this size now. Raises why there never will be again."""
        if self._error is not None:
            raise self._error
        return self._window.has_room() and self._feed.has_credit(nbytes)

    def pack(self, value: Any) -> Any:
        return self._feed.pack(value)

    def send(self, parcel: Any, flags: int, owner: Owner, session: int = 0) -> None:
        """Send a frame for which there is room."""
        stamp = self._stamp
        stamp.number, stamp.flags, stamp.session = self.next_number, flags, session
        if flags & START:  # a source numbers its frames itself, from here on
            self._source_start = stamp.number
        else:
            self._owners[stamp.number] = owner, owner.sent, parcel.nbytes
            self._window.enter(parcel.nbytes)
            owner.sent += 1
        self.next_number += 1
        try:
            self._feed.send(parcel, stamp)
        except ChannelBroken:
            return  # a worker has ended: its supervisor tells everybody who waits which, and why

    # -- many in, many out ---------------------------------------------------------------------------------------------

    async def stream(
        self,
        source: Iterable[Any] | AsyncIterable[Any] | None,
        *,
        own_sources: bool = False,
        copy: bool = False,
        marks: bool = False,
    ) -> AsyncGenerator[Output, None]:
        """All outputs for all items of `source`, in order; with `own_sources` those of the pipeline's own source nodes.

        `copy`: give arrays of the caller's own instead of views of shared memory. `marks`: after the outputs of each
        number, DONE.
        """
        self.refuse_input_if_over()
        stream = MarkedStream() if marks else Stream()
        if own_sources:
            if self._source_run is not None:
                raise PipelineError("the pipeline's own sources run already, or their stream was left before its end")
            self._source_run = stream
            stream.feed = Feed(self, iter(()), stream, first_flags=LAST | START)
        elif isinstance(source, AsyncIterable):
            self._feeders[stream] = self._loop.create_task(feed_from(source, stream, self))
        else:
            stream.feed = Feed(self, iter((None,) if source is None else source), stream)
        self._streams.append(stream)
        try:
            async for output in self._outputs(stream):
                yield Output(output.number, owned(output.value)) if copy else output
        finally:
            await self._leave(stream)

    async def _leave(self, stream: Stream) -> None:
        stream.abandoned = True
        stream.feed = None
        self.line.leave(stream)
        self._streams.remove(stream)
        if self._source_run is stream and stream.finished:
            self._source_run = None
        feeder = self._feeders.pop(stream, None)
        if feeder is not None:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    async def _outputs(self, stream: Stream) -> AsyncIterator[Output]:
        breathe_at = 0.0
        while True:
            if stream.feed is not None and stream.error is None and stream.feed.top_up():
                stream.feed = None
            if monotonic() > breathe_at:
                await asyncio.sleep(0)
                breathe_at = monotonic() + _BREATHE_S
            if not (stream.results or stream.finished or stream.error or self.take_one()):
                await self._next_result(stream)
            if stream.results:
                if self.line.waiting:
                    self.line.leave(stream)  # its consumer may take its time
                output = stream.results.popleft()
                stream.consumed()
                yield output
                del output
            elif stream.error is not None:
                raise stream.error
            elif stream.finished:
                return

    async def _next_result(self, stream: Stream) -> None:
        """Returns when there may be a result, or room for another input."""
        stream.waiter = self._loop.create_future()
        try:
            if stream.feed is not None and stream.feed.waits:
                self.line.join(stream)
            self.listen(for_room=stream.feed is not None)
            if stream.results or stream.finished or stream.error:
                return
            if stream.feed is not None and stream.feed.may_go_on():
                return
            await stream.waiter
        finally:
            stream.waiter = None

    def spare_slot(self, feed: Feed) -> None:
        """The item of `feed` has to wait: if too many do, it gives its slot back and is packed again later."""
        if len(self._streams) <= _MOST_PACKED:
            return
        if sum(stream.feed is not None and stream.feed.parcel is not None for stream in self._streams) > _MOST_PACKED:
            feed.parcel = None

    # -- taking outputs ------------------------------------------------------------------------------------------------

    def on_ring(self) -> None:
        """The doorbell rang: take what is wanted, and stay listening."""
        if not self._feed.attend():  # no room for all that is to be sent again: go on when there is
            self._bell.park(CREDIT)
            self._feed.attend()
        self._take_wanted()
        self._collect.acknowledge()  # who rang may wait for it, also where nobody here wants more
        if self._wanted():
            self.listen()
        if self.line.waiting:
            self.line.wake_first(self._window.room())
        for stream in self._streams:
            stream.wake()

    def listen(self, *, for_room: bool = False) -> None:
        """Ask to be rung, then take what came in between: as long as somebody waits, the bell is either asked for or
        rung. `for_room`: an input waits. Look once more whether it may be sent, without taking outputs.
        """
        self._take_wanted()
        if not self._wanted():
            return
        self._bell.park(DATA)
        self._take_wanted()
        if for_room and self._window.has_room():  # if it has none, only an output makes room
            self._bell.park(CREDIT)
            self._feed.demand()

    @property
    def is_starving(self) -> bool:
        """Whether there are inputs under way, and somebody waits for outputs that have not come."""
        return bool(self._owners or self._source_run is not None) and self._wanted()

    def _wanted(self) -> bool:
        """Whether somebody waits for an output, or for the room that taking one makes."""
        if self._calls or self.line.waiting or self.sessions.under_way or self._drained is not None:
            return True
        return bool(self._streams) and any(stream.wants for stream in self._streams)

    def _take_wanted(self) -> None:
        while self._wanted():
            frame = self._collect.take()
            if frame is None:
                return
            self._deliver(frame)

    def take_one(self) -> bool:
        """Take one output if there is one."""
        frame = self._collect.take()
        if frame is None:
            return False
        self._deliver(frame)
        return True

    def _deliver(self, frame: Frame) -> None:
        number, flags = frame.number, frame.flags
        owner: Owner
        if self._source_run is not None:
            owner, index = self._source_run, number - self._source_start
            if flags & END:
                self.next_number = number + 1
        elif not flags & LAST:
            owner, index, _ = self._owners[number]
        else:
            owner, index, nbytes = self._owners.pop(number)
            self._window.leave(nbytes)
            if isinstance(owner, Call):
                self._settle(owner)
            if self.line.waiting:
                self.line.wake_first(self._window.room())
        if flags & FAILED:
            owner.frame_failed(self._error_of(frame.value), frame)
        else:
            owner.deliver(frame, index)
        if self._drained is not None:
            self._check_drained()

    def reads_sources(self) -> bool:
        """Whether sources of streams are read still."""
        return not self._is_draining

    # -- the end -------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no new input; returns when everything that was accepted has come out. Sources of streams are read no
        further: their streams end. Unread outputs stay readable. Raises why the pool has failed, if it does.
        """
        self._is_draining = True
        feeds = [stream.feed for stream in self._streams if stream.feed is not None and stream is not self._source_run]
        for stream in self._streams:
            if stream is not self._source_run:
                stream.feed = None
            stream.consumed()
            if stream.is_reading:
                self._feeders[stream].cancel()
        self.sessions.stop_input()
        ends = [*(feed.finish() for feed in feeds), *self._feeders.values(), self.sessions.ended()]
        await asyncio.gather(*ends, return_exceptions=True)
        if self._error is not None:
            raise self._error
        if self._drained is None:
            self._drained = self._loop.create_future()
        self.listen()
        self._check_drained()
        await asyncio.shield(self._drained)

    def _check_drained(self) -> None:
        if self._drained is None or self._drained.done() or self._owners or self.line.waiting:
            return
        if self._source_run is None or self._source_run.finished:
            self._drained.set_result(None)

    def fail(self, error: BaseException) -> None:
        """The pool is broken: everybody who waits gets `error`, and so does everybody who comes."""
        if self._error is not None:
            return  # what comes later follows from the first
        self._error = error
        for owner, _, _ in self._owners.values():
            owner.fail(error)
        for stream in self._streams:
            stream.fail(error)
        self.sessions.fail(error)
        self.line.wake_all()
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(error)
            self._drained.exception()  # whoever waits gets it; nobody has to

    def close(self) -> None:
        """After `fail`: let go of the channels, which hold descriptors and mappings. Sessions and streams that somebody
        keeps still lead here.
        """
        del self._feed, self._collect


__all__ = ["Exchange", "Output", "owned"]
