"""The example of a service with FastAPI, on a real server, with many callers at once."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

EXAMPLES = Path(__file__).parents[2] / "examples"
CHUNK = 1600  # samples: 0.1 s
QUIET, LOUD = 20, 6000


@asynccontextmanager
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The address of the running example."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import service_fastapi  # type: ignore[import-not-found]

    listening = socket.create_server(("127.0.0.1", 0))  # who connects early waits in its queue
    server = uvicorn.Server(uvicorn.Config(service_fastapi.app, ws="websockets-sansio", log_config=None))
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


def chunk(level: int) -> bytes:
    return np.full(CHUNK, level, np.int16).tobytes()


def expected(level: int, *, speaks: bool) -> dict[str, Any]:
    return {"level_db": round(20 * np.log10(level / 32_768), 1), "speaks": speaks}


async def answers(call: ClientConnection) -> list[Any]:
    return [json.loads(message) async for message in call]


async def call(address: str, spoken: int) -> None:
    """A whole call: noise, then speech in every other chunk; every answer is checked."""
    levels = [QUIET, *[LOUD, QUIET] * spoken]
    async with connect(f"ws://{address}/speech") as connection:
        listening = asyncio.ensure_future(answers(connection))
        for level in levels:
            await connection.send(chunk(level))
        await connection.send("end")
        *found, summary = await listening
    assert found == [expected(level, speaks=level == LOUD) for level in levels]
    assert summary == {"spoken_s": pytest.approx(spoken * CHUNK / 16_000)}


async def leave_early(address: str) -> None:
    async with connect(f"ws://{address}/speech") as connection:
        for _ in range(100):  # more than a session may have under way
            await connection.send(chunk(LOUD))


async def test_50_callers_and_one_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(monkeypatch) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        await asyncio.gather(leave_early(address), *(call(address, 1 + caller % 7) for caller in range(50)))
        async with connect(f"ws://{address}/speech") as connection:
            for data in (chunk(QUIET), b"odd", chunk(LOUD)):
                await connection.send(data)
            await connection.send("end")
            quiet, broken, loud, _ = await answers(connection)
        assert [quiet, loud] == [expected(QUIET, speaks=False), expected(LOUD, speaks=True)]
        assert "buffer size must be a multiple of element size" in broken["error"]
        response = await client.post("/speech", content=chunk(LOUD))
        assert response.json() == expected(LOUD, speaks=False)
        health = await client.get("/healthz")
        assert health.status_code == 200
        assert [worker["state"] for worker in health.json()["workers"]] == ["ready", "ready"]


async def test_a_call_that_is_open_when_the_service_stops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(monkeypatch) as address:
        connection = await connect(f"ws://{address}/speech")
        await connection.send(chunk(QUIET))
        await connection.recv()
    await connection.wait_closed()
    assert connection.close_code == 1012  # the service is about to restart
