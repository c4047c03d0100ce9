"""A worker that is asked to stop has `stop_s` for its cleanup(), whatever it does in it: it owes no sign of life."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fault_nodes import Action, Faulty, FaultyCoroutine, hang_with_the_gil, nap_with_the_gil, stop_itself
from fault_tools import Place, is_running
from watching import config, pid_of, told

from remotemedia.workers.pool import WorkerPool


class Thorough(Faulty):
    """Prints when its cleanup has come to its end."""

    def cleanup(self) -> None:
        if self.is_initialized:
            super().cleanup()
            print("cleaned up")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_cleanup_that_is_silent_for_longer_than_the_limit_comes_to_its_end(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    silent = config(unresponsive_warn_s=0.2, unresponsive_s=0.4, frame_timeout_s=0.4, stop_s=1000.0)
    async with WorkerPool([Thorough(nap_with_the_gil, "cleanup")], config=silent) as pool:
        assert await pool.process(1) == 1
    assert "cleaned up" in caplog.text
    assert warnings(caplog) == []
    assert pool.cleanup_errors == []


@pytest.mark.parametrize(
    ("kind", "action", "stacks"),
    [(Faulty, hang_with_the_gil, True), (FaultyCoroutine, hang_with_the_gil, True), (Faulty, stop_itself, False)],
)
async def test_one_that_never_ends_is_killed_at_its_deadline(
    kind: Any, action: Action, stacks: bool, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool([kind(action, "cleanup")], config=config(stop_s=0.5)) as pool:
        assert await pool.process(1) == 1
        pid = pid_of(pool, 0)
    assert not is_running(pid)
    assert pool.snapshot().workers[0].state == "exited"
    (error,) = [line for line in warnings(caplog) if "while the pool was closing" in line]
    assert "did not react for 0.5 s" in error
    assert (f"in {action.__name__}" in error) == stacks
    assert told(caplog) == []
