"""Which error tells of a lost worker."""

from __future__ import annotations

from typing import Any

import pytest

from remotemedia.config import Timeouts
from remotemedia.core import exceptions as e
from remotemedia.ipc.messages import Failed
from remotemedia.workers import lifecycle, obituary
from remotemedia.workers import lifecycle_events as events
from remotemedia.workers.process import ExitStatus

WORKER = e.WorkerIdentity(node="cam", worker_id=1, pid=42)


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        ("load", e.NodeNotLoadable),
        ("initialize", e.NodeInitializeError),
        ("channel", e.WorkerStartError),
        ("process", e.NodeProcessError),
        ("flush", e.NodeProcessError),
    ],
)
def test_what_a_worker_reports_itself(phase: Any, kind: type[e.WorkerError]) -> None:
    error = obituary.error_of_report(Failed.of(phase, ZeroDivisionError("by zero"), frame=9), WORKER)
    assert type(error) is kind
    assert (error.node, error.pid, error.frame) == ("cam", 42, 9)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "by zero" in str(error)


def test_a_missing_module_is_named() -> None:
    report = Failed.of("load", ModuleNotFoundError("No module named 'x'", name="x"))
    assert "install it" in obituary.error_of_report(report, WORKER).suggestion


def life(*happened: Any) -> lifecycle.LifeState:
    state, _ = lifecycle.begin(Timeouts())
    for event in happened:
        state, _ = lifecycle.transition(state, event)
    return state


READY = (events.SaidHello(), events.SaidLoaded(), events.SaidReady())


def failure(state: lifecycle.LifeState, status: ExitStatus | None = None, **facts: Any) -> e.WorkerError:
    return obituary.error_of_failure(state, status, WORKER, **{"frame": None, "stderr": "", **facts})


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (ExitStatus(signal="SIGKILL"), "out-of-memory"),
        (ExitStatus(signal="SIGSEGV"), "native code"),
        (ExitStatus(signal="SIGBUS"), "/dev/shm"),
        (ExitStatus(signal="SIGABRT"), "abort"),
        (ExitStatus(code=3), "exited with code 3"),
        (ExitStatus(code=0), "without a goodbye"),
        (ExitStatus(), "reaped elsewhere"),
    ],
)
def test_a_death(status: ExitStatus, said: str) -> None:
    error = failure(life(*READY, events.Exited(str(status))), status, frame=5, stderr="last words\n")
    assert isinstance(error, e.WorkerDied)
    assert (error.signal, error.exit_code, error.frame) == (status.signal, status.code, 5)
    assert said in str(error)
    assert "last words" in str(error)
    assert error.story


def test_a_start_that_takes_too_long() -> None:
    state = life(events.SaidHello(), events.DeadlinePassed(), events.Exited("SIGKILL"))
    error = failure(state, ExitStatus(signal="SIGKILL"))
    assert isinstance(error, e.WorkerStartTimeout)
    assert "Timeouts(" in str(error)


def test_a_broken_protocol() -> None:
    error = failure(life(*READY, events.Condemned("spoke nonsense"), events.Exited("SIGKILL")))
    assert type(error) is e.WorkerError
    assert "spoke nonsense" in str(error)


def test_stacks_are_told_from_what_was_printed() -> None:
    text = "\n".join(f"line {n}" for n in range(30)) + "\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1"
    printed, stacks = obituary.split_stacks(text)
    assert printed.splitlines() == [f"line {n}" for n in range(10, 30)]
    assert stacks.startswith("Fatal Python error")
    assert obituary.split_stacks("only this") == ("only this", "")
