"""Metrics of running pools for Prometheus: asked for when they are scraped, from outside of the pools.

    with MetricsServer(9464):       # /metrics and /healthz, in a thread of its own
        ...

Serves the pools of this process, or all that this user runs on this machine. Needs the extra `[metrics]`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from remotemedia.watching import WatchedPool, Watcher, health_of, is_healthy
from remotemedia.web import Request, WebServer

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

METRICS_TYPE = "text/plain; version=0.0.4"
_ANSWER_S = 2.0


class _Figure(NamedTuple):
    name: str
    kind: str
    help: str
    field: str
    scale: float = 1.0


_FIGURES = (
    _Figure("frames", "counter", "Calls of process().", "frames"),
    _Figure("errors", "counter", "Frames on which the node raised.", "errors"),
    _Figure("drops", "counter", "Frames without output because of on_error=skip.", "drops"),
    _Figure("restarts", "counter", "Times that the worker was replaced.", "restarts"),
    _Figure("received_bytes", "counter", "Bytes of frames taken in.", "bytes_in"),
    _Figure("sent_bytes", "counter", "Bytes of frames passed on.", "bytes_out"),
    _Figure("copies", "counter", "Frames that were copied into shared memory.", "copies"),
    _Figure("queue_frames", "gauge", "Frames that wait for the worker.", "queue"),
    _Figure("cpu_ratio", "gauge", "Processor time since the last scrape; 1 is one processor.", "cpu_percent", 0.01),
    _Figure("pss_bytes", "gauge", "Memory, what is shared with others counted in proportion.", "pss_bytes"),
    _Figure("process_seconds_p50", "gauge", "Median time of process().", "p50_us", 1e-6),
    _Figure("process_seconds_p99", "gauge", "99th percentile of the time of process().", "p99_us", 1e-6),
)


def metrics_of(pools: Iterable[WatchedPool]) -> list[Metric]:
    """What prometheus_client writes out for these pools."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    pools = list(pools)
    kinds: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    up = GaugeMetricFamily("remotemedia_pool_up", "1: the pool answers and is running.", labels=["pool"])
    shm = GaugeMetricFamily("remotemedia_pool_shm_bytes", "Memory of the pool in /dev/shm.", labels=["pool"])
    uptime = GaugeMetricFamily("remotemedia_pool_uptime_seconds", "Since the pool was started.", labels=["pool"])
    sessions = GaugeMetricFamily("remotemedia_pool_sessions", "Sessions under way.", labels=["pool"])
    ready = GaugeMetricFamily("remotemedia_worker_ready", "1: the worker takes frames.", labels=["pool", "node"])
    families = []
    for pool in pools:
        is_up = not pool.problem and pool.view is not None and pool.view.state == "running"
        up.add_metric([pool.pool_id], float(is_up))
        if pool.view is not None:
            shm.add_metric([pool.pool_id], pool.shm_bytes)
            uptime.add_metric([pool.pool_id], pool.view.uptime_s)
            sessions.add_metric([pool.pool_id], pool.view.sessions)
            for worker in pool.view.workers:
                ready.add_metric([pool.pool_id, worker.node], float(is_healthy(worker)))
    for figure in _FIGURES:
        family = kinds[figure.kind](f"remotemedia_worker_{figure.name}", figure.help, labels=["pool", "node"])
        for pool in pools:
            for worker in pool.view.workers if pool.view is not None else ():
                value = pool.pss.get(worker.pid) if figure.field == "pss_bytes" else getattr(worker, figure.field)
                if value is not None:
                    family.add_metric([pool.pool_id, worker.node], value * figure.scale)
        families.append(family)
    return [up, shm, uptime, sessions, ready, *families]


class PoolsCollector:
    """A collector for a prometheus_client registry of your own: `registry.register(PoolsCollector())`.

    `wanted`: the beginning of a pool's id or the pid of its process; None: all pools that this user runs here. Not for
    several threads at once. Raises ImportError without prometheus_client.
    """

    def __init__(self, wanted: str | None = None) -> None:
        import prometheus_client  # noqa: F401 - to be missed now, not at the first scrape

        self._watcher = Watcher(wanted)

    def pools(self) -> list[WatchedPool]:
        """The pools as they are now; waits for those that do not answer for two seconds at most."""
        self._watcher.look()
        self._watcher.ask()
        self._watcher.wait_for_answers(_ANSWER_S)
        return list(self._watcher.pools.values())

    def collect(self) -> list[Metric]:
        return metrics_of(self.pools())

    def describe(self) -> list[Metric]:
        """Without looking at any pool."""
        return metrics_of([])

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def health(self) -> tuple[bool, str]:
        """Whether every pool runs and every worker takes frames, and a line about each that does not."""
        return health_of(line for pool in self.pools() for line in pool.complaints())

    def close(self) -> None:
        self._watcher.close()


class MetricsServer:
    """Serves /metrics and /healthz (200, or 503 with the reasons) until `close`; a context manager.

    `wanted`: see PoolsCollector; default: the pools of this process. `port` 0: any free one, see `port`. Raises
    ConfigurationError if the port cannot be had, ImportError without prometheus_client.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", wanted: str | None = "") -> None:
        self.collector = PoolsCollector(str(os.getpid()) if wanted == "" else wanted)
        self._one_at_a_time = threading.Lock()
        self._web = WebServer(host, port, self._respond, what="metrics")
        self.port = self._web.port
        self._closed = False

    def serve(self) -> None:
        """Answer requests, in this thread, until `close` is called in another."""
        self._web.serve()

    def __enter__(self) -> Self:
        self._web.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _respond(self, request: Request) -> None:
        if request.route == "/metrics":
            with self._one_at_a_time:
                text = self.collector.text()
            request.answer(200, METRICS_TYPE, text)
        elif request.route == "/healthz":
            with self._one_at_a_time:
                healthy, complaints = self.collector.health()
            request.answer(200 if healthy else 503, "text/plain", complaints.encode())
        else:
            request.answer(404, "text/plain", b"there are /metrics and /healthz\n")

    def close(self) -> None:
        """No more answers. Idempotent."""
        if not self._closed:
            self._closed = True
            self._web.close()
            self.collector.close()
