"""What a worker may use: whose limits are whose, and its memory, measured beside the event loop."""

from __future__ import annotations

import asyncio
import difflib
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Literal

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.workers.diagnose import memory_bytes

_HIGH = 0.8
"""The part of the memory limit at which there is a warning."""


def limits_of(graph: Graph, config: PoolConfig) -> tuple[WorkerLimits, ...]:
    """The limits of each node. Raises ConfigurationError for an id that no node has, and for what is no WorkerLimits.

    What the configuration says for the node's id comes first, then the node's own, then what it says for all.
    """
    by_id: Mapping[str, WorkerLimits] = config.limits if isinstance(config.limits, Mapping) else {}
    for_all = WorkerLimits() if isinstance(config.limits, Mapping) else config.limits
    for node_id in by_id:
        if node_id not in graph.ids:
            close = difflib.get_close_matches(node_id, graph.ids)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise ConfigurationError(f"limits: there is no node {node_id!r}, only {', '.join(graph.ids)}{hint}")
    chosen = []
    for node_id, node in zip(graph.ids, graph.nodes, strict=True):
        limits = by_id.get(node_id) or getattr(node, "worker_limits", None) or for_all
        if not isinstance(limits, WorkerLimits):
            raise ConfigurationError(f"worker_limits of node {node_id!r} must be a WorkerLimits, not {limits!r}")
        chosen.append(limits)
    return tuple(chosen)


def memory_reason(nbytes: int, limits: WorkerLimits) -> tuple[Literal["fine", "high", "limit"], str]:
    """How `nbytes` stand to the limit, and that in words."""
    limit = limits.memory_limit_bytes
    if limit is None or nbytes < _HIGH * limit:
        return "fine", ""
    text = f"uses {nbytes / 2**20:.1f} MiB of memory (PSS), memory_limit_bytes is {limit / 2**20:.1f} MiB"
    return ("limit" if nbytes >= limit else "high"), text


class MemorySampler:
    """Measures the memory of processes in a thread of its own, which exists from the first request on.

    The kernel walks through all of a process's pages for that: too long for an event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_sample: Callable[[int, int, int], None]) -> None:
        """`on_sample(worker_id, pid, bytes)` is called in the loop."""
        self._loop, self._on_sample = loop, on_sample
        self._requests: queue.SimpleQueue[list[tuple[int, int]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def request(self, processes: Iterable[tuple[int, int]]) -> None:
        """Measure these (worker id, pid); nothing is queued while the last request is not done."""
        wanted = list(processes)
        if not wanted or not self._requests.empty():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="remotemedia-memory", daemon=True)
            self._thread.start()
        self._requests.put(wanted)

    def close(self) -> None:
        """End the thread. Idempotent."""
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (wanted := self._requests.get()) is not None:
            for worker_id, pid in wanted:
                nbytes = memory_bytes(pid)
                if nbytes is not None:
                    with suppress(RuntimeError):  # the loop is closed
                        self._loop.call_soon_threadsafe(self._on_sample, worker_id, pid, nbytes)
