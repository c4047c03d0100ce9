"""The figures of one stage, as its pool knows them and as observers get them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WorkerFigures:
    """One stage as it is now. `pid` and `pss_bytes` are None and `state` is "inline" for a node that runs in the
    coordinator.

    `fps` (calls per second) and `cpu_percent` (100: one processor) are means since the snapshot before, or the start.
    `queue`: inputs that its predecessors have passed on and it has not taken yet. `drops`: inputs without output
    because of `on_error="skip"`. `pss_bytes`: memory, what is shared with others counted in proportion.
    """

    node: str
    worker_id: int
    pid: int | None
    state: str
    generation: int
    restarts: int
    frames: int
    fps: float
    p50_us: float
    p99_us: float
    queue: int
    errors: int
    drops: int
    bytes_in: int
    bytes_out: int
    copies: int
    cpu_percent: float
    pss_bytes: int | None
