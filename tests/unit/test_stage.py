"""One stage between channels: what it sends for what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from remotemedia.core import stats
from remotemedia.core.node import Node
from remotemedia.ipc.channel import END, LAST, MARK, START
from remotemedia.ipc.doorbell import CREDIT
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


@pytest.mark.parametrize(
    ("make_node", "frames", "number"),
    [
        (lambda: FailAt(1, ValueError()), [(0, 0), (1, 1)], 1),
        (lambda: FailAt(1, SystemExit(3)), [(1, 5)], 5),
        (lambda: Broken(2), [(1, 2)], 2),
        (lambda: AsyncBroken(2), [(1, 2)], 2),
    ],
)
async def test_a_failure_says_when(make_node: Callable[[], Node], frames: Any, number: int) -> None:
    async with running(make_node()) as stage:
        for value, at in frames:
            await stage.send(value, at)
        with pytest.raises(NodeFailure) as caught:
            await stage.task
    assert (caught.value.phase, caught.value.number) == ("process", number)
    assert stage.ground.board.stats.values[stats.ERRORS] == 1
    assert stage.ground.board.frame == number, "so that an obituary can tell"


async def test_a_failing_flush() -> None:
    class Bad(Node):
        def process(self, data: Any) -> Any:
            return data

        def flush(self) -> Any:
            raise KeyError("flush")

    async with running(Bad()) as stage:
        await stage.send(MARK, 4, LAST | END)
        with pytest.raises(NodeFailure) as caught:
            await stage.task
    assert (caught.value.phase, caught.value.number) == ("flush", 4)


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
