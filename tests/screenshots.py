"""The pictures in docs/images, made from a pool that is really running: `make screenshots`.

status.png is the status page in a headless Chromium, top.svg the screen of `remotemedia top`. Both show the same pool a
few seconds after one of its workers was killed. With --all, also how the page looks elsewhere, into build/.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.serving import StatusPage
from tests.chromium import Tab, chromium

ROOT = Path(__file__).parents[1]
IMAGES, VARIANTS = ROOT / "docs" / "images", ROOT / "build"
SHAPE = (360, 640, 3)
RATE = 25.0
COLUMNS = 170
BEFORE_S, AFTER_S = 12.0, 6.0


class Denoise(Node):
    """The mean of each pixel and its neighbour."""

    def process(self, frame: Any) -> Any:
        out = self.empty_like(frame)
        np.add(frame >> 1, np.roll(frame, 1, axis=1) >> 1, out=out)
        return out


class Detect(Node):
    """Where the picture is brightest; refuses pictures that are black."""

    on_error = "skip"

    def process(self, frame: Any) -> dict[str, Any]:
        if not frame.any():
            raise ValueError("the picture is black")
        grey = frame.mean(axis=2)
        for _ in range(4):
            grey = np.sqrt(grey * grey + 1)
        y, x = np.unravel_index(int(grey.argmax()), grey.shape)
        return {"x": int(x), "y": int(y)}


class Thumbnail(Node):
    """Every fourth pixel."""

    def process(self, frame: Any) -> Any:
        return np.ascontiguousarray(frame[::4, ::4])


class Histogram(Node):
    """How often each brightness occurs."""

    def process(self, frame: Any) -> Any:
        return np.histogram(frame, bins=32, range=(0, 255))[0]


class Caption(Node):
    """Takes all of them as they come."""

    def process(self, part: Any) -> str:
        return type(part).__name__


def graph() -> Graph:
    nodes = (
        Denoise("denoise"), Detect("detector"), Thumbnail("thumbnail"), Histogram("histogram"),
        Caption("caption", executor="inline"),
    )  # fmt: skip
    return Graph(nodes, tuple(node.name for node in nodes), ((0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)))


async def frames() -> AsyncIterator[Any]:
    """A camera: 25 pictures per second, one of a hundred black."""
    noise = np.random.default_rng(1).integers(0, 255, SHAPE, np.uint8)
    loop = asyncio.get_running_loop()
    began, count = loop.time(), 0
    while True:
        yield np.zeros(SHAPE, np.uint8) if count % 100 == 30 else np.roll(noise, count, axis=1)
        count += 1
        await asyncio.sleep(max(0.0, began + count / RATE - loop.time()))


async def work(pool: WorkerPool) -> None:
    async with contextlib.aclosing(pool.stream(frames())) as outputs:
        async for _ in outputs:
            pass


async def take_status(pool: WorkerPool) -> None:
    """The page some seconds after a worker was killed."""
    page = await pool.serve_status()
    async with chromium() as tab:
        await tab.look_like(1200, 800, scale=1.25)
        await tab.open(page.url)
        await asyncio.sleep(BEFORE_S)
        victim = pool.snapshot(memory=False).workers[1].pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        await tab.until("document.querySelector('#errors').innerText.includes('SIGKILL')")
        await asyncio.sleep(AFTER_S)
        await tab.screenshot(IMAGES / "status.png")
        if "--all" in sys.argv:
            await take_variants(tab, page)
        if tab.complaints:
            raise RuntimeError(f"the page complains: {tab.complaints}")


async def take_variants(tab: Tab, page: StatusPage) -> None:
    """To look at, not for the documentation: in build/."""
    VARIANTS.mkdir(exist_ok=True)
    for width, name in ((1200, "dark"), (768, "tablet"), (390, "phone"), (1200, "lost")):
        await tab.look_like(width, 800, dark=name == "dark")
        if name == "lost":
            await page.aclose()
            await tab.until("document.body.classList.contains('lost')")
            tab.complaints.clear()
        await tab.evaluate("new Promise(requestAnimationFrame)")
        await tab.screenshot(VARIANTS / f"status-{name}.png")


def take_top(pool_id: str) -> None:
    """What `remotemedia top` draws, with rates over a second."""
    from rich.console import Console
    from rich.terminal_theme import DIMMED_MONOKAI

    from remotemedia.cli.top_view import ScreenState, screen
    from remotemedia.watching import Watcher

    watcher = Watcher(pool_id)
    watcher.look()
    for _ in range(2):
        watcher.ask()
        watcher.wait_for_answers(5.0)
        due = monotonic() + 1.0
        while monotonic() < due:
            watcher.wait(due - monotonic())
    pools = list(watcher.pools.values())
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen(pools, ScreenState(selected=(pool_id, 1))))
    watcher.close()
    picture = console.export_svg(title="remotemedia top", theme=DIMMED_MONOKAI, code_format=_without_web_fonts())
    (IMAGES / "top.svg").write_text(picture + "\n")


def _without_web_fonts() -> str:
    """Rich's format, without fonts that a browser would load from elsewhere."""
    from rich._export_format import CONSOLE_SVG_FORMAT

    before, _, rest = CONSOLE_SVG_FORMAT.partition("@font-face")
    return before + rest[rest.rindex("@font-face") :].partition("}}")[2].lstrip()


async def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    async with WorkerPool(graph()) as pool:
        working = asyncio.create_task(work(pool))
        await take_status(pool)
        assert pool._parts is not None
        await asyncio.to_thread(take_top, pool._parts.directory.pool_id)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
