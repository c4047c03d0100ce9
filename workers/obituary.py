"""What to tell the caller when a worker is lost: which error, and its probable cause. Pure."""

from __future__ import annotations

from remotemedia.core.exceptions import (
    NodeInitializeError,
    NodeNotLoadable,
    NodeProcessError,
    RemoteTraceback,
    WorkerDied,
    WorkerError,
    WorkerIdentity,
    WorkerStartError,
    WorkerStartTimeout,
    WorkerUnresponsive,
)
from remotemedia.ipc.messages import Failed
from remotemedia.workers.lifecycle import LifeState
from remotemedia.workers.process import ExitStatus

_TAIL_LINES = 20
_STACK_STARTS = ("Fatal Python error:", "Current thread 0x", "Thread 0x")

_CAUSES = {
    "SIGKILL": (
        "something outside killed it: the kernel's out-of-memory killer, or a `kill -9`",
        "see `dmesg` for the out-of-memory killer; use less memory per frame",
    ),
    "SIGSEGV": ("a crash in native code of the node or of a library that it uses", "the stacks show where"),
    "SIGABRT": ("native code gave up (abort)", "the last lines of stderr usually say why"),
    "SIGBUS": (
        "memory behind a mapping was missing: shared memory (/dev/shm) may be full, or a mapped file was cut",
        "enlarge /dev/shm (docker run --shm-size=1g) or send smaller frames",
    ),
    "SIGILL": ("native code for another processor", "install a build for this processor"),
    "SIGTERM": ("something outside asked it to end", ""),
}
_EXITED = ("the node, or a library, called os._exit() or exit()", "raise an exception instead")


def error_of_report(report: Failed, worker: WorkerIdentity) -> WorkerError:
    """The error for a failure that the worker reported itself; `__cause__` is the user's exception."""
    remote = RemoteTraceback.from_mapping(report.error)
    cause = remote.exception()
    what = f"{type(cause).__name__}: {remote.text}"
    kinds: dict[str, tuple[type[WorkerError], str]] = {
        "load": (NodeNotLoadable, f"could not unpickle the node: {what}"),
        "initialize": (NodeInitializeError, f"initialize() raised {what}"),
        "channel": (WorkerStartError, f"could not open its channels: {what}"),
        "flush": (NodeProcessError, f"flush() raised {what}"),
        "process": (NodeProcessError, f"process() raised {what} (frame {report.frame})"),
    }
    kind, reason = kinds.get(report.phase, (WorkerError, f"{report.phase} failed: {what}"))
    suggestion = _load_hint(cause) if report.phase == "load" else ""
    error = kind(worker, reason, frame=report.frame, suggestion=suggestion, remote_traceback=remote.traceback)
    error.__cause__ = cause
    return error


def _load_hint(cause: BaseException) -> str:
    if isinstance(cause, ModuleNotFoundError):
        return (
            f"the worker has the coordinator's sys.path and working directory, yet cannot import {cause.name!r}: "
            "install it, or define the class in a module that can be imported by name"
        )
    return "the node must be loadable in a fresh process: check its __setstate__ and what its modules do on import"


def error_of_failure(
    life: LifeState, status: ExitStatus | None, worker: WorkerIdentity, *, frame: int | None, stderr: str
) -> WorkerError:
    """The error for a worker that died, hung, or broke the protocol."""
    assert life.failure is not None
    text, stacks = split_stacks(stderr)
    failure = life.failure
    if failure.kind == "timed_out" and failure.phase.is_starting:
        return WorkerStartTimeout(
            worker,
            f"{failure.reason}, and was killed",
            story=life.story,
            stacks=stacks,
            stderr_tail=text,
            suggestion="make the node start faster, or allow more time: "
            "PoolConfig(timeouts=Timeouts(hello_s=, load_s=, initialize_s=))",
        )
    if failure.kind == "timed_out":
        return WorkerUnresponsive(worker, waited_s=life.timeouts.stop_s, frame=frame, story=life.story, stacks=stacks)
    if failure.kind == "died":
        return _died(status or ExitStatus(), worker, life, frame=frame, stderr=text, stacks=stacks)
    return WorkerError(worker, failure.reason, frame=frame, story=life.story, stacks=stacks, stderr_tail=text)


def _died(
    status: ExitStatus, worker: WorkerIdentity, life: LifeState, *, frame: int | None, stderr: str, stacks: str
) -> WorkerDied:
    cause, hint = "", ""
    if status.signal is not None:
        cause, hint = _CAUSES.get(status.signal, ("", ""))
    elif status.code is not None:
        cause, hint = _EXITED
    return WorkerDied(
        worker,
        signal=status.signal,
        exit_code=status.code,
        frame=frame,
        likely_cause=cause,
        suggestion=hint,
        story=life.story,
        stderr_tail=stderr,
        stacks=stacks,
    )


def split_stacks(stderr: str) -> tuple[str, str]:
    """What a worker wrote to stderr: (its own last lines, the Python stacks that faulthandler appended)."""
    lines = stderr.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(_STACK_STARTS)), len(lines))
    return "\n".join(lines[:start][-_TAIL_LINES:]), "\n".join(lines[start:])
