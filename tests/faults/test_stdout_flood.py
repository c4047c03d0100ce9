"""Workers that write without end, or not in lines, or not in text: never blocked, never losing a frame."""

from __future__ import annotations

import logging
import os
import sys

import pytest
from fault_nodes import Action, Faulty, Pass, abort
from fault_tools import Place

from remotemedia.core.exceptions import WorkerDied
from remotemedia.runtime import execute_pipeline


def many_lines() -> None:
    for number in range(50_000):
        print("line", number)


def no_line_end() -> None:
    for _ in range(200):
        os.write(1, b"x" * 50_000)


def binary() -> None:
    os.write(1, bytes(range(256)) * 500)
    os.write(2, b"\xff\xfe\0\0\n" * 500)


def through_logging() -> None:
    for number in range(20_000):
        logging.getLogger("flood").warning("record %d", number)


def closed_streams() -> None:
    sys.stdout.close()
    os.close(1)
    os.close(2)


@pytest.mark.parametrize("action", [many_lines, no_line_end, binary, through_logging, closed_streams])
@pytest.mark.parametrize("phase", ["process", "cleanup"])
async def test_a_flood_costs_no_frame(
    action: Action, phase: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    nodes = [Pass(), Faulty(action, phase, at=5), Pass()]
    assert await execute_pipeline(nodes, range(10), executor="multiprocess") == list(range(10))
    told = [record.getMessage() for record in caplog.records]
    if action is many_lines:
        assert "line 0" in told
        assert "line 999" in told
        dropped = [int(text.split()[0]) for text in told if "lines of output dropped" in text]
        lines = [text for text in told if text.startswith("line ")]
        assert len(lines) + sum(dropped) == 50_000
    if action is through_logging:
        assert "record 0" in told


def complain_much_and_abort() -> None:
    for number in range(30_000):
        print("complaint", number, file=sys.stderr)
    abort()


async def test_the_last_words_of_a_flood_are_kept(place: Place) -> None:
    with pytest.raises(WorkerDied) as caught:
        await execute_pipeline([Faulty(complain_much_and_abort, at=1)], range(3), executor="multiprocess")
    assert caught.value.stderr_tail.splitlines()[-1] == "complaint 29999"
    assert caught.value.signal == "SIGABRT"
