"""Every error that remotemedia raises, as one tree.

    RemoteMediaError
    ├── ConfigurationError(ValueError)
    │   └── ManifestError
    ├── PipelineError
    │   └── PipelineStalled           branches that wait for each other
    ├── NodeError
    ├── SerializationError
    │   └── SizeLimitError
    ├── WorkerError
    │   ├── WorkerStartError
    │   │   ├── WorkerStartTimeout
    │   │   ├── NodeInitializeError
    │   │   └── NodeNotLoadable
    │   ├── NodeProcessError
    │   ├── WorkerDied
    │   ├── WorkerUnresponsive
    │   └── RestartLimitExceeded
    ├── ChannelError
    │   ├── ChannelClosed             we closed it
    │   ├── ChannelBroken             the other side is gone
    │   ├── ChannelFull
    │   ├── FrameTooLarge
    │   └── SharedMemoryExhausted
    ├── ProtocolError
    │   ├── MalformedMessage
    │   └── ProtocolVersionMismatch
    ├── PoolClosed
    ├── PoolBroken
    └── RemoteExceptionText           a worker's exception of a type that is unknown here

An error carries what it knows as attributes; its text is made from them; all of them pickle, attributes,
notes and cause included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class RemoteMediaError(Exception):
    """Base of every error of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__), _portable_cause(self.__cause__))


def _portable_cause(cause: BaseException | None) -> BaseException | None:
    if cause is None:
        return None
    import pickle

    from remotemedia.core.remote_errors import RemoteTraceback  # it is made of these

    try:
        pickle.loads(pickle.dumps(cause))
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it does when pickled, its text still travels
        return RemoteTraceback.of(cause).as_text()
    return cause


def _rebuild(
    kind: type[RemoteMediaError], args: tuple[Any, ...], state: dict[str, Any], cause: BaseException | None
) -> RemoteMediaError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


def _join(*lines: str | None) -> str:
    return "\n".join(line for line in lines if line)


# -- configuration ---------------------------------------------------------------------------------------------------


class ConfigurationError(RemoteMediaError, ValueError):
    """A setting, an option or an argument has a value that cannot work."""


class ManifestError(ConfigurationError):
    """A manifest (or a list given as pipeline) is not valid.

    Attributes: `pointer` JSON pointer of the offending place ("" = the whole document), `reason`, `expected`,
    `close_matches` names that look like the misspelt one, `source` file name if known.
    """

    def __init__(
        self,
        reason: str,
        *,
        pointer: str = "",
        expected: str | None = None,
        close_matches: Sequence[str] = (),
        source: str | None = None,
    ) -> None:
        self.reason, self.pointer, self.expected = reason, pointer, expected
        self.close_matches, self.source = tuple(close_matches), source
        where = f"{source or 'manifest'} at {pointer or 'the top level'}"
        hint = f" Did you mean {' or '.join(map(repr, self.close_matches))}?" if close_matches else ""
        wanted = f" Expected: {expected}." if expected else ""
        super().__init__(f"{where}: {reason}.{wanted}{hint}")


class PipelineError(RemoteMediaError):
    """The pipeline cannot do what was asked of it in its present state."""


class PipelineStalled(PipelineError):
    """All stages wait for each other: the channels between branches that meet again are too small for what one input
    has on one of them. `waiting`: the names of the nodes that wait for room.
    """

    def __init__(self, waiting: Sequence[str], queue_frames: int) -> None:
        self.waiting = tuple(waiting)
        names = " and ".join(map(repr, waiting))
        super().__init__(
            f"the pipeline stands still: {names} {'waits' if len(waiting) == 1 else 'wait'} for room in the channel "
            "to the next node, and no node is at work. Where branches meet again, all that one input has on one branch "
            f"must fit into a channel: raise ChannelConfig(queue_frames={queue_frames}) in PoolConfig(channel=...), or "
            "put the node that makes many outputs of one input behind the place where the branches meet"
        )


class NodeError(RemoteMediaError):
    """A node broke a rule of the node interface. Attributes: `node`, `reason`."""

    def __init__(self, node: str, reason: str) -> None:
        self.node, self.reason = node, reason
        super().__init__(f"node {node!r}: {reason}")


# -- serialization ---------------------------------------------------------------------------------------------------


class SerializationError(RemoteMediaError):
    """A node cannot travel to a worker process.

    Attributes: `node_name`, `reason`, `suggestion`, `attribute_path` (dotted, "" when unknown).
    """

    def __init__(self, node_name: str, reason: str, suggestion: str = "", attribute_path: str = "") -> None:
        self.node_name, self.reason, self.suggestion = node_name, reason, suggestion
        self.attribute_path = attribute_path
        place = f" (attribute {attribute_path})" if attribute_path else ""
        super().__init__(
            _join(
                f"cannot serialize node {node_name!r}{place}: {reason}",
                f"  Try: {suggestion}" if suggestion else None,
            )
        )


class SizeLimitError(SerializationError):
    """The pickled node is larger than the cap.

    Attributes: `size_bytes` (what had been written when the cap was hit: a lower bound), `limit_bytes`,
    `largest` [(attribute, bytes)], at most five, largest first.
    """

    def __init__(
        self, node_name: str, size_bytes: int, limit_bytes: int, largest: Sequence[tuple[str, int]] = ()
    ) -> None:
        self.size_bytes, self.limit_bytes, self.largest = size_bytes, limit_bytes, tuple(largest)
        parts = ", ".join(f"{name} {_size(size)}" for name, size in self.largest)
        super().__init__(
            node_name,
            f"its state is larger than the limit: at least {_size(size_bytes)}, limit {_size(limit_bytes)}"
            + (f"; largest attributes: {parts}" if parts else ""),
            "load large data (models, tables) in initialize(), from a path kept in the node, "
            "instead of carrying it inside the node",
        )


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**20:.1f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:.1f} KiB"


# -- workers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WorkerIdentity:
    """Which worker an error speaks of."""

    node: str
    worker_id: int = 0
    pid: int | None = None
    generation: int = 0

    def __str__(self) -> str:
        pid = f"pid {self.pid}, " if self.pid is not None else ""
        return f"node {self.node!r} (worker {self.worker_id}, {pid}generation {self.generation})"


class WorkerError(RemoteMediaError):
    """Something went wrong in or with one worker process.

    Attributes: `worker` (WorkerIdentity) and, as shorthands, `node`, `worker_id`, `pid`, `generation`; `reason`;
    `frame` number of the frame it was working on or None; `suggestion`; `story` past lifecycle events, oldest first;
    `stderr_tail` last lines the worker wrote; `stacks` Python stacks, where they could be had.
    """

    def __init__(
        self,
        worker: WorkerIdentity,
        reason: str,
        *,
        frame: int | None = None,
        suggestion: str = "",
        story: Sequence[str] = (),
        stderr_tail: str = "",
        stacks: str = "",
        remote_traceback: str = "",
    ) -> None:
        self.worker, self.reason, self.frame, self.suggestion = worker, reason, frame, suggestion
        self.story, self.stderr_tail, self.stacks = tuple(story), stderr_tail, stacks
        self.remote_traceback = remote_traceback
        super().__init__(
            _join(
                f"{worker} {reason}",
                f"  Frame: {frame}" if frame is not None and f"frame {frame}" not in reason else None,
                f"  Try: {suggestion}" if suggestion else None,
                f"  Story: {' → '.join(self.story)}" if story else None,
                f"  Stacks:\n{_indent(stacks)}" if stacks else None,
                f"  Last lines of stderr:\n{_indent(stderr_tail)}" if stderr_tail else None,
                f"  Traceback in the worker:\n{_indent(remote_traceback)}" if remote_traceback else None,
            )
        )

    @property
    def node(self) -> str:
        return self.worker.node

    @property
    def worker_id(self) -> int:
        return self.worker.worker_id

    @property
    def pid(self) -> int | None:
        return self.worker.pid

    @property
    def generation(self) -> int:
        return self.worker.generation


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.rstrip().splitlines())


class WorkerStartError(WorkerError):
    """A worker could not be started."""


class WorkerStartTimeout(WorkerStartError):
    """A worker did not get ready in time; `stacks` shows where it hangs."""


class NodeInitializeError(WorkerStartError):
    """`initialize()` of the node raised in the worker; `__cause__` is that exception."""


class NodeNotLoadable(WorkerStartError):
    """The worker could not unpickle the node; `__cause__` is that exception."""


class NodeProcessError(WorkerError):
    """`process()` or `flush()` of a node raised; `__cause__` is the user's exception. `frame` is the frame's number; at
    the end of the stream, the number after the last.
    """


class WorkerDied(WorkerError):
    """A worker's process ended without being asked to.

    Attributes: `signal` name ("SIGSEGV") or None, `exit_code` or None, `likely_cause`.
    """

    def __init__(
        self,
        worker: WorkerIdentity,
        *,
        signal: str | None = None,
        exit_code: int | None = None,
        frame: int | None = None,
        likely_cause: str = "",
        suggestion: str = "",
        story: Sequence[str] = (),
        stderr_tail: str = "",
        stacks: str = "",
    ) -> None:
        self.signal, self.exit_code, self.likely_cause = signal, exit_code, likely_cause
        how = f"was killed by {signal}" if signal else f"exited with code {exit_code} without a goodbye"
        if signal is None and exit_code is None:
            how = "ended (its exit status was reaped elsewhere)"
        when = (
            f" while processing frame {frame}; the outcome of that frame is unknown."
            if frame is not None
            else " while no frame was being processed."
        )
        cause = f" Likely cause: {likely_cause}." if likely_cause else ""
        super().__init__(
            worker,
            how + when + cause,
            frame=frame,
            suggestion=suggestion,
            story=story,
            stderr_tail=stderr_tail,
            stacks=stacks,
        )


class WorkerUnresponsive(WorkerError):
    """A worker did not react in time, or worked on one frame for too long, and was killed.

    Attributes: `waited_s`; `process_state`: its letter in /proc ("R", "S", "D", "T"), "" if unknown; `explanation` of
    that state.
    """

    def __init__(
        self,
        worker: WorkerIdentity,
        *,
        waited_s: float,
        process_state: str = "",
        explanation: str = "",
        doing: str = "did not react",
        outcome: str = "was killed",
        frame: int | None = None,
        suggestion: str = "",
        story: Sequence[str] = (),
        stderr_tail: str = "",
        stacks: str = "",
    ) -> None:
        self.waited_s, self.process_state, self.explanation = waited_s, process_state, explanation
        known = ": ".join(part for part in (process_state, explanation) if part)
        state = f" (process state {known})" if known else ""
        super().__init__(
            worker,
            f"{doing} for {waited_s:.1f} s{state} and {outcome}.",
            frame=frame,
            suggestion=suggestion,
            story=story,
            stderr_tail=stderr_tail,
            stacks=stacks,
        )


class RestartLimitExceeded(WorkerError):
    """A worker died too often in too short a time. Attributes: `restarts`, `period_s`."""

    def __init__(
        self, worker: WorkerIdentity, *, restarts: int, period_s: float, story: Sequence[str] = ()
    ) -> None:
        self.restarts, self.period_s = restarts, period_s
        super().__init__(worker, f"died again after {restarts} restarts within {period_s:g} s.", story=story)


# -- channels --------------------------------------------------------------------------------------------------------


class ChannelError(RemoteMediaError):
    """A frame could not be moved. Attributes: `channel` name, `reason`."""

    def __init__(self, channel: str, reason: str) -> None:
        self.channel, self.reason = channel, reason
        super().__init__(f"channel {channel!r}: {reason}")


class ChannelClosed(ChannelError):
    """This side closed the channel."""


class ChannelBroken(ChannelError):
    """The other side of the channel is gone."""


class ChannelFull(ChannelError):
    """There is no credit for another frame."""


class FrameTooLarge(ChannelError):
    """Attributes: `size_bytes`, `limit_bytes`."""

    def __init__(self, channel: str, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes
        super().__init__(
            channel,
            f"a frame of {size_bytes} bytes is larger than the limit of {limit_bytes} bytes; "
            "raise ChannelConfig(max_frame_bytes=...) or send smaller frames",
        )


class SharedMemoryExhausted(ChannelError):
    """There is not enough shared memory. Attributes: `need_bytes`, `free_bytes`."""

    def __init__(self, channel: str, need_bytes: int, free_bytes: int) -> None:
        self.need_bytes, self.free_bytes = need_bytes, free_bytes
        super().__init__(
            channel,
            f"shared memory (/dev/shm) is full: {need_bytes / 1e6:.1f} MB needed, {free_bytes / 1e6:.1f} MB free; "
            "enlarge it (docker run --shm-size=1g), set smaller ChannelConfig(queue_frames=, window_bytes=), "
            "or run `remotemedia clean`",
        )


# -- control plane ---------------------------------------------------------------------------------------------------


class ProtocolError(RemoteMediaError):
    """The other side of the control plane broke the protocol."""


class MalformedMessage(ProtocolError):
    """Bytes that are no valid control message. Attribute: `reason`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"malformed control message: {reason}")


class ProtocolVersionMismatch(ProtocolError):
    """Attributes: `ours`, `theirs`."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.theirs = ours, theirs
        super().__init__(f"control protocol version {theirs} of the worker is not version {ours} of the coordinator")


# -- pool ------------------------------------------------------------------------------------------------------------


class PoolClosed(RemoteMediaError):
    """The pool is closed (or belongs to another process, loop or thread: the text says which)."""


class PoolBroken(RemoteMediaError):
    """The pool lost a worker for good and takes no more frames; `__cause__` says why."""


# -- errors of other processes ---------------------------------------------------------------------------------------


class RemoteExceptionText(RemoteMediaError):
    """Stands for a worker's exception whose type cannot be imported here. Attributes: `type_name`, `text`."""

    def __init__(self, type_name: str, text: str) -> None:
        self.type_name, self.text = type_name, text
        super().__init__(f"{type_name}: {text}")
