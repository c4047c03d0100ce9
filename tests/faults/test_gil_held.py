"""Native code that does not give the GIL back: nothing of Python runs in that worker any more."""

from __future__ import annotations

import logging
import signal

import pytest
from fault_nodes import Action, Faulty, FaultyCoroutine, hang_with_the_gil, nap_with_the_gil, spin_with_the_gil
from fault_tools import Place, chain, check_fields, soon
from watching import KILL_S, config, pid_of, told, unresponsive

from remotemedia.workers.pool import WorkerPool


@pytest.mark.parametrize(
    ("kind", "of", "action", "state", "explained"),
    [
        (Faulty, 2, spin_with_the_gil, "R", "s of processor time in"),
        (FaultyCoroutine, 1, spin_with_the_gil, "R", "running"),
        (Faulty, 1, hang_with_the_gil, "S", "asleep"),
    ],
)
async def test_it_is_killed_and_shows_where(
    kind: type[Faulty],
    of: int,
    action: Action,
    state: str,
    explained: str,
    place: Place,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with WorkerPool(chain(kind(action, at=1), 0, of), config=config()) as pool:
        pids = [pid_of(pool, index) for index in range(of)]
        assert await pool.process(0) == 0
        error = await unresponsive(pool, 1)
        check_fields(error, "faulty", 0, pids)
        assert (error.process_state, error.frame) == (state, 1)
        assert error.waited_s >= KILL_S
        assert explained in error.explanation
        assert "GIL" in error.explanation
        assert f" in {action.__name__}\n" in error.stacks
        assert error.stacks.count("Current thread") == 1  # those of the warning are not told again
        assert "unresponsive (no sign of life" in " ".join(error.story)
    (warning,) = told(caplog)
    assert f"process state {state}" in warning
    assert "GIL" in warning


def nap_without_a_handler() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    nap_with_the_gil()


async def test_asking_for_stacks_kills_nobody(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async with WorkerPool([Faulty(nap_without_a_handler, at=1)], config=config(unresponsive_s=1000.0)) as pool:
        assert await pool.process(1) == 1
    assert len(told(caplog)) == 1


async def test_one_that_gives_it_back_in_time_goes_on(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with WorkerPool([Faulty(nap_with_the_gil, at=1)], config=config(unresponsive_s=1000.0)) as pool:
        pid = pid_of(pool, 0)
        assert [output async for output in pool.stream(range(3))] == [0, 1, 2]
        await soon(lambda: len(told(caplog)) == 2, "a warning and its end")
        assert pid_of(pool, 0) == pid
    assert "answers again" in told(caplog)[1]
    records = [record.getMessage() for record in caplog.records if record.name == "remotemedia.node.faulty"]
    (stacks,) = [text for text in records if "  File " in text]  # the warning came with them
    assert " in nap_with_the_gil\n" in stacks
