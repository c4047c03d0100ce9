"""From a frame with the flag FAILED to the error that its caller gets."""

from __future__ import annotations

from collections.abc import Callable

from remotemedia.core.exceptions import (
    NodeProcessError,
    ProtocolError,
    RemoteMediaError,
    WorkerDied,
    WorkerError,
    WorkerIdentity,
)
from remotemedia.core.remote_errors import described, raised
from remotemedia.events import FrameFailed, FrameSkipped
from remotemedia.ipc.messages import Failed, FailedPhase, decode
from remotemedia.workers.event_bus import EventBus
from remotemedia.workers.obituary import error_of_report


class FrameErrors:
    """The errors of single frames in one pool."""

    def __init__(
        self,
        identity_of: Callable[[int], WorkerIdentity],
        poison_error: Callable[[int, int], WorkerError | None],
        events: EventBus,
    ) -> None:
        """`poison_error(worker_id, number)`: how the worker died of a frame that was given up, if that is known."""
        self._identity_of, self._poison_error, self._events = identity_of, poison_error, events
        self._kept: dict[tuple[int, int], BaseException] = {}

    def note_inline(self, worker_id: int, done: str, number: int, error: BaseException) -> None:
        """The node of a stage in this process failed on a frame: keep the exception itself until its frame comes."""
        if done == "skip":
            self.note_skipped(worker_id, number, described(error))
        else:
            self._kept[worker_id, number] = error

    def note_skipped(self, worker_id: int, number: int, text: str) -> None:
        """A node failed on a frame that has no output therefore."""
        self._events.emit(FrameSkipped.of(self._identity_of(worker_id), text, frame=number))

    def error_of(self, data: bytes) -> RemoteMediaError:
        """The error that a frame with this content tells of."""
        try:
            report = decode(data, "to_coordinator")
        except ProtocolError as malformed:
            return malformed
        assert isinstance(report, Failed)
        assert report.worker_id is not None
        assert report.frame is not None
        worker = self._identity_of(report.worker_id)
        error = self._error(report, worker, report.worker_id, report.frame)
        self._events.emit(FrameFailed.of(worker, error.reason.partition("\n")[0], frame=report.frame))
        return error

    def _error(self, report: Failed, worker: WorkerIdentity, worker_id: int, number: int) -> WorkerError:
        if report.phase == "died":
            return self._poison_error(worker_id, number) or WorkerDied(worker, frame=number)
        kept = self._kept.pop((worker_id, number), None)
        return error_of_report(report, worker) if kept is None else inline_error(worker, report.phase, kept, number)


def inline_error(
    worker: WorkerIdentity, phase: FailedPhase, cause: BaseException, frame: int | None
) -> NodeProcessError:
    """The error for an exception that a node raised in this process, which is its `__cause__`."""
    error = NodeProcessError(worker, raised(phase, described(cause), frame), frame=frame)
    error.__cause__ = cause
    return error
