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
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from fault_nodes import Pass
from fault_tools import NO_RESTART, Place, files_of, soon

from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.exceptions import MalformedMessage, ProtocolVersionMismatch, WorkerDied
from remotemedia.events import Died
from remotemedia.ipc import messages as m
from remotemedia.ipc.control import ControlClient
from remotemedia.workers.lifecycle import IllegalTransition
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
    """Sends something through its own worker's control client when it sees the value 2: each generation the next of
    `words`, and nothing when there are no more.
    """

    def __init__(self, *words: bytes) -> None:
        super().__init__()
        self.words = words

    def process(self, data: Any) -> Any:
        if data == 2 and self.restart_count < len(self.words):
            (client,) = [thing for thing in gc.get_objects() if isinstance(thing, ControlClient)]
            client._outgoing.append(self.words[self.restart_count])
            client.post(m.Log(records=[]))
            threading.Event().wait()  # it is killed while it is at this very frame
        return data


NONSENSE = {
    "garbage": (b"garbage", MalformedMessage, "malformed control message"),
    "nothing": (b"", MalformedMessage, "truncated"),
    "a pickle": (pickle.dumps(ValueError("a pickle")), MalformedMessage, "malformed control message"),
    "an unknown kind": (msgspec.msgpack.encode({"type": "obey"}), MalformedMessage, "Invalid value 'obey'"),
    "a kind of the other direction": (m.encode(m.Welcome()), MalformedMessage, "Invalid value 'welcome'"),
    "a field of another type": (
        msgspec.msgpack.encode({"type": "skipped", "frame": "2", "text": ""}), MalformedMessage, "Expected `int`"
    ),
    "too large": (bytes(m.MAX_MESSAGE_BYTES + 1), MalformedMessage, f"more than {m.MAX_MESSAGE_BYTES} bytes"),
    "ready twice": (m.encode(m.Ready()), IllegalTransition, "said ready while ready"),
    "another version": (
        m.encode(m.Hello(protocol_version=99, package_version="9", python_version="3", pid=1, token=bytes(32))),
        ProtocolVersionMismatch,
        "version 99",
    ),
    "goodbye too early": (m.encode(m.Goodbye()), IllegalTransition, "said goodbye while ready"),
}  # fmt: skip


async def test_a_worker_that_breaks_the_protocol_is_killed_and_replaced(place: Place) -> None:
    """In each generation by something else; the one after the last is good."""
    patient = PoolConfig(restart=RestartPolicy(max_restarts=100, max_attempts=100, backoff_s=(0.01, 0.02)))
    deaths: list[Died] = []
    speaker = SpeaksNonsense(*(words for words, *_ in NONSENSE.values()))
    async with WorkerPool([Pass(), speaker], config=patient) as pool:
        pool.on_event(lambda event: deaths.append(event) if isinstance(event, Died) else None)
        assert [output async for output in pool.stream(range(50))] == list(range(50))
        assert [worker.generation for worker in pool.snapshot().workers] == [0, len(NONSENSE)]
    assert len({death.pid for death in deaths}) == len(NONSENSE)
    for number, (death, (_, _, told)) in enumerate(zip(deaths, NONSENSE.values(), strict=True)):
        assert (death.node, death.worker_id, death.generation) == ("SpeaksNonsense", 1, number)
        assert "broke the control protocol" in death.reason
        assert told in death.reason


@pytest.mark.parametrize("kind", ["an unknown kind", "too large", "goodbye too early"])
async def test_without_restart_the_error_says_what_was_wrong(kind: str, place: Place) -> None:
    words, cause, told = NONSENSE[kind]
    async with WorkerPool([SpeaksNonsense(words)], config=NO_RESTART) as pool:
        pid = pool.snapshot().workers[0].pid
        with pytest.raises(WorkerDied) as caught:
            await pool.process(2)
    error = caught.value
    assert (error.node, error.worker_id, error.pid, error.frame) == ("SpeaksNonsense", 0, pid, 0)
    assert error.signal == "SIGKILL"
    assert type(error.__cause__) is cause
    for part in (told, f"pid {pid}", "frame 0"):
        assert part in str(error)
    assert told in str(error.__cause__)


async def test_a_frame_that_makes_its_worker_speak_nonsense_is_given_up(place: Place) -> None:
    async with WorkerPool([SpeaksNonsense(b"garbage", b"again")]) as pool:
        with pytest.raises(WorkerDied, match="broke the control protocol") as caught:
            await pool.process(2)
        assert isinstance(caught.value.__cause__, MalformedMessage)
        assert await pool.process(1) == 1


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
