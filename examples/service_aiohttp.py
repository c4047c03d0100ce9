"""Measure the sound of many callers at once: a service over one pool of warm workers.

    pip install aiohttp && python examples/service_aiohttp.py [PORT]

Each WebSocket at /sound is a session of its own: binary messages of 16-bit mono sound at 16 kHz are answered by their
peak and the seconds so far, as JSON; any text asks for a summary. POST /sound takes one chunk, GET /status shows all.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from remotemedia import Node, NodeProcessError, WorkerPool

RATE = 16_000  # samples per second
POOL, numbers = web.AppKey("pool", WorkerPool), itertools.count(1)


class Decode(Node):
    """Bytes to samples from -1 to 1."""

    def process(self, data: bytes) -> Any:
        samples = np.frombuffer(data, np.int16)
        return np.divide(samples, 32_768, out=self.empty(samples.shape, np.float32))


class Meter(Node):
    """Peak of each chunk, and what is known of its call so far."""

    def process(self, data: Any) -> dict[str, Any]:
        call = self.get_session_state()
        peak, seconds = float(np.abs(data).max()), call.get("seconds", 0) + len(data) / RATE
        call.update(peak=max(call.get("peak", 0), peak), seconds=seconds)
        return {"peak": round(peak, 4), "seconds": round(seconds, 3)}

    def flush(self) -> dict[str, Any]:
        return {"summary": dict(self.get_session_state())}


async def answer(call: Any, socket: web.WebSocketResponse) -> None:
    """What comes out goes back. A caller that does not read is not read from either, and holds up nobody else."""
    while not socket.closed:
        try:
            await socket.send_json(await call.receive())
        except StopAsyncIteration:
            break
        except NodeProcessError as error:  # of this chunk alone
            await socket.send_json({"error": str(error.__cause__)})


async def converse(request: web.Request) -> web.WebSocketResponse:
    await (socket := web.WebSocketResponse()).prepare(request)
    async with request.app[POOL].session(f"call-{next(numbers)}") as call:
        answering = asyncio.create_task(answer(call, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    await call.send(message.data)
                else:
                    await call.finish()
                    await answering
                    break
        finally:
            answering.cancel()  # if the caller has gone, nobody wants the rest
            await asyncio.gather(answering, return_exceptions=True)
    return socket


async def measure(request: web.Request) -> web.Response:
    return web.json_response(await request.app[POOL].process(await request.read()))


async def status(request: web.Request) -> web.Response:
    return web.json_response(asdict(request.app[POOL].snapshot()))


async def workers(app: web.Application) -> AsyncIterator[None]:
    async with WorkerPool([Decode(), Meter()]) as app[POOL]:
        yield
        await app[POOL].drain()


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(workers)
    app.add_routes([web.get("/sound", converse), web.post("/sound", measure), web.get("/status", status)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
