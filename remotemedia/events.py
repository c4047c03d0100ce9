"""What happens in a worker pool, as `WorkerPool.events()` tells it.

Every event says which worker it is about (`node` is "" where it is about the whole pool), why (`reason`), and when
(`time_s`: seconds of the monotonic clock).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, ClassVar, Self

from remotemedia.core.exceptions import WorkerIdentity


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. `pid` is None for a node that runs in the coordinator."""

    level: ClassVar[int] = logging.INFO
    """At which it is logged."""
    node: str = ""
    worker_id: int | None = None
    pid: int | None = None
    generation: int = 0
    reason: str = ""
    time_s: float = field(default_factory=monotonic)

    @classmethod
    def of(cls, worker: WorkerIdentity, reason: str = "", **more: Any) -> Self:
        """An event about this worker."""
        return cls(
            node=worker.node,
            worker_id=worker.worker_id,
            pid=worker.pid,
            generation=worker.generation,
            reason=reason,
            **more,
        )

    @property
    def words(self) -> str:
        """What has happened: "frame skipped"."""
        return re.sub("(?<=[a-z])(?=[A-Z])", " ", type(self).__name__).lower()

    def __str__(self) -> str:
        about = ""
        if self.worker_id is not None:
            who = WorkerIdentity(
                node=self.node, worker_id=self.worker_id, pid=self.pid, generation=self.generation
            )
            about = f" {who}"
        return f"{type(self).__name__}{about}{self._details()}{': ' if self.reason else ''}{self.reason}"

    def _details(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The process of a worker has been started."""

    level: ClassVar[int] = logging.DEBUG


@dataclass(frozen=True, kw_only=True)
class Ready(Event):
    """The node of a worker is initialized."""

    level: ClassVar[int] = logging.DEBUG


@dataclass(frozen=True, kw_only=True)
class Died(Event):
    """A worker has ended, or has become useless, without being asked to."""


@dataclass(frozen=True, kw_only=True)
class Restarted(Event):
    """A new process has been started in place of a worker that died: `generation` and `pid` are its own.
    `Ready` follows when its node is initialized."""


@dataclass(frozen=True, kw_only=True)
class Stalled(Event):
    """A worker gives no sign of life, or is at one frame for too long."""

    silent_s: float = 0.0
    """For how long it has done either."""

    def _details(self) -> str:
        return f" for {self.silent_s:.1f} s"


@dataclass(frozen=True, kw_only=True)
class _AboutFrame(Event):
    frame: int = 0
    """Number of the frame in the pool."""

    def _details(self) -> str:
        return f" (frame {self.frame})"


@dataclass(frozen=True, kw_only=True)
class FrameFailed(_AboutFrame):
    """A node failed on a frame, whose caller got the error."""

    level: ClassVar[int] = logging.DEBUG


@dataclass(frozen=True, kw_only=True)
class FrameSkipped(_AboutFrame):
    """A node failed on a frame, which has no output therefore (`on_error="skip"`)."""

    level: ClassVar[int] = logging.DEBUG


@dataclass(frozen=True, kw_only=True)
class FrameDropped(Event):
    """An item of a live source was dropped because the pipeline was behind (`overflow="drop_oldest"`)."""

    level: ClassVar[int] = logging.DEBUG
    dropped: int = 0
    """How many of that stream by now."""

    def _details(self) -> str:
        return f" ({self.dropped} by now)"


@dataclass(frozen=True, kw_only=True)
class MemoryWarning(Event):
    """A worker uses much of the memory that it may use."""

    pss_bytes: int = 0
    limit_bytes: int = 0

    def _details(self) -> str:
        return f" ({self.pss_bytes / 2**20:.0f} of {self.limit_bytes / 2**20:.0f} MiB)"


@dataclass(frozen=True, kw_only=True)
class Closed(Event):
    """The pool is closed. The last event."""

    level: ClassVar[int] = logging.DEBUG
