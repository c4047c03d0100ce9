"""One stage: takes frames from its inputs, runs its node, sends what comes out. The same code in a worker and in the
coordinator.

Written as a coroutine that waits at two places only, for data and for credit, so that it runs under asyncio as well as
without any event loop (remotemedia.workers.child.drive): then a frame costs no scheduling at all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import CoroutineType
from typing import Any, NamedTuple

from remotemedia.config import OnError
from remotemedia.core import stats
from remotemedia.core.calling import SPECIAL_RESULTS, CallStyle, call_style, maybe_await, outputs_of
from remotemedia.core.exceptions import ChannelBroken
from remotemedia.core.node import NO_SESSION, Node
from remotemedia.core.remote_errors import RemoteTraceback
from remotemedia.ipc.channel import END, FAILED, LAST, MARK, OPEN, START, Frame, Sender, Stamp
from remotemedia.ipc.doorbell import ACKNOWLEDGEMENT, CREDIT, DATA, REPETITION, OwnDoorbell
from remotemedia.ipc.lane import Position
from remotemedia.ipc.messages import Failed, FailedPhase, encode
from remotemedia.workers.acknowledging import Acknowledging
from remotemedia.workers.board import FRAME, STOP, WAITS, Board
from remotemedia.workers.inbox import Inbox
from remotemedia.workers.snapshots import Snapshots
from remotemedia.workers.spinning import SpinBudget
from remotemedia.workers.streaming import Inputs
from remotemedia.workers.traced_node import TracedNode

_BREATHE_NS = 1_000_000
_SESSION_BITS = 0xFFFF_FFFF

_AFTER_ALL = 1 << 31
"""Index of the news that a frame was given up: behind whatever was made of it before, which its receivers may have had
and would take anything in front of for a repetition.
"""

NODE_ERRORS = (Exception, SystemExit, GeneratorExit)
"""What a node may raise to fail; anything else (KeyboardInterrupt, a cancellation) is meant for its process."""


class Stopped(BaseException):
    """The stage was asked to stop. Not an Exception, so that no node mistakes it for an error of its own."""


class _ReceiverGone(BaseException):
    """A process that this stage sends to has ended. Not an Exception, because it is no failure of this node."""


class NodeFailure(Exception):  # noqa: N818 - it carries a failure from the stage to whoever reports it
    """The node raised; `__cause__` is what it raised, `phase` and `number` say when."""

    def __init__(self, phase: FailedPhase, number: int) -> None:
        self.phase, self.number = phase, number
        super().__init__(phase, number)


def _nothing(_frame: Frame) -> bool:
    """In place of Acknowledging.finished, where nothing is to be acknowledged by the stage."""
    return False


class Resumption(NamedTuple):
    """What a stage takes over from its predecessor, and needs to have a successor."""

    stamp: Stamp
    """Of the last frame that the predecessor has sent for good."""
    given_up: frozenset[int]
    """Numbers of frames that have killed their worker too often to be tried again."""
    snapshots: Snapshots | None
    positions: Sequence[Position | None] = ()
    """For each input, where the predecessor stood."""


class Stage:
    """A node between its inbox and its sender."""

    def __init__(
        self,
        node: Node,
        inbox: Inbox,
        sender: Sender,
        bell: OwnDoorbell,
        board: Board,
        resumption: Resumption | None = None,
        *,
        worker_id: int = -1,
        on_error: OnError = "raise",
        spin_us: int = 0,
        sessions: Iterable[tuple[int, str]] = (),
        on_frame_error: Callable[[OnError, int, BaseException], None] | None = None,
        traced: TracedNode | None = None,
    ) -> None:
        """`resumption`: for a stage in a worker that may be replaced, what it takes over and hands on. `on_error`: for
        a node that does not say itself, and `spin_us`: see PoolConfig. `sessions`: (number, name) of those that are
        open already. `on_frame_error(what is done, number, error)` is told of each frame that the node fails on.
        `traced`: in a pool that traces frames.
        """
        self.worker_id = worker_id
        self.node, self.inbox, self.sender, self.bell = node, inbox, sender, bell
        self.board = board if traced is None else traced.board_of(board)
        self._traced = traced
        self._stamp = Stamp(-1) if resumption is None else resumption.stamp
        self._acknowledging: Acknowledging | None = None
        self._given_up: frozenset[int] = frozenset()
        if resumption is not None:
            self._acknowledging = Acknowledging(
                inbox, sender, self._stamp, resumption.snapshots, resumption.positions
            )
            self._given_up = resumption.given_up
        self._on_error: Any = node.on_error or on_error
        self._on_frame_error = on_frame_error
        self.spin = SpinBudget(spin_us) if spin_us else None
        self._session_names = dict(sessions)
        self._controls: deque[tuple[Any, Callable[[BaseException | None], None]]] = deque()
        self.taken = -1
        """Number of the input that was taken last."""
        self._bytes_out = 0
        self._breathe_at = 0
        node._outlet = sender

    async def run(self) -> None:
        """Until the board says stop. Raises NodeFailure when the node raises or its output cannot be sent."""
        try:
            if call_style(self.node) is CallStyle.STREAMING:
                await self._run_streaming()
            else:
                await self._run()
        except _ReceiverGone:  # the supervisor of that process says why; all that is left here is to be stopped
            await self.bell.until(lambda: self.board.stop_requested or None, 0)
        finally:
            self.publish()

    async def _run(self) -> None:  # noqa: C901, PLR0912 - a frame walks in a straight line
        take, board, words = self.inbox.take, self.board, self.board.words
        process = self.node.process if self._traced is None else self._traced.process_of(lambda: self.taken)
        finished = _nothing if self._acknowledging is None else self._acknowledging.finished
        given_up = self._given_up
        pack, has_credit, send = self.sender.pack, self.sender.has_credit, self._send
        record, clock = board.stats.record, time.perf_counter_ns
        stamp, controls = self._stamp, self._controls
        next_frame = self.next_frame if self.spin is None else partial(self._next_frame_soon, self.spin)
        while not words[STOP]:
            frame = None if controls else take()
            if frame is None:
                frame = await next_frame()
            value, flags = frame.value, frame.flags
            self.taken = number = frame.number
            if frame.session != stamp.session:
                self._enter(frame.session)
            if value is MARK or flags > LAST or (given_up and number in given_up):
                await self._set_aside(frame)
                del frame, value
                continue
            words[FRAME] = number + 1
            try:
                started = clock()
                result = process(value)
                if result.__class__ is CoroutineType:
                    result = await result
                if result.__class__ in SPECIAL_RESULTS:
                    await self._send_each(result, number)
                    result = None
                else:
                    record(clock() - started)
                if result is not None:
                    parcel = pack(result)  # `result` must be held by this variable alone: see ShmSender.pack
                    if not has_credit(parcel.nbytes):
                        await self._credit(parcel)
                    send(parcel, number, flags)
                    del parcel
                elif flags & LAST:
                    await self._send_mark(number, LAST)
            except NODE_ERRORS as error:
                await self._on_node_error("process", number, flags & LAST, error)
            words[FRAME] = 0
            if finished(frame):
                await self._settle()
            del frame, value
            result = None
            if started > self._breathe_at:
                await self._breathe()

    async def next_frame(self) -> Frame:
        """The next frame, asleep until it is there; before that, control messages and what there was no time for."""
        bell, take, controls, acknowledging = self.bell, self.inbox.take, self._controls, self._acknowledging
        while True:
            bell.park(DATA)
            if not controls and (frame := take()) is not None:
                return frame
            self.publish()
            if acknowledging is not None and acknowledging.owed:
                await self._settle()
                if acknowledging.is_in_demand:
                    await self._serve_demand(acknowledging)
                if acknowledging.snapshots is not None:
                    bell.park(DATA)  # again: a ring while the node was asked for its state is gone
                    if not controls and (frame := take()) is not None:
                        return frame
            if self.sender.lends and self.sender.recall():
                self._demand_back()
            self.inbox.shed()
            if not self.sender.attend():
                bell.park(CREDIT)
                self.sender.attend()
            if controls:
                await self._serve_controls()
            else:
                await bell.waiter.rung()
            if not controls and (frame := take()) is not None:
                return frame

    async def _next_frame_soon(self, spin: SpinBudget) -> Frame:
        """The next frame, looked for before this goes to sleep: once for each frame that came before it.

        What there was no time for comes first: while the frame is on its way there is. A stop or a control message ends
        the looking. Their ring may be gone by then, where the loop has its turn between the looks.
        """
        bell, take, controls, words = self.bell, self.inbox.take, self._controls, self.board.words
        clock, started = time.perf_counter_ns, time.perf_counter_ns()
        longest = spin.ns if self.taken >= 0 else 0
        end = started + longest
        bell.unpark(DATA)
        self.publish()
        if self._acknowledging is not None and self._acknowledging.owed:
            await self._settle()
        spin.looks += longest > 0
        frame = None
        while clock() < end and not controls and not words[STOP]:
            frame = take()
            if frame is not None:
                break
            await bell.waiter.breathe()
        found = frame is not None
        if frame is None:
            if words[STOP]:
                raise Stopped
            frame = await self.next_frame()
        spin.waited(clock() - started, found=found)
        return frame

    async def _settle(self) -> None:
        assert self._acknowledging is not None
        self._acknowledging.settle()
        if self._acknowledging.snapshots is not None:
            await self._take_snapshot(in_demand=False)

    async def _serve_demand(self, acknowledging: Acknowledging) -> None:
        """A sender of ours waits for acknowledgements: ask for those that ours depend on, and be woken by them."""
        if acknowledging.snapshots is not None:
            await self._take_snapshot(in_demand=True)
        self.bell.park(ACKNOWLEDGEMENT)
        self.sender.demand(back=False)
        acknowledging.settle()

    def _demand_back(self) -> None:
        """A sender wants back what was passed on by reference: be woken when that has been taken and is safe."""
        self.bell.park(CREDIT | ACKNOWLEDGEMENT)
        self.sender.recall()

    async def _take_snapshot(self, *, in_demand: bool) -> None:
        assert self._acknowledging is not None
        try:
            await self._acknowledging.take_snapshot(in_demand=in_demand)
        except NODE_ERRORS as error:
            raise self._failure("snapshot_state", max(self._stamp.number, 0)) from error

    async def _give_up(self, frame: Frame) -> None:
        """Instead of what would be made of a frame that has killed its worker too often: the news of that, once."""
        number, stamp = frame.number, self._stamp
        last = frame.flags & LAST
        told = stamp.number == number and stamp.index >= _AFTER_ALL
        if told:
            if last:
                await self._send_mark(number, LAST)
            return
        stamp.number, stamp.index = number, _AFTER_ALL - 1
        nothing = RemoteTraceback(type_name="", text="").as_mapping()
        news = Failed(phase="died", error=nothing, frame=number, worker_id=self.worker_id)
        await self._send_when_possible(self.sender.pack(encode(news)), number, FAILED | last)

    async def _set_aside(self, frame: Frame) -> None:
        """All that is to be done about a frame that the node does not get."""
        await self._on_mark(frame)
        if self._acknowledging is not None and self._acknowledging.finished(frame):
            await self._settle()

    async def _on_mark(self, frame: Frame) -> None:
        """A frame that carries nothing for the node, or that is kept from it."""
        if frame.flags & OPEN:
            self._session_names[frame.session] = frame.value.decode()
            self._enter(frame.session)
            if frame.flags & LAST:  # of several inputs, the last one's
                await self.pass_on(frame)
        elif frame.flags & FAILED:
            await self.pass_on(frame)
        elif frame.flags & START:
            await self._run_source(frame.number)
        elif frame.value is not MARK:
            await self._give_up(frame)
        elif frame.flags & END:
            await self._finish(frame.number)
        elif frame.flags & LAST:
            await self._send_mark(frame.number, LAST)

    async def _finish(self, number: int) -> None:
        """End of the stream: what `flush` still gives, then the end mark."""
        self.board.begin(number)
        try:
            async for output in outputs_of(self.node.flush()):
                parcel = self.sender.pack(output)
                del output
                await self._credit(parcel)
                self._send(parcel, number, 0)
        except NODE_ERRORS as error:
            await self._on_node_error("flush", number, 0, error)
        self.board.end()
        self._forget_session(self._stamp.session)
        self.publish()  # who has taken the mark finds the counters up to date
        await self._send_mark(number, LAST | END)

    async def _run_source(self, number: int) -> None:
        """A source numbers its outputs itself, from the number with which it was started on."""
        self._stamp.session = number & _SESSION_BITS
        clock = time.perf_counter_ns
        try:
            self.board.begin(number)
            started = clock()
            source: Any = self.node.process
            async for output in outputs_of(source()):
                self.board.stats.record(clock() - started)
                parcel = self.sender.pack(output)
                del output
                await self._credit(parcel)
                self._send(parcel, number, LAST)
                number += 1
                self.board.begin(number)
                await self._breathe()
                await self._serve_controls()
                started = clock()
        except NODE_ERRORS as error:
            raise self._failure("process", number) from error
        await self._finish(number)

    async def _run_streaming(self) -> None:
        """A node that takes the iterator itself: what it yields belongs to the last input it has pulled."""
        while not self.board.stop_requested:
            inputs = Inputs(self)
            await inputs.arrive()  # also what the node yields before it asks for anything belongs to an input
            try:
                streaming: Any = self.node.process
                async for output in outputs_of(streaming(inputs)):
                    parcel = self.sender.pack(output)
                    del output
                    while not (inputs.is_open and self.sender.has_credit(parcel.nbytes)):
                        await self._credit(parcel)
                        await inputs.arrive()
                    self._send(parcel, inputs.number, 0)
                async for _ in inputs:  # what the node left unread
                    pass
            except NODE_ERRORS as error:
                raise self._failure("process", inputs.number) from error
            await self._finish(inputs.number)

    async def _send_each(self, result: Any, number: int) -> None:
        """The outputs of a generator or an async generator for one input; counted as one call."""
        clock = time.perf_counter_ns
        busy, started = 0, clock()
        async for output in outputs_of(result):
            busy += clock() - started
            parcel = self.sender.pack(output)
            del output
            await self._credit(parcel)
            self._send(parcel, number, 0)
            await self._breathe()
            started = clock()
        self.board.stats.record(busy + clock() - started)

    # -- sessions, errors and control messages -------------------------------------------------------------------------

    def _enter(self, session: int) -> None:
        """From now on the node works for this session."""
        self._stamp.session = session
        self.node._session_id = self._session_names.get(session, NO_SESSION)

    def _forget_session(self, session: int) -> None:
        name = self._session_names.pop(session, None)
        self.node._session_id = NO_SESSION
        if name is not None and self.node.state is not None:
            self.node.state.drop(name)

    async def pass_on(self, frame: Frame) -> None:
        """Send a frame that is not for the node as it is."""
        parcel = self.sender.pack(frame.value)
        await self._credit(parcel)
        self._send(parcel, frame.number, frame.flags)

    async def _on_node_error(self, phase: FailedPhase, number: int, last: int, error: BaseException) -> None:
        """The node has failed on one frame: what that means is set by PoolConfig.on_error."""
        failure = self._failure(phase, number)
        if self._on_error == "restart":
            raise failure from error
        if self._on_frame_error is not None:
            self._on_frame_error(self._on_error, number, error)
        if self._on_error == "skip":
            self.board.stats.values[stats.SKIPPED] += 1
            if last:
                await self._send_mark(number, LAST)
            return
        try:
            parcel = self.sender.pack(encode(Failed.of(phase, error, frame=number, worker_id=self.worker_id)))
        except Exception:  # noqa: BLE001 - what cannot be said in a frame is said as the end of the stage
            raise failure from error
        await self._credit(parcel)
        self._send(parcel, number, FAILED | last)

    def post_control(self, message: Any, answer: Callable[[BaseException | None], None]) -> None:
        """Have the node's `on_control` called between two frames; `answer` gets what it raised. From any thread."""
        self._controls.append((message, answer))
        self.bell.ring()

    async def _serve_controls(self) -> None:
        node = self.node
        while self._controls:
            message, answer = self._controls.popleft()
            session_id, node._session_id = node._session_id, NO_SESSION
            try:
                await maybe_await(node.on_control(message))
            except BaseException as error:
                answer(error)
                if not isinstance(error, NODE_ERRORS):
                    raise
            else:
                answer(None)
            finally:
                node._session_id = session_id

    async def _breathe(self) -> None:
        """Between two frames that needed no waiting: stop if asked to, and let others run where there are any."""
        if self.board.stop_requested:
            raise Stopped
        now = time.perf_counter_ns()
        if now > self._breathe_at:
            self.publish()
            self.inbox.shed()
            await self.bell.waiter.breathe()
            self._breathe_at = time.perf_counter_ns() + _BREATHE_NS

    async def _credit(self, parcel: Any) -> None:
        sender, nbytes = self.sender, parcel.nbytes
        if not sender.has_credit(nbytes):
            self.publish()
            self.board.words[WAITS] = 1
            await self.bell.until(lambda: self._has_credit_now(nbytes) or None, CREDIT | REPETITION, sender.demand)
            self.board.words[WAITS] = 0

    def _has_credit_now(self, nbytes: int) -> bool:
        self.inbox.shed()
        return self.sender.has_credit(nbytes)

    async def _send_when_possible(self, parcel: Any, number: int, flags: int) -> None:
        await self._credit(parcel)
        self._send(parcel, number, flags)

    async def _send_mark(self, number: int, flags: int) -> None:
        await self._send_when_possible(self.sender.pack(MARK), number, flags)

    def _send(self, parcel: Any, number: int, flags: int) -> None:
        stamp = self._stamp
        stamp.index = stamp.index + 1 if stamp.number == number else 0
        stamp.number, stamp.flags = number, flags
        self._bytes_out += parcel.nbytes
        try:
            self.sender.send(parcel, stamp)
        except ChannelBroken as error:
            raise _ReceiverGone from error

    def publish(self) -> None:
        """Bring the board's counters up to date."""
        copies, bytes_copied = self.sender.copies, self.sender.bytes_copied
        for receiver in self.inbox.receivers:
            copies += receiver.copies
            bytes_copied += receiver.bytes_copied
        values = self.board.stats.values
        values[stats.BYTES_IN] = self.inbox.bytes_in
        values[stats.BYTES_OUT] = self._bytes_out
        values[stats.COPIES] = copies
        values[stats.BYTES_COPIED] = bytes_copied
        values[stats.TAKEN], values[stats.PASSED_ON] = self.taken + 1, self._stamp.number + 1

    def _failure(self, phase: FailedPhase, number: int) -> NodeFailure:
        self.board.stats.values[stats.ERRORS] += 1
        return NodeFailure(phase, number)


async def initialize(node: Node) -> None:
    """Run the node's `initialize`, sync or async."""
    await maybe_await(node.initialize())
    node._is_initialized = True


async def cleanup(node: Node) -> None:
    """Run the node's `cleanup`, sync or async."""
    try:
        await maybe_await(node.cleanup())
    finally:
        node._is_initialized = False
        node._outlet = None
        node._session_id = NO_SESSION
