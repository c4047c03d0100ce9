"""The socket that answers observers: packets, strangers' bytes, many at once, those that do not read; its end."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from remotemedia.core.exceptions import MalformedMessage, PoolClosed
from remotemedia.ipc import observer_server
from remotemedia.ipc.observer_client import ObserverClient
from remotemedia.ipc.observer_messages import (
    Done,
    GetSnapshot,
    GetStacks,
    Refused,
    RestartWorker,
    StacksText,
    decode_reply,
    decode_request,
    encode,
)
from remotemedia.ipc.observer_server import MOST_OBSERVERS, ObserverServer


def echo(observer, request):
    """Stacks come as the node's name, many times; a restart is done; a snapshot is answered by nothing."""
    if isinstance(request, GetStacks):
        observer.send(StacksText(number=request.number, text=request.node * 1000))
    elif isinstance(request, RestartWorker):
        observer.send(Done(number=request.number))


@pytest.fixture
async def server(tmp_path, loop_kind):
    gone = []
    server = ObserverServer(tmp_path / "observe.sock", echo, asyncio.get_running_loop(), on_gone=gone.append)
    server.gone = gone
    yield server
    server.close()
    server.close()
    assert not (tmp_path / "observe.sock").exists()


async def call(path, *requests):
    """In a thread, as another process would: the answers."""

    def ask():
        with ObserverClient(path) as client:
            return [client.call(request) for request in requests]

    return await asyncio.to_thread(ask)


async def test_requests_are_answered_in_packets(server, tmp_path):
    path = tmp_path / "observe.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first, second, third = await call(path, GetStacks(node="a"), RestartWorker(node="b"), GetStacks(node="ü"))
    assert (first.text, second.number, third.text) == ("a" * 1000, 2, "ü" * 1000)
    while not server.gone:  # noqa: ASYNC110 - a plain list tells nobody
        await asyncio.sleep(0)


async def test_the_client_knows_whose_process_answers(server, tmp_path):
    with ObserverClient(tmp_path / "observe.sock") as client:
        assert client.peer_pid() == os.getpid()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff" * 10, ""),
        (b"x" * 10_000, ""),
        (encode(Done()), "Invalid value 'done'"),
        (encode(GetSnapshot(version=99)), "version 99"),
    ],
)
async def test_what_is_no_request_is_refused_and_ends_the_connection(server, tmp_path, data, reason):
    def ask():
        with ObserverClient(tmp_path / "observe.sock") as client:
            client._socket.send(data)
            reply = client.receive()
            with pytest.raises(PoolClosed):
                client.receive()
            return reply

    reply = await asyncio.to_thread(ask)
    assert isinstance(reply, Refused)
    assert reason in reply.reason
    assert (await call(tmp_path / "observe.sock", RestartWorker(node="a")))[0] == Done(number=1)


async def test_one_too_many_is_told_so_and_the_others_go_on(server, tmp_path):
    path = tmp_path / "observe.sock"

    def ask():
        clients = [ObserverClient(path) for _ in range(MOST_OBSERVERS)]
        try:
            assert all(isinstance(client.call(RestartWorker(node="a")), Done) for client in clients)
            with ObserverClient(path) as late:
                reply = late.receive()
            clients.pop().close()
            return reply
        finally:
            for client in clients:
                client.close()

    assert "16 others" in (await asyncio.to_thread(ask)).reason
    while len(server.gone) < MOST_OBSERVERS:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    assert len(await call(path, RestartWorker(node="a"))) == 1


async def test_one_that_does_not_read_is_cut_off(server, tmp_path):
    with ObserverClient(tmp_path / "observe.sock") as client:
        client._socket.setblocking(False)
        while not server.gone:
            try:
                client._socket.send(encode(GetStacks(node="x" * 50)))
            except BlockingIOError:
                pass
            except ConnectionError:
                break
            await asyncio.sleep(0)
        assert (await call(tmp_path / "observe.sock", RestartWorker(node="a")))[0] == Done(number=1)


async def test_an_answer_that_does_not_fit_is_told(tmp_path, loop_kind):
    def huge(observer, request):
        observer.send(StacksText(number=request.number, text="x" * 50_000_000))

    server = ObserverServer(tmp_path / "observe.sock", huge, asyncio.get_running_loop())
    try:
        (reply,) = await call(tmp_path / "observe.sock", GetStacks(node="a"))
        assert "does not fit" in reply.reason
        assert reply.number == 1
    finally:
        server.close()


async def test_another_users_process_is_turned_away(server, tmp_path, monkeypatch):
    monkeypatch.setattr(observer_server, "_uid_of", lambda peer: os.geteuid() + 1)
    with pytest.raises(PoolClosed):
        await call(tmp_path / "observe.sock", RestartWorker(node="a"))


async def test_without_a_descriptor_the_observer_waits(server, tmp_path, monkeypatch, caplog):
    """The listener is not asked again and again: it stays readable all the while."""
    monkeypatch.setattr(observer_server, "_AGAIN_S", 0.01)
    listener, refusals = server._listener, []

    class Full:
        def accept(self):
            if len(refusals) < 2:
                refusals.append(1)
                raise OSError(24, "Too many open files")
            return listener.accept()

        def __getattr__(self, name):
            return getattr(listener, name)

    server._listener = Full()
    assert (await call(tmp_path / "observe.sock", RestartWorker(node="a")))[0] == Done(number=1)
    assert len(refusals) == 2
    assert caplog.text.count("has to wait") == 2


async def test_the_end_of_the_server_ends_the_connections(server, tmp_path):
    with ObserverClient(tmp_path / "observe.sock") as client:
        await call(tmp_path / "observe.sock", RestartWorker(node="a"))  # so the first one has been accepted
        server.close()
        with pytest.raises(PoolClosed):
            client.receive()
        with pytest.raises(PoolClosed):
            client.ask(GetSnapshot())
    with pytest.raises(FileNotFoundError):
        ObserverClient(tmp_path / "observe.sock")


async def test_a_socket_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        ObserverServer(tmp_path / "missing" / "observe.sock", echo, asyncio.get_running_loop())


def test_no_answer_in_time_is_a_time_out(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "mute.sock"))
        listener.listen()
        with ObserverClient(Path(tmp_path / "mute.sock"), timeout_s=0.05) as client, pytest.raises(TimeoutError):
            client.call(GetSnapshot())


@pytest.mark.parametrize("decode", [decode_request, decode_reply])
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x80", b"\x91" * 3000, encode(Done())[:-1]])
def test_garbage_is_malformed(decode, data):
    with pytest.raises(MalformedMessage):
        decode(data)
