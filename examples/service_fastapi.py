"""Tell who speaks, for many callers at once: FastAPI over a pool of warm workers that its lifespan starts and stops.

    pip install fastapi uvicorn websockets && uvicorn --app-dir examples service_fastapi:app

Each WebSocket at /speech is a session of its own: binary messages of 16-bit mono sound at 16 kHz are answered as JSON,
any text ends the call with a summary. POST /speech takes one chunk; GET /healthz says whether all workers are ready.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

from remotemedia import Node, NodeProcessError, Session, WorkerPool

RATE, numbers = 16_000, itertools.count(1)  # samples per second; of the calls


class Decode(Node):
    """Bytes to samples from -1 to 1."""

    def process(self, data: bytes) -> Any:
        samples = np.frombuffer(data, np.int16)
        return np.divide(samples, 32_768, out=self.empty(samples.shape, np.float32))


class Speech(Node):
    """The level of each chunk, and whether it is speech: 12 dB above the quietest of its call so far."""

    def process(self, sound: Any) -> dict[str, Any]:
        call = self.get_session_state()
        level_db = float(10 * np.log10(np.mean(np.square(sound)) + 1e-10))
        speaks = level_db > call.setdefault("floor_db", level_db) + 12
        call["floor_db"] = min(call["floor_db"], level_db)
        call["spoken_s"] = call.get("spoken_s", 0.0) + speaks * len(sound) / RATE
        return {"level_db": round(level_db, 1), "speaks": speaks}

    def flush(self) -> dict[str, Any]:
        return {"spoken_s": round(self.get_session_state().get("spoken_s", 0.0), 3)}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with WorkerPool([Decode(), Speech()]) as pool:
        yield {"pool": pool}
        await pool.drain()


app = FastAPI(lifespan=lifespan)


async def listen(call: Session, socket: WebSocket) -> None:
    while "code" not in (message := await socket.receive()):
        if not message.get("bytes"):
            return await call.finish()
        await call.send(message["bytes"])
    raise WebSocketDisconnect(message["code"])


async def answer(call: Session, socket: WebSocket) -> None:
    while True:
        try:
            await socket.send_json(await call.receive())
        except StopAsyncIteration:
            return await socket.close()
        except NodeProcessError as error:  # of this chunk alone
            await socket.send_json({"error": str(error.__cause__)})


@app.websocket("/speech")
async def converse(socket: WebSocket) -> None:
    await socket.accept()
    async with socket.state.pool.session(f"call-{next(numbers)}") as call:
        try:
            async with asyncio.TaskGroup() as both:  # where one of them cannot go on, the other must not wait for it
                both.create_task(listen(call, socket))
                both.create_task(answer(call, socket))
        except* WebSocketDisconnect:
            pass  # the caller has gone: nobody wants the rest


@app.post("/speech")
async def measure(request: Request) -> Any:
    return await request.state.pool.process(await request.body())


@app.get("/healthz")
async def health(request: Request, response: Response) -> Any:
    workers = request.state.pool.snapshot(memory=False).workers
    response.status_code = 200 if all(worker.state == "ready" for worker in workers) else 503
    return {"pid": os.getpid(), "workers": [asdict(worker) for worker in workers]}
