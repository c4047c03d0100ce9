"""Metrics of running pools: scraped over HTTP, from the command line, and what the dashboard asks for."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from remotemedia.cli import main
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.metrics import MetricsServer, PoolsCollector, metrics_of
from remotemedia.watching import WatchedPool
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.running import PoolPlace
from tests.nodes import Add

DASHBOARD = Path(__file__).parents[2] / "examples" / "grafana.json"


def get(port, path):
    """(status, text) of a request."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(text):
    """{(metric, node): value}"""
    return {
        (sample.name, sample.labels.get("node")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_scrape_tells_of_every_worker_of_this_process():
    async with WorkerPool([Add(1, name="a"), Add(1, name="b", executor="inline")]) as pool:
        for value in range(5):
            await pool.process(value)
        with MetricsServer(0) as server:
            for _ in range(2):
                status, text = await asyncio.to_thread(get, server.port, "/metrics")
                assert status == 200
            found = samples(text)
            assert found["remotemedia_worker_frames_total", "a"] == 5
            assert found["remotemedia_worker_frames_total", "b"] == 5
            assert found["remotemedia_worker_pss_bytes", "a"] > 1_000_000
            assert ("remotemedia_worker_pss_bytes", "b") not in found
            assert found["remotemedia_worker_ready", "a"] == 1
            assert found["remotemedia_pool_up", None] == 1
            assert found["remotemedia_pool_shm_bytes", None] > 0
            assert 0 < found["remotemedia_worker_process_seconds_p50", "a"] < 1
            assert await asyncio.to_thread(get, server.port, "/healthz") == (200, "ok\n")
            assert (await asyncio.to_thread(get, server.port, "/"))[0] == 404
            with pytest.raises(ConfigurationError, match="choose another port"):
                MetricsServer(server.port)
            await pool.restart_worker("a")
            _, text = await asyncio.to_thread(get, server.port, "/metrics")
            assert samples(text)["remotemedia_worker_restarts_total", "a"] == 1
    server.close()


async def test_a_pool_that_is_broken_is_not_healthy():
    async with WorkerPool([Add(1, name="a")]) as pool:
        collector = PoolsCollector(str(os.getpid()))
        assert await asyncio.to_thread(collector.health) == (True, "ok\n")
        worker = pool._parts.slots[0].supervisor
        state, worker._life = worker._life, worker._life.__class__(timeouts=worker._life.timeouts)
        healthy, text = await asyncio.to_thread(collector.health)
        worker._life = state
        assert not healthy
        assert text.endswith(": a is spawned\n")
        collector.close()


def test_a_pool_that_does_not_answer_is_down():
    silent = WatchedPool(PoolPlace("00aa00aa00", None, alive=True), problem="no answer for 2 s")
    (up, *rest) = metrics_of([silent])
    assert [sample.value for sample in up.samples] == [0.0]
    assert not any(family.samples for family in rest)


def test_the_dashboard_asks_for_metrics_that_exist():
    names = set()
    for family in metrics_of([]):
        names.add(family.name + ("_total" if family.type == "counter" else ""))
    asked = set(re.findall(r"remotemedia_\w+", DASHBOARD.read_text()))
    assert asked <= names
    assert len(asked) > 10
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


async def test_from_the_command_line(capsys):
    async with WorkerPool([Add(1, name="a")]) as pool:
        await pool.process(1)
        assert await asyncio.to_thread(main, ["metrics", "--once", pool._parts.directory.pool_id]) == 0
        assert samples(capsys.readouterr().out)["remotemedia_worker_frames_total", "a"] == 1
    assert main(["metrics", "--port", "70000"]) == 2
    assert "expected 0 to 65535" in capsys.readouterr().err


def test_without_the_library_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["metrics"]) == 3
    assert "pip install 'remotemedia[metrics]'" in capsys.readouterr().err


NODES = """
    from remotemedia import Node

    class Endless(Node):
        def process(self):
            while True:
                yield 1

    endless = [Endless(name="endless")]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "remotemedia", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


def test_run_and_a_program_of_its_own_serve_the_same(tmp_path):
    (tmp_path / "served.py").write_text(textwrap.dedent(NODES))
    port = free_port()
    arguments = ("--executor", "multiprocess", "--metrics-port", str(port), "--output", "o.rmf")
    with ExitStack() as stack:
        run = stack.enter_context(start(tmp_path, "run", "served:endless", *arguments))
        stack.callback(run.kill)  # in case of a failure: else its end would be waited for
        metrics = stack.enter_context(start(tmp_path, "metrics", "--port", "0", str(run.pid)))
        stack.callback(metrics.kill)
        other = int(re.search(r":(\d+)/metrics", metrics.stderr.readline())[1])
        for asked in (other, port):
            while not (found := samples(get_when_up(asked, run))).get(("remotemedia_pool_up", None)):
                assert run.poll() is None
            assert ("remotemedia_worker_frames_total", "endless") in found
        metrics.send_signal(signal.SIGINT)
        assert metrics.wait() == 130
        run.send_signal(signal.SIGTERM)
        run.communicate()
    assert run.returncode == 143


def get_when_up(port, process):
    while process.poll() is None:
        try:
            return get(port, "/metrics")[1]
        except urllib.error.URLError:
            continue  # not listening yet
    raise AssertionError("it has ended")
