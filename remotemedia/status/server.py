"""The HTTP side of the status page: who may ask, and what is answered."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from remotemedia import web
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.status import feed
from remotemedia.status.feed import Feed
from remotemedia.status.page import Page
from remotemedia.watching import health_of
from remotemedia.web import Request, WebServer
from remotemedia.workers.running import PoolPlace

if TYPE_CHECKING:
    from remotemedia.metrics import PoolsCollector

MOST_BROWSERS = 16
_PATHS = ("/", "/events", "/snapshot", "/healthz", "/metrics")
_WHAT = f"there are {', '.join(_PATHS)}\n".encode()
_BUSY = f"{MOST_BROWSERS} others are looking already\n".encode()
_NO_METRICS = b"metrics need prometheus_client: pip install 'remotemedia[metrics]'\n"
_NO_HOST = (
    b"This page answers only to the names of this machine, so that other web sites cannot read it through your "
    b"browser. Use the address that serve_status() gave, or allow the name: serve_status(allowed_hosts=[...])\n"
)


@cache
def _page() -> Page:
    return Page.load(files("remotemedia.status"))


class StatusServer:
    """Serves, until `close` or `aclose`, what is to be seen of one pool:

    `/` the page; `/events` its server-sent events; `/snapshot` the same facts as JSON; `/healthz` 200, or 503 with the
    reasons; `/metrics` for Prometheus, if prometheus_client is installed.

    `allowed_hosts`: names, beside this machine's own, under which a browser may ask (a reverse proxy's). Raises
    ConfigurationError if the port cannot be had.
    """

    def __init__(
        self, place: PoolPlace, port: int = 0, host: str = "127.0.0.1", *, allowed_hosts: Sequence[str] = ()
    ) -> None:
        if isinstance(allowed_hosts, str):
            raise ConfigurationError(f"allowed_hosts={allowed_hosts!r}: expected a list of names")
        self._hosts = {"localhost", host.lower(), *(name.lower() for name in allowed_hosts)}
        self._host, self._place = host, place
        self._page = _page()
        self._browsers = threading.BoundedSemaphore(MOST_BROWSERS)
        self._scraping = threading.Lock()
        self._collector: PoolsCollector | None = None
        self._owner_pid = os.getpid()
        self._feed = Feed(place)
        try:
            self._web = WebServer(host, port, self._respond, what="the status page")
        except BaseException:
            self._feed.close()
            raise
        self.port = self._web.port
        try:
            self._feed.start()
            self._web.start()
        except BaseException:  # no further thread
            self.close()
            raise

    @property
    def url(self) -> str:
        """What to type into a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - read, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def close(self) -> None:
        """No more answers; open pages say that the connection is lost. Idempotent; nothing in a forked copy."""
        if os.getpid() != self._owner_pid:
            return
        if threading.current_thread().name in {web.THREAD_NAME, feed.THREAD_NAME}:
            # The garbage collector has found the pool in a thread of ours, which may hold what the others wait for.
            threading.Thread(target=self.close, name="remotemedia-closing", daemon=True).start()
            return
        self._feed.close()
        self._web.close()
        with self._scraping:
            if self._collector is not None:
                self._collector.close()
                self._collector = None

    async def aclose(self) -> None:
        """The same, without stopping the event loop meanwhile."""
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"<StatusServer of pool {self._place.pool_id} at {self.url}>"

    def may_ask(self, host: str | None) -> bool:
        """Whether the header Host names this machine. A name that somebody else's DNS points here does not; numbers
        cannot be pointed anywhere.
        """
        name = (host or "").strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in self._hosts:
            return True
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return False

    # -- what is answered, in a thread of the request's own ------------------------------------------------------------

    def _respond(self, request: Request) -> None:
        if not self.may_ask(request.headers.get("Host")):
            request.answer(421, "text/plain", _NO_HOST)
        elif request.route == "/":
            request.answer(200, "text/html", self._page.html, self._page.headers)
        elif request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            request.answer(403, "text/plain", b"only for the page itself\n")
        elif request.route == "/events":
            self._tell_events(request)
        elif request.route == "/snapshot":
            request.answer(200, "application/json", self._feed.fresh().json)
        elif request.route == "/healthz":
            healthy, text = health_of(self._feed.fresh().complaints)
            request.answer(200 if healthy else 503, "text/plain", text.encode())
        elif request.route == "/metrics":
            self._tell_metrics(request)
        else:
            request.answer(404, "text/plain", _WHAT)

    def _tell_events(self, request: Request) -> None:
        if not self._browsers.acquire(blocking=False):
            request.answer(503, "text/plain", _BUSY, {"Retry-After": "2"})
            return
        try:
            request.begin(200, "text/event-stream", {"X-Accel-Buffering": "no"})  # for nginx
            if request.command == "HEAD":
                return
            request.wfile.write(b"retry: 2000\n\n")
            with self._feed.listening() as before:
                version = before
                while (picture := self._feed.after(version)) is not None:
                    version = picture.version
                    request.wfile.write(b"data: %b\n\n" % picture.json)
        finally:
            self._browsers.release()

    def _tell_metrics(self, request: Request) -> None:
        from remotemedia.metrics import METRICS_TYPE, PoolsCollector

        try:
            with self._scraping:
                self._collector = self._collector or PoolsCollector(self._place.pool_id)
                text = self._collector.text()
        except ImportError:
            request.answer(404, "text/plain", _NO_METRICS)
        else:
            request.answer(200, METRICS_TYPE, text)
