"""Bytes on the control socket that nobody of ours has sent, and other users of the machine."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from fault_nodes import Pass
from fault_tools import Place, files_of, soon

from remotemedia.core.exceptions import WorkerError
from remotemedia.ipc import messages as m
from remotemedia.ipc.control import ControlClient
from remotemedia.workers.pool import WorkerPool


def socket_path(place: Place) -> Path:
    (path,) = place.path.glob("remotemedia-*/*/control.sock")
    return path


@pytest.fixture
def stranger() -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    yield dealer
    context.destroy(linger=0)


def forged() -> list[list[bytes]]:
    version = m.PROTOCOL_VERSION
    hello = m.Hello(protocol_version=version, package_version="0", python_version="3", pid=1, token=bytes(32))
    return [
        [b""],
        [b"garbage"],
        [os.urandom(1000)],
        [pickle.dumps(ValueError("from a stranger"))],
        [m.encode(hello)],
        [m.encode(m.Ready())],
        [m.encode(m.Goodbye())],
        [m.encode(m.Failed.of("process", ValueError("forged"), frame=1))],
        [b"one", b"two", b"three"],
        [b"x" * (m.MAX_MESSAGE_BYTES - 1)],
        [b"x" * (m.MAX_MESSAGE_BYTES + 1)],
    ]


async def test_strangers_are_not_heard(
    place: Place, stranger: zmq.Socket[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with WorkerPool([Pass(), Pass()]) as pool:
        stranger.connect(f"ipc://{socket_path(place)}")
        for parts in forged() * 20:
            stranger.send_multipart(parts)
        assert [output async for output in pool.stream(range(200))] == list(range(200))
        parts = pool._parts
        assert parts is not None
        await soon(lambda: parts.control.dropped > 10, "the messages to be dropped")
        assert await pool.process(1) == 1
        assert {worker.state for worker in pool.snapshot().workers} == {"ready"}
    warnings = [record for record in caplog.records if "unknown peer" in record.getMessage()]
    assert len(warnings) == 1


async def test_what_is_no_zeromq_at_all(place: Place) -> None:
    async with WorkerPool([Pass()]) as pool:
        with socket.socket(socket.AF_UNIX) as raw, socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(socket_path(place)))
            raw.connect(str(socket_path(place)))
            raw.sendall(os.urandom(100_000))
            assert [output async for output in pool.stream(range(200))] == list(range(200))
        assert await pool.process(1) == 1


class SpeaksNonsense(Pass):
    """Sends something through its own worker's control client."""

    def __init__(self, words: bytes) -> None:
        super().__init__()
        self.words = words

    def process(self, data: Any) -> Any:
        if data == 2:
            (client,) = [thing for thing in gc.get_objects() if isinstance(thing, ControlClient)]
            client._outgoing.append(self.words)
            client.post(m.Log(records=[]))
        return data


@pytest.mark.parametrize(
    "words",
    [
        b"garbage",
        pickle.dumps(ValueError("a pickle")),
        m.encode(m.Ready()),
        m.encode(m.Hello(protocol_version=99, package_version="9", python_version="3", pid=1, token=bytes(32))),
        m.encode(m.Goodbye()),
    ],
    ids=["garbage", "pickle", "ready twice", "another version", "goodbye too early"],
)
async def test_a_worker_that_breaks_the_protocol_is_ended(words: bytes, place: Place) -> None:
    async with WorkerPool([Pass(), SpeaksNonsense(words)]) as pool:

        async def until_broken() -> None:
            while True:
                await pool.process(2)

        with pytest.raises(WorkerError) as caught:
            await asyncio.wait_for(until_broken(), 30)
        assert caught.value.node == "SpeaksNonsense"
        assert "condemned" in " ".join(caught.value.story)
        assert caught.value.reason


OTHER_USER = """
import os, pathlib, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
refused = 0
for name in sys.argv[2:]:
    for flags in (os.O_RDONLY, os.O_RDWR):
        try:
            os.close(os.open(name, flags))
        except OSError:
            refused += 1
        else:
            print("opened", name, flags)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print("connected")
except PermissionError:
    refused += 1
print("refused", refused)
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
async def test_another_user_can_neither_connect_nor_look(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="p") as base:
        Path(base).chmod(0o755)  # noqa: ASYNC240
        monkeypatch.setenv("REMOTEMEDIA_RUNTIME_DIR", base)
        place = Place(Path(base))
        async with WorkerPool([Pass(), Pass()]) as pool:
            await pool.process(bytes(1_000_000))
            (pool_id,) = place.pool_ids()
            names = [f"/dev/shm/{name}" for name in files_of(pool_id)]
            assert len(names) > 10
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", OTHER_USER, str(socket_path(place)), *names],
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
            )
            assert done.stdout.split("\n")[:-1] == [f"refused {2 * len(names) + 1}"], done.stderr
