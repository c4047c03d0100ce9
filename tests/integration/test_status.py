"""The status page of a running pool, as a program sees it: what is served, to whom, until when."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack

import pytest

from remotemedia.cli import main
from remotemedia.core.exceptions import ConfigurationError, PoolClosed
from remotemedia.core.graph import Graph
from remotemedia.status.server import MOST_BROWSERS
from remotemedia.workers.pool import WorkerPool
from tests.nodes import Add, FailAt

DEADLINE_S = 60.0
SCRIPT = "<script>alert('a')</script>"


def get(page, path, *, method="GET", **headers):
    """(status, headers, body) of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


class Browser:
    """Listens to the page's events."""

    def __init__(self, page):
        self._connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=DEADLINE_S)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def next(self):
        """The next picture; None when there will be none."""
        while line := self._answer.readline():
            if line.startswith(b"data: "):
                return json.loads(line.removeprefix(b"data: "))
        return None

    def until(self, condition):
        while not condition(found := self.next()):
            assert found is not None, "the page ended"
        return found

    def close(self):
        self._answer.close()
        self._connection.close()


@pytest.fixture
def browsers():
    opened = []

    def open_browser(page):
        opened.append(Browser(page))
        return opened[-1]

    yield open_browser
    for browser in opened:
        browser.close()


def diamond():
    nodes = (Add(1, name=SCRIPT), Add(10, name="b"), Add(100, name="c", executor="inline"), FailAt(1, ValueError("no")))
    return Graph(nodes, tuple(node.name for node in nodes), ((0, 1), (0, 2), (1, 3), (2, 3)))


async def test_what_is_served_and_to_whom():
    async with WorkerPool(diamond()) as pool:
        for value in range(5):
            assert await pool.process(value) == [value + 11, value + 101]
        page = await pool.serve_status(allowed_hosts=["proxy.example"])

        def ask(path, **headers):
            return asyncio.to_thread(get, page, path, **headers)

        status, headers, body = await ask("/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "script-src 'sha256-" in headers["Content-Security-Policy"]
        assert SCRIPT.encode() not in body

        status, headers, body = await ask("/snapshot")
        assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        assert headers["X-Content-Type-Options"] == "nosniff"  # a name that looks like HTML stays text
        facts = json.loads(body)
        assert [worker["node"] for worker in facts["workers"]] == [SCRIPT, "b", "c", "FailAt"]
        assert [worker["frames"] for worker in facts["workers"]] == [5, 5, 5, 10]
        assert facts["edges"] == [[0, 1], [0, 2], [1, 3], [2, 3]]
        assert facts["layout"]["places"] == [[0, 0.0], [1, -0.5], [1, 0.5], [2, 0.0]]
        assert facts["kinds"] == ["Add", "Add", "Add", "FailAt"]
        assert (facts["frames_in"], facts["frames_out"], facts["state"], facts["error"]) == (5, 5, "running", "")
        assert facts["workers"][0]["pss_bytes"] > 1_000_000
        assert facts["shm_bytes"] > 0
        assert facts["shm_free_bytes"] > 0
        assert sorted(event["node"] for event in facts["events"] if event["kind"] == "Ready") == [SCRIPT, "FailAt", "b"]

        assert (await ask("/healthz"))[::2] == (200, b"ok\n")
        assert b"remotemedia_worker_frames_total" in (await ask("/metrics"))[2]
        assert (await ask("/", method="HEAD"))[::2] == (200, b"")
        assert (await ask("/nothing"))[0] == 404
        assert (await ask("/", Host="evil.example"))[0] == 421
        assert (await ask("/snapshot", Host="evil.example"))[0] == 421
        assert (await ask("/healthz", Host="proxy.example:8080"))[0] == 200
        assert (await ask("/snapshot", **{"Sec-Fetch-Site": "cross-site"}))[0] == 403
        assert (await ask("/", **{"Sec-Fetch-Site": "cross-site"}))[0] == 200  # a link

        with pytest.raises(ConfigurationError, match=rf"0\.1:{page.port}: Address already in use; choose another port"):
            await pool.serve_status(page.port)
        with pytest.raises(ConfigurationError, match="port -1: expected 0"):
            await pool.serve_status(-1)

        with pytest.raises(Exception, match="no"):
            await pool.process(-10)
        (error,) = json.loads((await ask("/snapshot"))[2])["errors"]
        assert (error["kind"], error["node"], error["count"]) == ("FrameFailed", "FailAt", 1)
        assert "ValueError: no" in error["text"]

        await page.aclose()
        await page.aclose()
        with pytest.raises(ConnectionRefusedError):
            await ask("/healthz")
        other = await pool.serve_status(page.port)  # the port is free again
        assert (other.port, page.url) == (page.port, other.url)
    with pytest.raises(ConnectionRefusedError):
        await ask("/healthz")
    with pytest.raises(PoolClosed):
        await pool.serve_status()


async def test_browsers_see_what_happens_and_the_end(browsers):
    async with WorkerPool([Add(1, name="a"), Add(1, name="b")]) as pool:
        page = await pool.serve_status()
        first, second = browsers(page), browsers(page)
        before = await asyncio.to_thread(first.next)
        pid = before["workers"][1]["pid"]
        os.kill(pid, signal.SIGKILL)
        assert await pool.process(1) == 3

        def is_back(facts):
            return facts["workers"][1]["generation"] == 1 and facts["workers"][1]["state"] == "ready"

        for browser in (first, second):
            after = await asyncio.to_thread(browser.until, is_back)
            assert after["workers"][1]["pid"] != pid
            assert after["workers"][1]["restarts"] == 1
            assert {"Died", "Restarted"} <= {event["kind"] for event in after["events"]}
            assert (after["errors"][0]["kind"], after["errors"][0]["pid"]) == ("Died", pid)
            assert "SIGKILL" in after["errors"][0]["text"]

        crowd = [await asyncio.to_thread(browsers, page) for _ in range(MOST_BROWSERS - 1)]
        assert [browser.status for browser in crowd] == [200] * (MOST_BROWSERS - 2) + [503]
        for browser in crowd:
            browser.close()
        feed = page._feed
        while feed._listeners > 2:  # they are missed when something is sent to them
            await asyncio.to_thread(first.next)
    assert await asyncio.to_thread(first.until, lambda facts: facts is None) is None
    assert await asyncio.to_thread(second.until, lambda facts: facts is None) is None


def test_without_asyncio(monkeypatch):
    with WorkerPool([Add(1, name="a")]) as pool:
        assert pool.run(1) == 2
        page = pool.show_status()
        assert json.loads(get(page, "/snapshot")[2])["workers"][0]["frames"] == 1
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        status, _, body = get(page, "/metrics")
        assert (status, b"pip install 'remotemedia[metrics]'" in body) == (404, True)
    with pytest.raises(ConnectionRefusedError):
        get(page, "/healthz")


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_a_dropped_pool_takes_its_page_with_it(browsers):
    pools = [WorkerPool([Add(1, name="a")]).__enter__()]
    page = pools[0].show_status()
    browser = browsers(page)
    assert browser.next()["state"] == "running"
    with pytest.warns(ResourceWarning, match="was never closed"):  # noqa: PT031 - a thread of the page may hold it last
        pools.clear()
        gc.collect()
        assert browser.until(lambda facts: facts is None) is None


NODES = """
    from remotemedia import Node

    class Endless(Node):
        def process(self):
            while True:
                yield 1

    endless = [Endless(name="endless")]
"""


def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "looked_at.py").write_text(textwrap.dedent(NODES))
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "looked_at:endless", "--status-port", "0", "--output", "o.rmf"]
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: --status-port: no node runs in a worker process; add --executor")
    with ExitStack() as stack:
        command = [sys.executable, "-m", "remotemedia", *arguments, "--executor", "multiprocess"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        run = stack.enter_context(subprocess.Popen(command, text=True, stderr=subprocess.PIPE, env=environment))
        stack.callback(run.kill)  # in case of a failure: else its end would be waited for
        found = re.fullmatch(r"status: http://127\.0\.0\.1:(\d+)/\n", run.stderr.readline())

        class Page:
            port = int(found[1])

        browser = Browser(Page)
        stack.callback(browser.close)
        facts = browser.until(lambda facts: facts["frames_out"] > 0)
        assert facts["pid"] == run.pid
        assert facts["frames_in"] >= facts["frames_out"]
        run.send_signal(signal.SIGTERM)
        assert browser.until(lambda facts: facts is None) is None
        run.communicate()
    assert run.returncode == 143
