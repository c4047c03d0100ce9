"""Workers that end by themselves, outside of Python: crashes of native code, and exits without a goodbye."""

from __future__ import annotations

import pytest
from fault_nodes import (
    Action,
    Faulty,
    abort,
    bus_error,
    c_exit,
    exit_0,
    exit_3,
    illegal_instruction,
    null_pointer,
    segv,
)
from fault_tools import NO_RESTART, Place, chain, check_fields

from remotemedia.core.exceptions import WorkerDied
from remotemedia.workers.pool import WorkerPool


async def death(action: Action) -> WorkerDied:
    async with WorkerPool(chain(Faulty(action, at=2), 1), config=NO_RESTART) as pool:
        pids = [worker.pid or 0 for worker in pool.snapshot().workers]
        with pytest.raises(WorkerDied) as caught:
            [output async for output in pool.stream(range(10))]
        check_fields(caught.value, "faulty", 1, pids)
        assert caught.value.frame == 2
        return caught.value


@pytest.mark.parametrize(
    ("action", "signal", "function", "advice"),
    [
        (segv, "SIGSEGV", "segv", "native code"),
        (null_pointer, "SIGSEGV", "null_pointer", "native code"),
        (abort, "SIGABRT", "abort", "abort"),
        (bus_error, "SIGBUS", "bus_error", "MiB free now"),
        (illegal_instruction, "SIGILL", "illegal_instruction", "processor"),
    ],
)
async def test_a_crash_names_its_signal_and_shows_the_stack(
    action: Action, signal: str, function: str, advice: str, place: Place
) -> None:
    error = await death(action)
    assert (error.signal, error.exit_code) == (signal, None)
    assert advice in error.likely_cause
    assert f" in {function}\n" in error.stacks
    assert " in process\n" in error.stacks
    assert error.stacks.splitlines()[0] not in error.stderr_tail
    for part in (signal, error.likely_cause, error.suggestion, f" in {function}"):
        assert part in str(error)


@pytest.mark.parametrize(("action", "code"), [(exit_0, 0), (exit_3, 3), (c_exit, 7)])
async def test_an_exit_without_goodbye_is_a_death_whatever_its_code(action: Action, code: int, place: Place) -> None:
    error = await death(action)
    assert (error.signal, error.exit_code) == (None, code)
    assert f"exited with code {code} without a goodbye" in str(error)
    assert "exit" in error.likely_cause


def complain_and_abort() -> None:
    import sys

    for i in range(100):
        print(f"complaint {i}", file=sys.stderr)
    abort()


async def test_the_last_lines_of_stderr_are_in_the_error(place: Place) -> None:
    error = await death(complain_and_abort)
    lines = error.stderr_tail.splitlines()
    assert lines[-1] == "complaint 99"
    assert lines == [f"complaint {i}" for i in range(100 - len(lines), 100)]
    assert "complaint 99" in str(error)
    assert "complaint 0\n" not in str(error)
