"""Metrics of running pools for Prometheus: asked for when they are scraped, from outside of the pools.

    with MetricsServer(9464):       # /metrics and /healthz, in a thread of its own
        ...

Serves the pools of this process, or all that this user runs on this machine. Needs the extra `[metrics]`.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.watching import WatchedPool, Watcher

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_ANSWER_S = 2.0
_REQUEST_S = 5.0
_HEALTHY = {"ready", "inline"}


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
                ready.add_metric([pool.pool_id, worker.node], float(worker.state in _HEALTHY))
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
        complaints = []
        for pool in self.pools():
            if pool.view is None or pool.problem:
                complaints.append(f"pool {pool.pool_id}: {pool.problem or 'no answer'}")
                continue
            if pool.view.state != "running":
                complaints.append(f"pool {pool.pool_id}: {pool.view.state}")
            complaints += [
                f"pool {pool.pool_id}: {worker.node} is {worker.state}"
                for worker in pool.view.workers
                if worker.state not in _HEALTHY
            ]
        return not complaints, "".join(f"{line}\n" for line in complaints) or "ok\n"

    def close(self) -> None:
        self._watcher.close()


class _Server(TCPServer):
    """HTTPServer without its look-up of this machine's name, which may take long."""

    allow_reuse_address = True


class MetricsServer:
    """Serves /metrics and /healthz (200, or 503 with the reasons) until `close`; a context manager.

    `wanted`: see PoolsCollector; default: the pools of this process. `port` 0: any free one, see `port`. Raises
    ConfigurationError if the port cannot be had, ImportError without prometheus_client.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", wanted: str | None = "") -> None:
        self.collector = PoolsCollector(str(os.getpid()) if wanted == "" else wanted)
        try:
            self._server = _Server((host, port), _handler(self.collector))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(f"cannot serve metrics on {host}:{port}: {why}; choose another port") from None
        self.port = int(self._server.server_address[1])
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def serve(self) -> None:
        """Answer requests, in this thread, until `close` is called in another."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._stop_fd, selectors.EVENT_READ)
            while all(key.fd != self._stop_fd for key, _ in selector.select()):
                self._server._handle_request_noblock()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve, name="remotemedia-metrics", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more answers. Idempotent."""
        if self._stop_fd < 0:
            return
        if self._thread is not None:
            os.eventfd_write(self._stop_fd, 1)
            self._thread.join()
        self._server.server_close()
        self.collector.close()
        os.close(self._stop_fd)
        self._stop_fd = -1


def _handler(collector: PoolsCollector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S  # one after the other: who is slow must not keep the others

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", collector.text())
            elif path == "/healthz":
                healthy, text = collector.health()
                self._answer(200 if healthy else 503, "text/plain; charset=utf-8", text.encode())
            else:
                self._answer(404, "text/plain; charset=utf-8", b"there are /metrics and /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name there
            """Scrapes are no news."""

    return Handler
