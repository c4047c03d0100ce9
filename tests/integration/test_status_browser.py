"""The status page in a real browser beside a real pool."""

from __future__ import annotations

import os
import signal

import pytest

from remotemedia.core.graph import Graph
from remotemedia.workers.pool import WorkerPool
from tests.chromium import chromium, find_chromium
from tests.nodes import Add

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: apt-get install chromium"),
]

ROWS = "[...document.querySelectorAll('#workers tr')]"
LIVE = "document.querySelector('#link').innerText === 'live'"
HOSTILE = "<img src=x onerror='window.hurt=1'><script>window.hurt=1</script>"


def graph():
    nodes = (Add(1, name=HOSTILE), Add(1, name="left"), Add(1, name="right"), Add(1, name="end", executor="inline"))
    return Graph(nodes, tuple(node.name for node in nodes), ((0, 1), (0, 2), (1, 3), (2, 3)))


async def fits(tab):
    """Nothing stands out to the right of the window."""
    return await tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.timeout(300)
async def test_a_killed_worker_comes_back_before_ones_eyes():
    async with chromium() as tab, WorkerPool(graph()) as pool:
        await tab.look_like(1200, 800)
        for value in range(5):
            await pool.process(value)
        page = await pool.serve_status()
        await tab.open(page.url)
        await tab.until(LIVE)
        await tab.until(f"{ROWS}.map((row) => row.cells[4].innerText).join() === '5,5,5,10'")
        states = await tab.evaluate(f"{ROWS}.map((row) => row.cells[1].innerText)")
        assert states == ["ready", "ready", "ready", "in this process"]

        # names are text, and the graph is there
        assert await tab.evaluate(f"{ROWS}[0].querySelector('td span').innerText") == HOSTILE
        assert await tab.evaluate("window.hurt") is None
        assert await tab.evaluate("document.images.length + document.querySelectorAll('main script').length") == 0
        assert await tab.evaluate("document.querySelectorAll('#graph .node').length") == 4
        assert await tab.evaluate("document.querySelectorAll('#graph .edge').length") == 4
        label = await tab.evaluate("document.querySelector('#graph svg').getAttribute('aria-label')")
        assert f"{HOSTILE} feeds left and right; left feeds end" in label

        # a worker dies, and its successor is there
        pid = pool.snapshot(memory=False).workers[1].pid
        os.kill(pid, signal.SIGKILL)
        await tab.until(f"{ROWS}[1].cells[3].innerText === '1' && {ROWS}[1].cells[1].innerText === 'ready'")
        assert await tab.evaluate(f"{ROWS}[1].cells[2].innerText") == str(pool.snapshot(memory=False).workers[1].pid)
        assert "restarted left" in await tab.text("#events")
        assert "killed by SIGKILL" in await tab.text("#errors")
        assert "ready · 1 restart" in await tab.evaluate("document.querySelector('#graph').textContent")

        # everywhere
        light = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert await fits(tab)
        await tab.look_like(360, 700, dark=True)
        await tab.evaluate("new Promise(requestAnimationFrame)")
        assert await fits(tab)
        assert await tab.evaluate("getComputedStyle(document.body).backgroundColor") != light
        assert tab.complaints == []

        # the service goes, and comes back
        await page.aclose()
        await tab.until("document.querySelector('#link').innerText === 'connection lost, trying again'")
        assert await tab.text("#state") == "last seen running"
        await pool.serve_status(page.port)
        await tab.until(LIVE)
        assert await tab.text("#state") == "running"
