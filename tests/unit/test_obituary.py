"""Which error tells of a lost worker."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from remotemedia.config import MIB, Timeouts
from remotemedia.core import exceptions as e
from remotemedia.ipc.messages import Failed
from remotemedia.workers import lifecycle, obituary
from remotemedia.workers import lifecycle_events as events
from remotemedia.workers.diagnose import Hang, OomFacts, ProcessFacts
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


OOM = OomFacts(before=3, now=4, limit_bytes=512 * MIB, used_bytes=100 * MIB)
KILLED = (life(*READY, events.Exited("SIGKILL")), ExitStatus(signal="SIGKILL"))


def test_the_oom_killer_is_named_with_figures() -> None:
    known = obituary.Circumstances(oom=OOM, memory=[("cam", 480 * MIB), ("other", 20 * MIB)])
    error = failure(*KILLED, frame=7, known=known)
    assert isinstance(error, e.WorkerDied)
    assert "the kernel's OOM killer" in error.likely_cause
    for figure in ("from 3 to 4", "512.0 MiB", "used 480.0 MiB", "cam 480.0 MiB, other 20.0 MiB"):
        assert figure in error.likely_cause
    assert "memory_limit_bytes" in error.suggestion


def test_the_oom_killer_without_a_limit_and_without_samples() -> None:
    error = failure(*KILLED, known=obituary.Circumstances(oom=OomFacts(before=0, now=1)))
    assert "from 0 to 1; there is no limit" in str(error)
    assert "None" not in str(error)


def test_a_kill_that_was_not_the_oom_killers() -> None:
    error = failure(*KILLED, known=obituary.Circumstances(oom=OomFacts(before=3, now=3)))
    assert "not the kernel's out-of-memory killer" in str(error)
    assert "stayed at 3" in str(error)


def test_other_signals_are_not_laid_at_the_door_of_the_oom_killer() -> None:
    status = ExitStatus(signal="SIGSEGV")
    error = failure(life(*READY, events.Exited("SIGSEGV")), status, known=obituary.Circumstances(oom=OOM))
    assert "OOM" not in str(error)


def test_a_bus_error_tells_the_room_in_shared_memory() -> None:
    known = obituary.Circumstances(shm_free_bytes=3 * MIB, shm_need_bytes=96 * MIB)
    error = failure(life(*READY, events.Exited("SIGBUS")), ExitStatus(signal="SIGBUS"), known=known)
    assert "3.0 MiB free now; the pool's channels may need 96.0 MiB" in str(error)


def hung(hang: Hang, stderr: str = "") -> e.WorkerUnresponsive:
    state = life(*READY, events.Unresponsive("hangs"), events.Exited("SIGKILL"))
    known = obituary.Circumstances(hang=hang)
    error = failure(state, ExitStatus(signal="SIGKILL"), frame=8, stderr=stderr, known=known)
    assert type(error) is e.WorkerUnresponsive
    return error


def test_one_that_gave_no_sign_of_life() -> None:
    error = hung(Hang(waited_s=30.2, process_state="T", explanation="stopped by a signal"))
    assert "gave no sign of life for 30.2 s (process state T: stopped by a signal) and was killed" in str(error)
    assert (error.waited_s, error.process_state, error.frame, error.stacks) == (30.2, "T", 8, "")
    assert "unresponsive_s=" in error.suggestion
    assert "stacks show" not in error.suggestion
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.explanation) == (str(error), "stopped by a signal")


def test_one_that_took_too_long_for_a_frame() -> None:
    stacks = "Current thread 0x1 (most recent call first):\n  File x"
    error = hung(Hang(waited_s=2.5, process_state="R", explanation="running", frame=9), f"said\n{stacks}\n")
    assert "worked on frame 9 for 2.5 s" in str(error)
    assert (error.frame, error.stacks, error.stderr_tail) == (9, stacks, "said")
    assert "stacks show" in error.suggestion
    assert "frame_timeout_s=" in error.suggestion


def test_one_that_cannot_even_be_killed() -> None:
    state = life(*READY, events.Unresponsive("hangs"), events.DeadlinePassed())
    facts = ProcessFacts(state="D", cpu_s=1.0, wchan="nfs_wait_bit_killable")
    error = failure(state, known=obituary.Circumstances(process=facts))
    assert isinstance(error, e.WorkerUnresponsive)
    assert error.process_state == "D"
    for part in ("did not end after SIGKILL", "nfs_wait_bit_killable", "not waited for any longer"):
        assert part in str(error)


def test_limits_that_could_not_be_applied() -> None:
    error = obituary.error_of_report(Failed.of("limits", OSError("nice=-5: Permission denied")), WORKER)
    assert type(error) is e.WorkerStartError
    assert "could not apply its WorkerLimits: nice=-5: Permission denied" in str(error)


def test_a_broken_protocol() -> None:
    state = life(*READY, events.Condemned("spoke nonsense"), events.Exited("SIGKILL"))
    broke = e.MalformedMessage("spoke nonsense")
    error = failure(state, ExitStatus(signal="SIGKILL"), frame=7, broke=broke)
    assert isinstance(error, e.WorkerDied)
    assert (error.signal, error.frame, error.__cause__) == ("SIGKILL", 7, broke)
    for part in ("'cam'", "pid 42", "broke the control protocol: spoke nonsense"):
        assert part in str(error)
    assert isinstance(pickle.loads(pickle.dumps(error)).__cause__, e.MalformedMessage)


def test_another_version_of_the_protocol() -> None:
    broke = e.ProtocolVersionMismatch(ours=1, theirs=9)
    error = failure(life(events.Condemned(str(broke)), events.Exited("SIGKILL")), broke=broke)
    assert type(error) is e.WorkerStartError
    assert error.__cause__ is broke
    assert "version 9" in str(error)
    assert "python_executable" in error.suggestion
