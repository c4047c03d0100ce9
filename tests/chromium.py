"""A headless Chromium for tests and screenshots, driven by its DevTools protocol over one WebSocket. No polling."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

DEADLINE_S = 60.0
_FLAGS = (
    "--headless", "--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--no-default-browser-check", "--disable-breakpad",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
_UNTIL = """
new Promise((done) => {
  const look = () => {
    const found = (() => (%s))();
    if (found) { observer.disconnect(); done(found); }
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  look();
})
"""


def find_chromium() -> str | None:
    """The program, if one is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


class Tab:
    """One page. `complaints`: what its program raised, or its policy refused."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._session: dict[str, str] = {}
        self._loaded: asyncio.Future[None] | None = None
        self.complaints: list[str] = []

    async def attach(self) -> None:
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            await self._call(f"{domain}.enable")

    async def listen(self) -> None:
        """Take what comes, until the connection ends."""
        async for message in self._socket:
            facts = message.json()
            if (waiting := self._waiting.pop(facts.get("id"), None)) is not None:
                waiting.set_result(facts)
            elif facts.get("method") == "Page.loadEventFired":
                if self._loaded is not None and not self._loaded.done():
                    self._loaded.set_result(None)
            elif facts.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(facts["params"]["exceptionDetails"]["exception"].get("description", "?"))
            elif facts.get("method") == "Log.entryAdded" and facts["params"]["entry"]["level"] == "error":
                self.complaints.append(facts["params"]["entry"]["text"])

    async def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **self._session})
        async with asyncio.timeout(DEADLINE_S):
            facts = await answer
        if "error" in facts:
            raise RuntimeError(f"{method}: {facts['error']['message']}")
        return facts["result"]

    async def look_like(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """The size of the window in pixels of CSS, `scale` pixels of the screen for each."""
        await self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._call("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Returns when the document, and what belongs to it, is there."""
        self._loaded = asyncio.get_running_loop().create_future()
        result = await self._call("Page.navigate", url=url)
        if "errorText" in result:
            raise RuntimeError(f"{url}: {result['errorText']}")
        async with asyncio.timeout(DEADLINE_S):
            await self._loaded

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of the promise that it gives."""
        result = await self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description"))
        return result["result"].get("value")

    async def until(self, condition: str) -> Any:
        """Wait until a JavaScript expression is true, looking whenever the page changes; gives its value."""
        try:
            return await self.evaluate(_UNTIL % condition)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{condition} did not become true; the page says:\n{text}") from None

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({selector!r}).innerText"))

    async def screenshot(self, path: Path) -> None:
        """The whole page, however long."""
        result = await self._call("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(result["data"]))

    async def quit(self) -> None:
        self._session = {}
        await self._call("Browser.close")


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """A new browser with an empty profile and one tab. Raises FileNotFoundError if none is installed."""
    program = find_chromium()
    if program is None:
        raise FileNotFoundError("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program, *_FLAGS, f"--user-data-dir={profile}", "about:blank", stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL, start_new_session=True, env={**os.environ, "HOME": profile},
        )  # fmt: skip
        assert process.stderr is not None
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (found := re.search(rb"DevTools listening on (\S+)", await process.stderr.readline())):
                    assert process.returncode is None, "Chromium has ended"
            draining = asyncio.ensure_future(process.stderr.read())
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(found[1].decode(), max_msg_size=0) as socket,
            ):
                tab = Tab(socket)
                listening = asyncio.ensure_future(tab.listen())
                await tab.attach()
                yield tab
                await tab.quit()
                await listening
            await process.wait()
            await draining
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
