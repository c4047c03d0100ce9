"""What to tell the caller when a worker is lost: which error, and its probable cause. Pure."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from remotemedia.core.exceptions import (
    NodeInitializeError,
    NodeNotLoadable,
    NodeProcessError,
    ProtocolError,
    ProtocolVersionMismatch,
    WorkerDied,
    WorkerError,
    WorkerIdentity,
    WorkerStartError,
    WorkerStartTimeout,
    WorkerUnresponsive,
)
from remotemedia.core.remote_errors import RemoteTraceback, raised
from remotemedia.ipc.messages import Failed
from remotemedia.workers.diagnose import Hang, OomFacts, ProcessFacts, explain
from remotemedia.workers.lifecycle import KILL_S, LifeState, Phase
from remotemedia.workers.process import ExitStatus
from remotemedia.workers.written_stacks import split_stacks

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
_VERSIONS = "the interpreter of the workers (PoolConfig(python_executable=)) must have the same version of remotemedia"
_NOT_OURS = "does the node, or a library that it uses, write to or close file descriptors that are not its own?"
_WITH_SERVER = (
    "its fork server was killed, and all workers that came from it ended with it",
    'look for who sends signals: a script, an operator, a service manager; or PoolConfig(start="spawn")',
)
_EXITED = ("the node, or a library, called os._exit() or exit()", "raise an exception instead")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What is known of a failure beside the worker's life and its last words.

    `hang`: why it was given up; `process`: what it does now, for one that could not even be killed; `oom`: what the
    kernel's OOM killer has done; `memory`: (node, bytes of its own) of the workers when last looked at, largest first;
    `shm_free_bytes`, `shm_need_bytes`: of /dev/shm, free now, and what the pool's channels may need at most.
    """

    hang: Hang | None = None
    process: ProcessFacts | None = None
    oom: OomFacts | None = None
    memory: Sequence[tuple[str, int]] = ()
    shm_free_bytes: int | None = None
    shm_need_bytes: int | None = None


_NOTHING_KNOWN = Circumstances()


_NOT_SPAWNED = {
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "the machine has too many open files (`sysctl fs.file-max`)",
    errno.EAGAIN: "raise the limit of processes and threads: of this user (`ulimit -u`), or of the control group "
    "(pids.max; `docker run --pids-limit`)",
    errno.ENOMEM: "the machine, or the control group, has too little memory for another process",
    errno.ENOENT: "PoolConfig(python_executable=) must be the path of an interpreter",
}


def error_of_spawn(error: OSError, worker: WorkerIdentity) -> WorkerStartError:
    """The error for a process that the system would not start; `__cause__` is to be `error`."""
    suggestion = _NOT_SPAWNED.get(error.errno or 0, "")
    return WorkerStartError(worker, f"could not be started: {error}", suggestion=suggestion)


def error_of_report(report: Failed, worker: WorkerIdentity) -> WorkerError:
    """The error for a failure that the worker reported itself; `__cause__` is the user's exception."""
    remote = RemoteTraceback.from_mapping(report.error)
    cause = remote.exception()
    what = remote.headline
    kinds: dict[str, tuple[type[WorkerError], str]] = {
        "limits": (WorkerStartError, f"could not apply its WorkerLimits: {remote.text}"),
        "load": (NodeNotLoadable, f"could not unpickle the node: {what}"),
        "initialize": (NodeInitializeError, raised("initialize", what)),
        "channel": (WorkerStartError, f"could not open its channels: {what}"),
        "flush": (NodeProcessError, raised("flush", what)),
        "process": (NodeProcessError, raised("process", what, report.frame)),
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
    life: LifeState,
    status: ExitStatus | None,
    worker: WorkerIdentity,
    *,
    frame: int | None,
    stderr: str,
    known: Circumstances = _NOTHING_KNOWN,
    broke: ProtocolError | None = None,
) -> WorkerError:
    """The error for a worker that died, hung, or broke the protocol; `broke`: how it did that, which is the cause."""
    assert life.failure is not None
    text, stacks = split_stacks(stderr)
    failure = life.failure
    if life.phase is Phase.ABANDONED:
        return _abandoned(worker, life, frame, known, text, stacks)
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
    if failure.kind == "unresponsive" and known.hang is not None:
        return _given_up(worker, life, frame, known.hang, text, stacks)
    if failure.kind == "died":
        cause, hint = _cause(status or ExitStatus(), worker, known)
        return WorkerDied(
            worker,
            signal=status.signal if status else None,
            exit_code=status.code if status else None,
            frame=frame,
            likely_cause=cause,
            suggestion=hint,
            story=life.story,
            stderr_tail=text,
            stacks=stacks,
        )
    return _broke_protocol(life, status, worker, frame, text, stacks, broke)


def _broke_protocol(
    life: LifeState,
    status: ExitStatus | None,
    worker: WorkerIdentity,
    frame: int | None,
    stderr: str,
    stacks: str,
    broke: ProtocolError | None,
) -> WorkerError:
    assert life.failure is not None
    reason = life.failure.reason
    if isinstance(broke, ProtocolVersionMismatch) and life.failure.phase.is_starting:
        error: WorkerError = WorkerStartError(
            worker, f"{reason}.", suggestion=_VERSIONS, story=life.story, stderr_tail=stderr
        )
    else:
        error = WorkerDied(
            worker,
            signal=status.signal if status else None,
            exit_code=status.code if status else None,
            frame=frame,
            likely_cause=f"we ended it because it broke the control protocol: {reason}",
            suggestion=_NOT_OURS,
            story=life.story,
            stderr_tail=stderr,
            stacks=stacks,
        )
    error.__cause__ = broke
    return error


def _given_up(
    worker: WorkerIdentity, life: LifeState, frame: int | None, hang: Hang, stderr: str, stacks: str
) -> WorkerUnresponsive:
    doing, setting = "gave no sign of life", "unresponsive_s"
    if hang.frame is not None:
        doing, setting, frame = f"worked on frame {hang.frame}", "frame_timeout_s", hang.frame
    return WorkerUnresponsive(
        worker,
        waited_s=hang.waited_s,
        process_state=hang.process_state,
        explanation=hang.explanation,
        doing=doing,
        frame=frame,
        suggestion=("the stacks show where it hangs; " if stacks else "")
        + f"to allow more time: PoolConfig(timeouts=Timeouts({setting}=))",
        story=life.story,
        stderr_tail=stderr,
        stacks=stacks,
    )


def _abandoned(
    worker: WorkerIdentity, life: LifeState, frame: int | None, known: Circumstances, stderr: str, stacks: str
) -> WorkerUnresponsive:
    facts = known.process
    return WorkerUnresponsive(
        worker,
        waited_s=KILL_S,
        process_state=facts.state if facts else "",
        explanation=explain(facts, beats=True) if facts else "",
        doing="did not end after SIGKILL",
        outcome="is not waited for any longer; what it holds is freed when it ends",
        frame=frame,
        story=life.story,
        stderr_tail=stderr,
        stacks=stacks,
    )


def _cause(status: ExitStatus, worker: WorkerIdentity, known: Circumstances) -> tuple[str, str]:
    """(likely cause, suggestion) of a death."""
    if status.with_server:
        return _WITH_SERVER
    if status.signal is None:
        return _EXITED if status.code is not None else ("", "")
    cause, hint = _CAUSES.get(status.signal, ("", ""))
    if status.signal == "SIGKILL" and known.oom is not None:
        return _cause_of_kill(known.oom, worker, known.memory)
    if status.signal == "SIGBUS" and known.shm_free_bytes is not None and known.shm_need_bytes is not None:
        need, free = _mib(known.shm_need_bytes), _mib(known.shm_free_bytes)
        cause += f" (/dev/shm: {free} free now; the pool's channels may need {need})"
    return cause, hint


def _cause_of_kill(oom: OomFacts, worker: WorkerIdentity, memory: Sequence[tuple[str, int]]) -> tuple[str, str]:
    if oom.now <= oom.before:
        return (
            "something outside killed it (`kill -9`), and not the kernel's out-of-memory killer, "
            f"whose count for our control group stayed at {oom.now}"
        ), "look for who sends signals: a script, an operator, a service manager"
    limit = f"the limit of the control group is {_mib(oom.limit_bytes)}" if oom.limit_bytes else "there is no limit"
    now = f", {_mib(oom.used_bytes)} of it are in use now" if oom.used_bytes is not None and oom.limit_bytes else ""
    own = next((nbytes for node, nbytes in memory if node == worker.node), None)
    last = f"; when last looked at, this worker used {_mib(own)}" if own is not None else ""
    others = ", ".join(f"{node} {_mib(nbytes)}" for node, nbytes in memory[:3])
    cause = (
        f"the kernel's OOM killer (out of memory): oom_kill of our control group rose from {oom.before} to {oom.now}; "
        f"{limit}{now}{last}" + (f"; largest workers: {others}" if others else "")
    )
    hint = (
        "use less memory per frame, or raise the limit (docker run --memory=); WorkerLimits(memory_limit_bytes=) "
        "replaces a worker that grows before the kernel kills it"
    )
    return cause, hint


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB"
