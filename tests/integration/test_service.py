"""The example of a service, with many callers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient, TestServer

EXAMPLES = Path(__file__).parents[2] / "examples"
CHUNK = 800  # samples: 50 ms


@asynccontextmanager
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestClient[Any, Any]]:
    monkeypatch.syspath_prepend(EXAMPLES)
    import service_aiohttp  # type: ignore[import-not-found]

    async with TestClient(TestServer(service_aiohttp.make_app())) as client:
        yield client


def chunk(caller: int, index: int) -> bytes:
    """Sound whose peak tells whose it is, and which."""
    sound = np.zeros(CHUNK, np.int16)
    sound[7] = caller * 100 + index
    return sound.tobytes()


def answers(caller: int, count: int) -> list[dict[str, Any]]:
    return [
        {"peak": round((caller * 100 + i) / 32_768, 4), "seconds": round((i + 1) * CHUNK / 16_000, 3)}
        for i in range(count)
    ]


async def call(client: TestClient[Any, Any], caller: int, count: int, gate: asyncio.Event | None = None) -> None:
    """A whole call that checks every answer; with `gate`, reads nothing before that is set."""
    async with client.ws_connect("/sound") as socket:

        async def speak() -> None:
            for index in range(count):
                await socket.send_bytes(chunk(caller, index))
            await socket.send_str("end")

        speaking = asyncio.ensure_future(speak())
        if gate is not None:
            await gate.wait()
        found = [await socket.receive_json() for _ in range(count)]
        assert found == answers(caller, count)
        summary = (await socket.receive_json())["summary"]
        assert summary["seconds"] == pytest.approx(count * CHUNK / 16_000)
        await speaking
        assert (await socket.receive()).type is WSMsgType.CLOSE


async def leave_early(client: TestClient[Any, Any]) -> None:
    async with client.ws_connect("/sound") as socket:
        for index in range(100):  # more than a session may have under way
            await socket.send_bytes(chunk(1, index))


@pytest.mark.timeout(120)
async def test_64_callers_one_of_them_slow_and_one_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(monkeypatch) as client:
        gate = asyncio.Event()
        slow = asyncio.ensure_future(call(client, 99, 60, gate))
        await asyncio.gather(leave_early(client), *(call(client, caller, 30) for caller in range(1, 63)))
        assert not slow.done()
        gate.set()
        await slow
        async with client.post("/sound", data=chunk(3, 4)) as response:
            assert await response.json() == answers(3, 5)[4] | {"seconds": 0.05}
        while True:
            async with client.get("/status") as response:
                snapshot = await response.json()
            if snapshot["sessions"] == 0:
                break
        assert [worker["state"] for worker in snapshot["workers"]] == ["ready", "ready"]


async def test_a_broken_chunk_is_the_matter_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(monkeypatch) as client, client.ws_connect("/sound") as socket:
        await socket.send_bytes(chunk(1, 0))
        await socket.send_bytes(b"odd")
        await socket.send_bytes(chunk(1, 1))
        first, broken, second = [await socket.receive_json() for _ in range(3)]
        assert [first, second] == answers(1, 2)
        assert "buffer size must be a multiple of element size" in broken["error"]
