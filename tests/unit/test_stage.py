"""One stage between channels: what it sends for what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from remotemedia.core import stats
from remotemedia.core.node import Node
from remotemedia.ipc.channel import END, FAILED, LAST, MARK, OPEN, START
from remotemedia.ipc.doorbell import CREDIT
from remotemedia.ipc.messages import Failed, decode
from remotemedia.workers.stage import NodeFailure
from tests.nodes import Add, AsyncRepeat, Count, FailAt, Hold, Keep, Repeat, RunningPairs
from tests.unit.local_stage import running


async def test_one_output_completes_its_number() -> None:
    async with running(Add(1)) as stage:
        await stage.send(1, 7)
        await stage.send(2, 8)
        assert await stage.take(2) == [(2, 7, 0, LAST), (3, 8, 0, LAST)]


async def test_no_output_is_a_mark() -> None:
    async with running(Keep(2)) as stage:
        await stage.send(1, 0)
        assert await stage.take(1) == [(None, 0, 0, LAST)]


@pytest.mark.parametrize("kind", [Repeat, AsyncRepeat])
async def test_several_outputs_and_then_a_mark(kind: Any) -> None:
    async with running(kind(2)) as stage:
        await stage.send("x", 5)
        assert await stage.take(3) == [(("x", 0), 5, 0, 0), (("x", 1), 5, 1, 0), (None, 5, 2, LAST)]


async def test_only_the_last_frame_of_a_number_completes_it() -> None:
    async with running(Keep(1)) as stage:
        for value, flags in ((1, 0), (2, 0), (MARK, LAST)):
            await stage.send(value, 3, flags)
        assert await stage.take(3) == [(1, 3, 0, 0), (2, 3, 1, 0), (None, 3, 2, LAST)]


async def test_the_end_of_the_stream_flushes() -> None:
    async with running(Hold()) as stage:
        await stage.send("a", 0)
        await stage.send(MARK, 1, LAST | END)
        assert await stage.take(3) == [(None, 0, 0, LAST), (["a"], 1, 0, 0), (None, 1, 1, LAST | END)]


async def test_a_source_numbers_what_it_makes_from_where_it_was_started() -> None:
    async with running(Count(2)) as stage:
        await stage.send(MARK, 40, LAST | START)
        assert await stage.take(3) == [(0, 40, 0, LAST), (1, 41, 0, LAST), (None, 42, 0, LAST | END)]


async def test_a_streaming_node() -> None:
    async with running(RunningPairs()) as stage:
        for number, value in enumerate("abc"):
            await stage.send(value, number)
        await stage.send(MARK, 3, LAST | END)
        assert await stage.take(6) == [
            (None, 0, 0, LAST),
            (("pair", "a", "b"), 1, 0, 0),
            (None, 1, 1, LAST),
            (None, 2, 0, LAST),
            (("rest", "c"), 3, 0, 0),
            (None, 3, 1, LAST | END),
        ]


async def test_inputs_are_taken_number_by_number() -> None:
    async with running(Add(""), inputs=2) as stage:
        await stage.send("b0", 0, to=1)
        await stage.send("b1", 1, to=1)
        await stage.send("a0", 0, to=0)
        assert await stage.take(2) == [("a0", 0, 0, 0), ("b0", 0, 1, LAST)]
        await stage.send("a1", 1, to=0)
        assert await stage.take(2) == [("a1", 1, 0, 0), ("b1", 1, 1, LAST)]


async def test_the_frames_of_one_number_are_read_ahead_and_no_more() -> None:
    """While the first input is waited for, the second may send all it has for the same number, whatever its bound."""
    async with running(Add(""), inputs=2, queue_frames=2) as stage:
        for index in range(50):
            await stage.send(f"b{index}", 0, 0, to=1)
        await stage.send(MARK, 0, LAST, to=1)
        await stage.ground.bell.until(lambda: None if stage.inputs[1].unreleased() else True, CREDIT)
        for number in (1, 2):
            await stage.send("next", number, to=1)
        assert not stage.inputs[1].has_credit(0), "those of later numbers stay in the channel"
        await stage.send("a", 0, to=0)
        frames = await stage.take(52)
        assert [value for value, *_ in frames] == ["a", *(f"b{index}" for index in range(50)), None]


class Broken(Repeat):
    """Fails after the first output."""

    def process(self, data: Any) -> Iterator[Any]:
        yield data
        raise ValueError(data)


class AsyncBroken(AsyncRepeat):
    """The same as an async generator."""

    async def process(self, data: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield data
        raise ValueError(data)


class Bad(Node):
    """Fails at the end of the stream."""

    def process(self, data: Any) -> Any:
        return data

    def flush(self) -> Any:
        raise KeyError("flush")


class Greedy(Node):
    """Its outputs are as large as its inputs say."""

    def process(self, data: int) -> bytes:
        return bytes(data)


FAILING: list[tuple[Callable[[], Node], Any, list[tuple[Any, int, int, int]]]] = [
    (lambda: FailAt(1, ValueError("v")), [1, "b"], [("ValueError", 0, 0, FAILED | LAST), ("b", 1, 0, LAST)]),
    (lambda: FailAt(1, SystemExit(3)), [1, "b"], [("SystemExit", 0, 0, FAILED | LAST), ("b", 1, 0, LAST)]),
    (lambda: Broken(2), [7], [(7, 0, 0, 0), ("ValueError", 0, 1, FAILED | LAST)]),
    (lambda: AsyncBroken(2), [7], [(7, 0, 0, 0), ("ValueError", 0, 1, FAILED | LAST)]),
    (Greedy, [2000, 2], [("FrameTooLarge", 0, 0, FAILED | LAST), (b"\0\0", 1, 0, LAST)]),
]


def told(value: Any, flags: int) -> Any:
    """The name of the exception, for a frame that tells of one."""
    if not flags & FAILED:
        return value
    report = decode(value, "to_coordinator")
    assert isinstance(report, Failed)
    return report.error["type_name"].rpartition(":")[2]


@pytest.mark.parametrize(("make_node", "inputs", "expected"), FAILING)
async def test_a_failure_takes_the_place_of_the_output_and_the_stage_goes_on(
    make_node: Callable[[], Node], inputs: Any, expected: Any
) -> None:
    async with running(make_node(), max_frame_bytes=1990, slot_bytes=64) as stage:
        for number, value in enumerate(inputs):
            await stage.send(value, number)
        found = await stage.take(len(expected))
        assert [(told(value, flags), number, index, flags) for value, number, index, flags in found] == expected
        await stage.send(MARK, 9)
        assert await stage.take(1) == [(None, 9, 0, LAST)]
        assert stage.ground.board.frame is None
        assert stage.ground.board.stats.values[stats.ERRORS] == 1


@pytest.mark.parametrize(("make_node", "number"), [(lambda: FailAt(1, ValueError()), 5), (lambda: AsyncBroken(2), 5)])
async def test_for_a_restart_the_stage_ends(make_node: Callable[[], Node], number: int) -> None:
    async with running(make_node(), on_error="restart") as stage:
        await stage.send(1, number)
        with pytest.raises(NodeFailure) as caught:
            await stage.task
    assert (caught.value.phase, caught.value.number) == ("process", number)
    assert isinstance(caught.value.__cause__, ValueError)
    assert stage.ground.board.stats.values[stats.ERRORS] == 1
    assert stage.ground.board.frame == number, "so that an obituary can tell"


async def test_what_is_to_be_skipped_has_no_output() -> None:
    async with running(FailAt(1, ValueError("one")), on_error="skip") as stage:
        for number in range(3):
            await stage.send(number, number)
        assert await stage.take(3) == [(0, 0, 0, LAST), (None, 1, 0, LAST), (2, 2, 0, LAST)]
        values = stage.ground.board.stats.values
        assert (values[stats.ERRORS], values[stats.SKIPPED]) == (1, 1)
        assert [(done, number, str(error)) for done, number, error in stage.frame_errors] == [("skip", 1, "one")]


async def test_the_nodes_own_word_on_errors_comes_first() -> None:
    class Careless(FailAt):
        on_error = "skip"

    async with running(Careless(1, ValueError())) as stage:
        await stage.send(1, 0)
        assert await stage.take(1) == [(None, 0, 0, LAST)]


async def test_an_error_that_does_not_fit_into_a_frame_ends_the_stage() -> None:
    async with running(FailAt(1, ValueError("x")), max_frame_bytes=64, slot_bytes=64) as stage:
        await stage.send(1, 3)
        with pytest.raises(NodeFailure):
            await stage.task


async def test_only_the_last_of_several_frames_completes_a_failed_number() -> None:
    async with running(FailAt(1, ValueError())) as stage:
        await stage.send(1, 0, 0)
        await stage.send(2, 0, LAST)
        assert [(number, index, flags) for _, number, index, flags in await stage.take(2)] == [
            (0, 0, FAILED),
            (0, 1, LAST),
        ]


@pytest.mark.parametrize("make_node", [lambda: Add(1), RunningPairs], ids=["plain", "streaming"])
async def test_failed_frames_of_others_are_passed_on_as_they_are(make_node: Callable[[], Node]) -> None:
    async with running(make_node()) as stage:
        await stage.send(b"report", 0, FAILED | LAST)
        assert await stage.take(1) == [(b"report", 0, 0, FAILED | LAST)]
        await stage.send(MARK, 1, LAST | END)
        assert await stage.take(1) == [(None, 1, 0, LAST | END)]


async def test_a_failing_flush_is_told_and_the_stream_ends() -> None:
    async with running(Bad()) as stage:
        await stage.send(MARK, 4, LAST | END)
        found = await stage.take(2)
    assert [(told(value, flags), number, index, flags) for value, number, index, flags in found] == [
        ("KeyError", 4, 0, FAILED),
        (None, 4, 1, LAST | END),
    ]


# -- sessions ----------------------------------------------------------------------------------------------------------


class Tally(Node):
    """How many inputs its session has had so far; at the end, their sum."""

    def process(self, data: int) -> Any:
        state = self.get_session_state()
        assert state is not None
        state["sum"] = state.get("sum", 0) + data
        state["count"] = state.get("count", 0) + 1
        return state["count"]

    def flush(self) -> Any:
        state = self.get_session_state()
        assert state is not None
        return ("sum", state.get("sum", 0))


async def test_each_session_has_a_state_of_its_own_until_it_ends() -> None:
    node = Tally()
    async with running(node) as stage:
        for session, name in ((1, b"a"), (2, b"b")):
            await stage.send(name, session, OPEN | LAST, session=session)
        assert await stage.take(2) == [(b"a", 1, 0, OPEN | LAST), (b"b", 2, 0, OPEN | LAST)]
        for number, session in enumerate((1, 2, 1, 0, 1), 10):
            await stage.send(number, number, session=session)
        frames = [await stage.next() for _ in range(5)]
        assert [(frame.value, frame.session) for frame in frames] == [(1, 1), (1, 2), (2, 1), (1, 0), (3, 1)]
        assert node.state is not None
        assert set(node.state) == {"a", "b", "default"}
        await stage.send(MARK, 20, LAST | END, session=1)
        assert await stage.take(2) == [(("sum", 36), 20, 0, 0), (None, 20, 1, LAST | END)]
        assert set(node.state) == {"b", "default"}
        await stage.send(5, 21, session=2)
        assert await stage.take(1) == [(2, 21, 0, LAST)]
        await stage.send(MARK, 22, LAST | END)  # of frames without a session: that state stays
        assert await stage.take(2) == [(("sum", 13), 22, 0, 0), (None, 22, 1, LAST | END)]
        assert set(node.state) == {"b", "default"}


async def test_a_stage_may_be_told_of_sessions_that_are_open_already() -> None:
    node = Tally()
    async with running(node, sessions=[(7, "early")]) as stage:
        await stage.send(1, 0, session=7)
        await stage.take(1)
        assert node.state is not None
        assert set(node.state) == {"early"}


async def test_the_opening_of_a_session_passes_a_stage_with_several_inputs_once() -> None:
    async with running(Tally(), inputs=2) as stage:
        for to in (0, 1):
            await stage.send(b"s", 0, OPEN | LAST, to=to, session=3)
        for to in (0, 1):
            await stage.send(to, 1, to=to, session=3)
        assert await stage.take(3) == [(b"s", 0, 0, OPEN | LAST), (1, 1, 0, 0), (2, 1, 1, LAST)]


# -- control messages --------------------------------------------------------------------------------------------------


class Tuned(Node):
    """Adds what it was told to add."""

    amount = 0

    def process(self, data: int) -> int:
        return data + self.amount

    async def on_control(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.amount = int(message)


class TunedStream(Tuned):
    """The same with an iterator of its own."""

    is_streaming = True

    async def process(self, inputs: Any) -> AsyncIterator[int]:  # type: ignore[override]
        async for value in inputs:
            yield value + self.amount


@pytest.mark.parametrize("kind", [Tuned, TunedStream])
async def test_control_messages_come_between_frames_and_wake_an_idle_stage(kind: type[Node]) -> None:
    answers: asyncio.Queue[BaseException | None] = asyncio.Queue()
    async with running(kind()) as stage:
        await stage.send(1, 0)
        frame = await stage.next()
        assert frame.value == 1
        for message in (10, "not a number", 20):
            stage.stage.post_control(message, answers.put_nowait)
        assert [type(await answers.get()) for _ in range(3)] == [type(None), ValueError, type(None)]
        await stage.send(1, 1)
        found = [await stage.next() for _ in range(2 if kind is TunedStream else 1)]
        assert found[-1].value == 21


async def test_it_waits_for_credit() -> None:
    async with running(Repeat(10), queue_frames=2) as stage:
        await stage.send("x", 0)
        assert [value for value, *_ in await stage.take(11)] == [*(("x", i) for i in range(10)), None]


async def test_what_it_counts() -> None:
    async with running(Keep(2)) as stage:
        for number in range(10):
            await stage.send(number, number)
            await stage.take(1)
    facts = stage.ground.board.stats.as_dict("n")
    assert (facts["calls"], facts["errors"]) == (10, 0)
    assert stage.ground.board.frame is None
