"""A frame that takes for ever while the interpreter runs: only `frame_timeout_s` can tell."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_nodes import (
    Faulty,
    FaultyCoroutine,
    FaultyGenerator,
    FaultyStreaming,
    Pass,
    hang_for_ever,
    hang_in_python,
    stop_itself,
)
from fault_tools import Place, chain, check_fields, collect, soon
from watching import config, parts_of, pid_of, told, unresponsive

from remotemedia.config import ChannelConfig
from remotemedia.core.exceptions import WorkerUnresponsive
from remotemedia.core.node import Node
from remotemedia.events import Stalled
from remotemedia.workers.pool import WorkerPool

TIMEOUT_S = 0.6
HASTY = config(frame_timeout_s=TIMEOUT_S, unresponsive_warn_s=100.0, unresponsive_s=1000.0)


@pytest.mark.parametrize(
    ("kind", "position", "of"),
    [(Faulty, 1, 3), (FaultyCoroutine, 0, 1), (FaultyGenerator, 0, 1), (FaultyStreaming, 0, 1)],
)
async def test_an_endless_loop_is_killed_and_shows_where(
    kind: type[Faulty], position: int, of: int, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    outputs: list[Any] = []
    async with WorkerPool(chain(kind(hang_in_python, at=3), position, of), config=HASTY) as pool:
        pids = [pid_of(pool, index) for index in range(of)]
        with pytest.raises(WorkerUnresponsive) as caught:
            await collect(pool.stream(range(10)), outputs)
        error = caught.value
        check_fields(error, "faulty", position, pids)
        assert (error.frame, error.process_state) == (3, "R")
        assert error.waited_s >= TIMEOUT_S
        for part in ("worked on frame 3 for", "running", "frame_timeout_s="):
            assert part in str(error)
        assert " in hang_in_python\n" in error.stacks
    assert outputs[:3] == [0, 1, 2][: len(outputs)]
    assert told(caplog) == []


async def test_waiting_for_ever_is_no_better(place: Place, loop_kind: str) -> None:
    async with WorkerPool([Faulty(hang_for_ever, at=1)], config=HASTY) as pool:
        error = await unresponsive(pool, 1)
        assert error.process_state == "S"
        assert "asleep" in error.explanation
        assert " in hang_for_ever\n" in error.stacks


async def test_in_flush(place: Place) -> None:
    async with WorkerPool([Faulty(hang_in_python, phase="flush")], config=HASTY) as pool:
        with pytest.raises(WorkerUnresponsive) as caught:
            [output async for output in pool.stream(range(2))]
        assert caught.value.frame == 2


async def test_a_frame_of_a_stopped_worker(place: Place) -> None:
    async with WorkerPool([Faulty(stop_itself, at=0)], config=HASTY) as pool:
        error = await unresponsive(pool, 0)
        assert (error.process_state, error.stacks) == ("T", "")


def wait_for_file() -> None:
    while not Path(os.environ["GO_ON"]).exists():
        threading.Event().wait(0.01)


async def test_a_slow_frame_is_warned_of_with_its_stacks_before_anything_is_killed(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("GO_ON", str(tmp_path / "go_on"))
    patient = replace(HASTY, timeouts=replace(HASTY.timeouts, frame_warn_s=0.2, frame_timeout_s=1000.0))
    async with WorkerPool([Faulty(wait_for_file, at=3)], config=patient) as pool:
        events = pool.events()
        pid = pid_of(pool, 0)
        outputs: list[Any] = []
        reading = asyncio.ensure_future(collect(pool.stream(range(10)), outputs))
        stalled = await asyncio.wait_for(anext(event async for event in events if isinstance(event, Stalled)), 30)
        assert (stalled.node, stalled.pid) == ("faulty", pid)
        assert stalled.silent_s >= 0.2
        assert "working on frame 3 for" in stalled.reason

        def stacks() -> list[str]:
            return [record.getMessage() for record in caplog.records if "  File " in record.getMessage()]

        await soon(stacks, "the stacks")
        (told_at_once,) = stacks()
        for part in ("stacks of node 'faulty' (worker 0, ", " in wait_for_file\n", " in process\n"):
            assert part in told_at_once
        (tmp_path / "go_on").touch()
        await reading
        assert outputs == list(range(10))
        assert pid_of(pool, 0) == pid
    (warning,) = told(caplog)
    assert "working on frame 3 for" in warning


def complain_and_hang() -> None:
    print("complaint", file=sys.stderr)
    hang_for_ever()


async def test_without_logging_the_stacks_are_in_the_error_and_nowhere_else(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    warned = replace(HASTY, timeouts=replace(HASTY.timeouts, frame_warn_s=0.1))
    async with WorkerPool([Faulty(complain_and_hang, at=1)], config=warned) as pool:
        error = await unresponsive(pool, 1)
    assert " in hang_for_ever\n" in error.stacks
    assert error.stderr_tail == "complaint"
    assert capsys.readouterr() == ("", "[faulty] complaint\n")


class Gate(Pass):
    """Runs in the coordinator and holds everything up until it is opened."""

    def __init__(self) -> None:
        super().__init__("gate", executor="inline")
        self.opened = asyncio.Event()

    async def process(self, data: Any) -> Any:
        await self.opened.wait()
        return data


class Numbers(Node):
    """A source."""

    def process(self) -> Iterator[int]:  # type: ignore[override]
        yield from range(20)


class Idle(Pass):
    """Takes the iterator itself, and does nothing between two inputs."""

    is_streaming = True

    async def process(self, data: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in data:
            yield item


async def more_than_the_timeout() -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + 3 * TIMEOUT_S
    await soon(lambda: loop.time() > end, "three times the limit of a frame")


@pytest.mark.parametrize("first", [Pass(), Numbers()], ids=["plain", "source"])
async def test_waiting_for_the_next_stage_takes_no_time_of_the_frames(first: Node, place: Place) -> None:
    gate = Gate()
    small = replace(HASTY, channel=ChannelConfig(queue_frames=2))
    async with WorkerPool([first, gate], config=small, places=("multiprocess", "inline")) as pool:
        outputs: list[Any] = []
        source = range(20) if isinstance(first, Pass) else None
        reading = asyncio.ensure_future(collect(pool.stream(source), outputs))
        board = parts_of(pool).fabric.boards[0]
        await soon(lambda: board.waits, "the worker to wait for room")
        assert board.frame is not None
        await more_than_the_timeout()
        gate.opened.set()
        await reading
        assert outputs == list(range(20))


@pytest.mark.parametrize("kind", [Pass, Idle])
async def test_waiting_for_input_takes_no_time_of_any_frame(kind: type[Pass], place: Place) -> None:
    async def slow_source() -> AsyncIterator[int]:
        yield 0
        await more_than_the_timeout()
        yield 1

    async with WorkerPool([kind()], config=HASTY) as pool:
        assert [output async for output in pool.stream(slow_source())] == [0, 1]


class Brisk(Pass):
    """Always at work, with frames that each take less than the limit."""

    def process(self, data: Any) -> Any:
        threading.Event().wait(TIMEOUT_S / 6)
        return data


async def test_many_frames_that_take_long_together(place: Place) -> None:
    async with WorkerPool([Brisk()], config=HASTY) as pool:
        assert [output async for output in pool.stream(range(20))] == list(range(20))
