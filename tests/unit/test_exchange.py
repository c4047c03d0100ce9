"""The coordinator's end of the frames, with a line that gives every frame back as it is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest

from remotemedia.core.exceptions import ConfigurationError, PipelineError, PoolClosed
from remotemedia.core.frames import VideoFrame
from remotemedia.ipc.channel import FAILED, MARK, OPEN, Frame
from remotemedia.ipc.doorbell import CREDIT, DATA
from remotemedia.workers import feed as feed_module
from remotemedia.workers.delivery import Window
from remotemedia.workers.exchange import _MOST_PACKED, Exchange, owned
from remotemedia.workers.feed import MOST_UNREAD
from remotemedia.workers.owners import DONE
from remotemedia.workers.sessions import Session
from remotemedia.workers.stage import Inbox
from tests.unit.local_stage import Ground


async def wait_for(condition: Callable[[], bool]) -> None:
    """Let the loop run until it holds; the test's deadline ends what never does."""
    while not condition():  # noqa: ASYNC110 - it is true of things that tell nobody
        await asyncio.sleep(0)


class RefusedError(Exception):
    """What the echo says of a frame that failed: its content."""


@asynccontextmanager
async def echo(
    frames: int = 4, *, spin_us: int = 0, most_frames: int | None = None
) -> AsyncIterator[Exchange]:
    exchange: Exchange | None = None

    def on_ring() -> None:
        assert exchange is not None
        exchange.on_ring()

    ground = Ground(on_ring)
    feed = ground.channel(queue_frames=frames)
    window = Window(most_frames=most_frames or frames, most_bytes=1 << 30, always=1)
    exchange = Exchange(feed, Inbox(feed.receivers), ground.bell, window, RefusedError, spin_us=spin_us)
    yield exchange
    ground.close()


async def everything(outputs: Any) -> list[Any]:
    async with aclosing(outputs):
        return [tuple(output) async for output in outputs]


async def test_a_call_gets_its_own_result() -> None:
    async with echo() as exchange:
        assert await asyncio.gather(*(exchange.process(n) for n in range(30))) == list(range(30))


async def test_the_numbers_of_a_stream_begin_at_nought() -> None:
    async with echo() as exchange:
        await exchange.process("x")
        for _ in range(2):
            assert await everything(exchange.stream("abc")) == [(0, "a"), (1, "b"), (2, "c")]


async def test_without_a_source_there_is_one_item() -> None:
    async with echo() as exchange:
        assert await everything(exchange.stream(None)) == [(0, None)]


async def test_a_stream_with_marks_tells_when_an_input_is_done_with() -> None:
    async with echo() as exchange:
        outputs = await everything(exchange.stream(["a", MARK, "b"], marks=True))
    assert outputs == [(0, "a"), (0, DONE), (1, DONE), (2, "b"), (2, DONE)]


async def test_streams_and_calls_side_by_side() -> None:
    async def waiting() -> AsyncIterator[int]:
        for value in range(50):
            await asyncio.sleep(0)
            yield value

    async with echo(2) as exchange:
        streams = [exchange.stream(waiting() if i % 2 else range(50)) for i in range(10)]
        results = await asyncio.gather(*map(everything, streams), *(exchange.process(n) for n in range(40)))
        assert results[:10] == [[(n, n) for n in range(50)]] * 10
        assert results[10:] == list(range(40))


async def test_inputs_that_wait_hold_few_slots() -> None:
    async with echo(2) as exchange:
        streams = [exchange.stream(range(20)) for _ in range(20)]
        for stream in streams:
            assert await anext(stream) is not None
            waiting = [each.feed for each in exchange._streams if each.feed is not None]
            assert sum(feed.parcel is not None for feed in waiting) <= _MOST_PACKED + 1
        results = await asyncio.gather(*map(everything, streams))
        assert results == [[(n, n) for n in range(1, 20)]] * 20


@pytest.mark.parametrize(("tickets", "most_frames", "asks"), [(4, 2, DATA), (2, 4, DATA | CREDIT)])
@pytest.mark.parametrize("kind", ["stream", "call"])
async def test_who_waits_asks_for_nothing_but_what_can_make_room(
    tickets: int, most_frames: int, asks: int, kind: str
) -> None:
    """While too much is under way, the next stage would wake it for each ticket that it gives back, in vain."""
    async with echo(tickets, most_frames=most_frames) as exchange:
        take = exchange._collect.take
        exchange._collect.take = lambda: None  # type: ignore[method-assign]  # nothing has come back yet
        inputs: list[asyncio.Future[Any]]
        if kind == "stream":
            inputs = [asyncio.ensure_future(everything(exchange.stream(range(5))))]
        else:
            inputs = [asyncio.ensure_future(exchange.process(n)) for n in range(5)]
        await wait_for(lambda: exchange._bell.word[0] != 0 and bool(exchange.line.waiting))
        assert exchange.next_number == 2
        assert exchange._bell.word[0] == asks
        exchange._collect.take = take  # type: ignore[method-assign]
        exchange._bell.ring()
        results = await asyncio.gather(*inputs)
        assert results == ([[(n, n) for n in range(5)]] if kind == "stream" else list(range(5)))


async def test_as_many_are_woken_as_there_is_room_for() -> None:
    """In one turn of the loop, and sent in the order in which they stand."""
    async with echo(8, most_frames=4) as exchange:
        take = exchange._collect.take
        exchange._collect.take = lambda: None  # type: ignore[method-assign]
        calls = [asyncio.ensure_future(exchange.process(n)) for n in range(8)]
        await wait_for(lambda: len(exchange.line.waiting) == 4)
        await asyncio.sleep(0)
        exchange._collect.take = take  # type: ignore[method-assign]
        exchange.on_ring()
        await asyncio.sleep(0)
        assert exchange.next_number == 8
        assert not exchange.line.waiting
        assert await asyncio.gather(*calls) == list(range(8))


async def test_who_finds_room_while_lying_down_asks_for_what_is_still_missing() -> None:
    """What is under way comes out just then, but its tickets do not come back: no output is there to come any more."""
    async with echo(2) as exchange:
        held: list[Frame | None] = []
        take, looks = exchange._collect.take, 0

        def late_take() -> Frame | None:
            nonlocal looks
            looks += bool(exchange.line.waiting)
            if looks < 2:
                return None
            held.append(take())
            return held[-1]

        exchange._collect.take = late_take  # type: ignore[method-assign]
        calls = [asyncio.ensure_future(exchange.process(np.zeros(4))) for _ in range(2)]
        await wait_for(lambda: exchange.next_number == 2)
        await asyncio.sleep(0)
        exchange._bell.clear()  # what has rung so far is not to help
        calls.append(asyncio.ensure_future(exchange.process(np.zeros(4))))
        for _ in range(2):
            await calls.pop(0)
        assert exchange._bell.word[0] == DATA | CREDIT
        held.clear()
        await calls.pop()


async def test_a_stream_goes_on_after_looking_after_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when what it found there were no outputs but only marks."""
    monkeypatch.setattr(feed_module, "_TOP_UP_S", -1.0)
    async with echo() as exchange:
        assert await everything(exchange.stream([MARK] * 5 + [1] + [MARK] * 5)) == [(5, 1)]


async def test_an_endless_stream_lets_others_run() -> None:
    def endless() -> Iterator[int]:
        value = 0
        while True:
            yield value
            value += 1

    async with echo() as exchange:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while turns < 20:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        async with aclosing(exchange.stream(endless())) as outputs:
            async for _ in outputs:
                if task.done():
                    break
        assert turns == 20


async def test_a_failure_reaches_everybody() -> None:
    async with echo(2) as exchange:
        exchange._collect.take = lambda: None  # type: ignore[method-assign]  # nothing ever comes back
        waiting = [asyncio.ensure_future(exchange.process(n)) for n in range(5)]
        waiting.append(asyncio.ensure_future(everything(exchange.stream(range(5)))))
        for _ in range(3):
            await asyncio.sleep(0)
        exchange.fail(PoolClosed("first"))
        exchange.fail(PoolClosed("second"))
        exchange._bell.ring()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(result) for result in results] == ["first"] * 6
        with pytest.raises(PoolClosed, match="first"):
            await exchange.process(1)


async def test_own_sources_run_once_at_a_time() -> None:
    async with echo() as exchange:
        exchange._collect.take = lambda: None  # type: ignore[method-assign]  # nothing ever comes back
        pending = asyncio.ensure_future(anext(exchange.stream(None, own_sources=True)))
        await asyncio.sleep(0)
        with pytest.raises(PipelineError, match="run already"):
            await anext(exchange.stream(None, own_sources=True))
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)


# -- errors of single frames -------------------------------------------------------------------------------------------


def failing(exchange: Exchange, *refused: Any) -> None:
    """From now on what comes back for these values tells of a failure."""
    take = exchange._collect.take

    def take_failed() -> Frame | None:
        frame = take()
        if frame is not None and frame.value in refused:
            frame.flags |= FAILED
        return frame

    exchange._collect.take = take_failed  # type: ignore[method-assign]


async def test_a_failed_frame_is_the_error_of_its_call_alone() -> None:
    async with echo() as exchange:
        failing(exchange, 3)
        results = await asyncio.gather(*(exchange.process(n) for n in range(6)), return_exceptions=True)
        error = results.pop(3)
        assert isinstance(error, RefusedError)
        assert error.args == (3,)
        assert results == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_stream_raises_at_the_place_of_the_failed_frame(asynchronous: bool) -> None:
    async def items() -> AsyncIterator[int]:
        for value in range(50):
            yield value

    async with echo() as exchange:
        failing(exchange, 3)
        seen = []
        async with aclosing(exchange.stream(items() if asynchronous else range(50))) as outputs:
            with pytest.raises(RefusedError):  # noqa: PT012 - outputs first, then the error
                while True:
                    seen.append((await anext(outputs)).value)
        assert seen == [0, 1, 2]
        assert await everything(exchange.stream("ab")) == [(0, "a"), (1, "b")]


# -- sessions ----------------------------------------------------------------------------------------------------------


async def test_a_session_gives_its_own_outputs_in_order() -> None:
    async with echo(2) as exchange, Session(exchange, "s", 8) as one, Session(exchange, "t", 8) as two:
        for value in range(5):
            await one.send(value)
            await two.send(-value)
            assert await exchange.process("x") == "x"
        assert [await one.receive() for _ in range(5)] == [0, 1, 2, 3, 4]
        await two.finish()
        assert [output async for output in two] == [0, -1, -2, -3, -4]
        with pytest.raises(StopAsyncIteration):
            await two.receive()
        with pytest.raises(PipelineError, match="finished"):
            await two.send(1)
        await one.send("more")
        assert await one.receive() == "more"


async def test_send_waits_for_what_is_unread() -> None:
    async with echo(4) as exchange, Session(exchange, "slow", 3) as slow:
        for value in range(3):
            await slow.send(value)
        sending = asyncio.ensure_future(slow.send(3))
        # Its outputs have come out, so others have all the room there is.
        assert await asyncio.gather(*(exchange.process(n) for n in range(20))) == list(range(20))
        assert not sending.done()
        assert await slow.receive() == 0
        await sending
        assert [await slow.receive() for _ in range(3)] == [1, 2, 3]


async def test_inputs_without_outputs_make_room_as_well() -> None:
    async with echo(4) as exchange, Session(exchange, "s", 2) as session:
        for value in (MARK, MARK, 1, MARK, MARK, MARK):
            await session.send(value)
        assert await session.receive() == 1
        for _ in range(5):
            await session.send(MARK)
        await session.finish()
        with pytest.raises(StopAsyncIteration):
            await session.receive()


async def test_a_failed_frame_is_raised_once_and_the_session_goes_on() -> None:
    async with echo() as exchange, Session(exchange, "s", 8) as session:
        failing(exchange, 1)
        for value in range(3):
            await session.send(value)
        assert await session.receive() == 0
        with pytest.raises(RefusedError):
            await session.receive()
        assert await session.receive() == 2


class Held:
    """Frames come out one by one, when the test lets them."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._take, self._let = exchange, exchange._collect.take, 0
        exchange._collect.take = self.take  # type: ignore[method-assign]
        self.values: list[Any] = []

    def take(self) -> Frame | None:
        if not self._let or (frame := self._take()) is None:
            return None
        self._let -= 1
        if frame.value is not MARK and not frame.flags & OPEN:
            self.values.append(frame.value)
        return frame

    async def let(self, count: int = 1) -> None:
        """Let so many out, and let everybody react to each."""
        for _ in range(count):
            self._let += 1
            self._exchange.on_ring()
            for _ in range(5):
                await asyncio.sleep(0)


async def test_sessions_take_turns_at_the_entrance() -> None:
    """However many inputs one has ready, the others' come in between."""

    async def use(session: Session, count: int) -> None:
        for _ in range(count):
            await session.send(session.name)

    async with (
        echo(2) as exchange,
        Session(exchange, "a", 100) as a,
        Session(exchange, "b", 100) as b,
        Session(exchange, "c", 100) as c,
    ):
        held = Held(exchange)
        tasks = [asyncio.ensure_future(use(session, 20)) for session in (a, b, c)]
        await held.let(63)
        await asyncio.gather(*tasks)
        assert "".join(held.values) == "aa" + "abc" * 18 + "bcbc"


async def test_streams_and_calls_get_their_turn_among_sessions() -> None:
    async with echo(2) as exchange:
        held = Held(exchange)
        done = False

        async def insist(name: str) -> None:
            async with Session(exchange, name, 4) as session:
                while not done:
                    await session.send(name)
                    await session.receive()

        busy = [asyncio.ensure_future(insist(f"s{n}")) for n in range(8)]
        await held.let(30)
        stream = asyncio.ensure_future(everything(exchange.stream(range(20))))
        calls = [asyncio.ensure_future(exchange.process("call")) for _ in range(20)]
        await held.let(9 * 21 + 40)
        assert stream.done()
        assert stream.result() == [(n, n) for n in range(20)]
        assert [call.result() for call in calls] == ["call"] * 20
        done = True
        await held.let(40)
        await asyncio.gather(*busy)


async def test_what_a_slow_stream_leaves_unread_is_bounded() -> None:
    """Also while others have the outputs taken all the time, and whatever kind of source it has."""

    async def endless() -> AsyncIterator[int]:
        value = 0
        while True:
            yield value
            value += 1

    async with echo(4) as exchange, Session(exchange, "s", 4) as session:
        streams = [exchange.stream(endless()), exchange.stream(iter(int, 1))]
        for stream in streams:
            assert (await anext(stream)).value == 0
        for _ in range(300):
            await session.send("x")
            assert await session.receive() == "x"
            for stream in streams[1:]:
                await anext(stream)
        for each in exchange._streams:
            assert len(each.results) <= MOST_UNREAD + 4
        for stream in streams:
            await stream.aclose()


async def test_the_name_of_an_open_session_is_taken() -> None:
    async with echo(2) as exchange:
        async with Session(exchange, "s", 4) as session:
            with pytest.raises(ConfigurationError, match="'s' is open already"):
                async with Session(exchange, "s", 4):
                    pass
            await session.send("unread")
        async with Session(exchange, "s", 4) as again:  # waits for the end of the first one
            await again.send("mine")
            assert await again.receive() == "mine"
        with pytest.raises(PipelineError, match="closed"):
            await session.send(1)
        with pytest.raises(PipelineError, match="closed"):
            await session.receive()


@pytest.mark.parametrize("way", ["left", "cancelled", "forgotten"])
async def test_a_session_that_is_given_up_disturbs_nobody_and_ends(way: str) -> None:
    async with echo(2) as exchange:

        async def abandon() -> None:
            session = Session(exchange, "gone", 4)
            await session.__aenter__()
            for value in range(4):
                await session.send(value)
            if way == "left":
                await session.__aexit__(None, None, None)
            elif way == "cancelled":
                async with Session(exchange, "gone too", 4) as inner:
                    await session.__aexit__(None, None, None)
                    await inner.receive()

        task = asyncio.ensure_future(abandon())
        if way == "cancelled":
            await wait_for(lambda: len(exchange.sessions._by_name) == 1 and "gone too" in exchange.sessions._by_name)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
        gc.collect()
        await wait_for(lambda: not exchange.sessions.under_way)
        assert exchange.sessions._names == {}
        assert await asyncio.gather(*(exchange.process(n) for n in range(10))) == list(range(10))


async def test_the_end_of_the_pool_reaches_sessions_after_what_they_have() -> None:
    async with echo() as exchange, Session(exchange, "s", 2) as session, Session(exchange, "t", 2) as other:
        await session.send(1)
        await session.send(2)
        waiting = [asyncio.ensure_future(session.send(3)), asyncio.ensure_future(other.receive())]
        await exchange.process(0)  # by now the outputs of the session are there
        exchange.fail(PoolClosed("over"))
        for task in waiting:
            with pytest.raises(PoolClosed, match="over"):
                await task
        assert [await session.receive(), await session.receive()] == [1, 2]
        with pytest.raises(PoolClosed, match="over"):
            await session.receive()


# -- draining ----------------------------------------------------------------------------------------------------------


async def test_draining_lets_out_what_was_accepted_and_nothing_else_in() -> None:
    async with echo(2) as exchange, Session(exchange, "s", 8) as session:
        for value in range(5):
            await session.send(value)
        waiting_for_ever = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            yield 1
            await waiting_for_ever.wait()

        streams = [exchange.stream(items()), exchange.stream(iter(int, 1))]
        assert [(await anext(stream)).value for stream in streams] == [1, 0]
        calls = [asyncio.ensure_future(exchange.process(n)) for n in range(10)]
        await asyncio.sleep(0)
        await asyncio.gather(exchange.drain(), exchange.drain())
        assert not exchange._owners
        assert await asyncio.gather(*calls) == list(range(10))
        for refused in (exchange.process(1), session.send(1), anext(exchange.stream([1]))):
            with pytest.raises(PoolClosed, match="drained"):
                await refused
        exchange.fail(PoolClosed("closed"))
        assert [await session.receive() for _ in range(5)] == [0, 1, 2, 3, 4]
        assert await everything(streams[0]) == []
        assert {output.value async for output in streams[1]} <= {0}


async def test_a_drain_that_the_failure_of_the_pool_overtakes() -> None:
    async with echo() as exchange:
        exchange._collect.take = lambda: None  # type: ignore[method-assign]  # nothing ever comes back
        call = asyncio.ensure_future(exchange.process(1))
        await asyncio.sleep(0)
        drain = asyncio.ensure_future(exchange.drain())
        await asyncio.sleep(0)
        exchange.fail(PoolClosed("broken"))
        for task in (drain, call):
            with pytest.raises(PoolClosed, match="broken"):
                await task


def test_owned_copies_views_wherever_they_are() -> None:
    base = np.arange(10)
    value = {"a": [base[2:], (base[:3], "x")], "b": VideoFrame(array=base[1:]), "c": base, "d": 5}
    mine = owned(value)
    assert mine["c"] is base
    assert mine["d"] == 5
    for copy, view in ((mine["a"][0], base[2:]), (mine["a"][1][0], base[:3]), (mine["b"].array, base[1:])):
        assert copy.flags.owndata
        assert np.array_equal(copy, view)
