"""The control plane: real sockets, real processes, both kinds of event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from remotemedia.core.exceptions import MalformedMessage, PoolClosed, ProtocolError, ProtocolVersionMismatch
from remotemedia.ipc import control
from remotemedia.ipc import messages as m
from remotemedia.ipc.control import ControlClient, ControlServer

TOKEN = b"t" * m.TOKEN_BYTES
OTHER_TOKEN = b"o" * m.TOKEN_BYTES


def hello(token: bytes = TOKEN, version: int = m.PROTOCOL_VERSION) -> m.Hello:
    return m.Hello(protocol_version=version, package_version="0", python_version="3", pid=os.getpid(), token=token)


class Coordinator:
    """A server that remembers what it got and lets tests wait for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.got: list[tuple[int, m.FromWorker | ProtocolError]] = []
        self._news = asyncio.Event()
        self.then: Callable[[int, m.FromWorker | ProtocolError], None] = lambda worker_id, message: None
        self.server = ControlServer(path, self._on_message, asyncio.get_running_loop())

    def _on_message(self, worker_id: int, message: m.FromWorker | ProtocolError) -> None:
        self.got.append((worker_id, message))
        self._news.set()
        self.then(worker_id, message)

    async def until(self, count: int) -> list[tuple[int, m.FromWorker | ProtocolError]]:
        while len(self.got) < count:
            self._news.clear()
            await self._news.wait()
        return self.got


@pytest.fixture
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c") / "s"


@pytest.fixture
async def coordinator(sockets: Path):
    made = Coordinator(sockets)
    yield made
    made.server.close()


class Worker:
    """A client that remembers what it got."""

    def __init__(self, path: Path, **options) -> None:
        self.got: list[m.FromCoordinator | ProtocolError] = []
        self._news = threading.Condition()
        self.client = ControlClient(path, self._on_message, **options)

    def _on_message(self, message: m.FromCoordinator | ProtocolError) -> None:
        with self._news:
            self.got.append(message)
            self._news.notify_all()

    async def until(self, count: int) -> list[m.FromCoordinator | ProtocolError]:
        def wait() -> None:
            with self._news:
                self._news.wait_for(lambda: len(self.got) >= count)

        await asyncio.to_thread(wait)
        return self.got

    async def close(self, timeout_s: float = 10.0) -> bool:
        return await asyncio.to_thread(self.client.flush_and_close, timeout_s)


@pytest.fixture
def raw_peer(sockets: Path) -> Iterator[zmq.Socket[bytes]]:
    """A peer that does not follow our rules."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(f"ipc://{sockets}")
        yield socket


async def test_messages_travel_both_ways_and_the_goodbye_is_answered(coordinator, loop_kind) -> None:
    coordinator.server.expect(3, TOKEN)
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    assert await coordinator.until(1) == [(3, hello())]
    assert coordinator.server.send(3, m.Welcome())
    assert await worker.until(1) == [m.Welcome()]
    worker.client.post(m.Ready())
    worker.client.post(m.Goodbye())
    assert await worker.close()
    assert [message for _, message in coordinator.got[1:]] == [m.Ready(), m.Goodbye()]


async def test_no_wakeup_is_lost_when_both_sides_talk_at_once(coordinator, loop_kind) -> None:
    count = 3_000
    coordinator.then = lambda worker_id, message: coordinator.server.send(worker_id, m.Welcome())
    coordinator.server.expect(0, TOKEN)
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    for number in range(count):
        worker.client.post(m.Stacks(text=str(number)))
        if number % 50 == 0:
            coordinator.server.send(0, m.DumpStacks())
            await asyncio.sleep(0)
    got = await coordinator.until(count + 1)
    assert [message.text for _, message in got[1:]] == [str(number) for number in range(count)]
    await worker.until(count + 1)
    assert await worker.close()


async def test_strangers_are_dropped_counted_and_warned_of_once(coordinator, raw_peer, caplog) -> None:
    coordinator.server.expect(1, TOKEN)
    with caplog.at_level(logging.WARNING):
        for payload in (b"junk", m.encode(hello(b"wrong" * 6)), m.encode(m.Ready()), b""):
            raw_peer.send(payload)
        raw_peer.send_multipart([m.encode(hello()), b"more"])
        raw_peer.send(m.encode(hello()))
        assert await coordinator.until(1) == [(1, hello())]
    assert coordinator.server.dropped == 5
    assert [record.message for record in caplog.records if "unknown peer" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


async def test_a_token_is_good_for_one_hello(coordinator, raw_peer) -> None:
    coordinator.server.expect(1, TOKEN)
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    await coordinator.until(1)
    raw_peer.send(m.encode(hello()))
    raw_peer.send(m.encode(m.Ready()))
    while coordinator.server.dropped < 2:
        coordinator.server.drain()
    assert len(coordinator.got) == 1
    await worker.close()


async def test_a_new_generation_replaces_the_old_one(coordinator, raw_peer) -> None:
    coordinator.server.expect(1, TOKEN)
    raw_peer.send(m.encode(hello()))
    await coordinator.until(1)
    coordinator.server.expect(1, b"2" * m.TOKEN_BYTES)
    assert not coordinator.server.send(1, m.Welcome())
    raw_peer.send(m.encode(m.Ready()))
    worker = Worker(coordinator.path)
    worker.client.post(hello(b"2" * m.TOKEN_BYTES))
    assert (await coordinator.until(2))[1] == (1, hello(b"2" * m.TOKEN_BYTES))
    while not coordinator.server.dropped:
        coordinator.server.drain()
    coordinator.server.forget(1)
    assert not coordinator.server.send(1, m.Welcome())
    await worker.close()


async def test_a_known_workers_bad_bytes_come_as_errors(coordinator, raw_peer) -> None:
    coordinator.server.expect(1, TOKEN)
    raw_peer.send(m.encode(hello()))
    raw_peer.send(b"junk")
    raw_peer.send_multipart([m.encode(m.Ready()), b""])
    got = await coordinator.until(3)
    assert [type(message) for _, message in got] == [m.Hello, MalformedMessage, MalformedMessage]
    assert "2 parts" in str(got[2][1])


async def test_another_protocol_version_is_reported_for_its_worker(coordinator, raw_peer) -> None:
    coordinator.server.expect(4, TOKEN)
    raw_peer.send(msgspec.msgpack.encode({"type": "hello", "protocol_version": 77, "token": TOKEN}))
    [(worker_id, error)] = await coordinator.until(1)
    assert worker_id == 4
    assert isinstance(error, ProtocolVersionMismatch)
    assert error.theirs == 77


async def test_a_peer_that_sends_too_much_is_cut_off(coordinator, raw_peer) -> None:
    coordinator.server.expect(1, TOKEN)
    raw_peer.send(m.encode(hello()))
    await coordinator.until(1)
    monitor = raw_peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    raw_peer.send(bytes(m.MAX_MESSAGE_BYTES + 1))
    assert await asyncio.to_thread(monitor.poll)
    raw_peer.disable_monitor()
    monitor.close()
    (_, (worker_id, error)) = await coordinator.until(2)
    assert worker_id == 1
    assert isinstance(error, MalformedMessage)
    assert f"more than {m.MAX_MESSAGE_BYTES} bytes" in str(error)


@pytest.mark.parametrize("parting", ["goodbye", "forgotten"])
async def test_a_connection_may_end_after_the_last_words(parting: str, coordinator, raw_peer) -> None:
    """Another worker breaks its connection later: only that is told."""
    coordinator.server.expect(1, TOKEN)
    coordinator.server.expect(2, OTHER_TOKEN)
    raw_peer.send(m.encode(hello()))
    if parting == "goodbye":
        raw_peer.send(m.encode(m.Goodbye()))
        await coordinator.until(2)
    else:
        await coordinator.until(1)
        coordinator.server.forget(1)
    before = len(coordinator.got)
    raw_peer.close()
    with zmq.Context() as context, context.socket(zmq.DEALER) as other:
        other.linger = 0
        other.connect(f"ipc://{coordinator.path}")
        other.send(m.encode(hello(OTHER_TOKEN)))
        await coordinator.until(before + 1)
        other.close()
        got = await coordinator.until(before + 2)
    assert [worker_id for worker_id, _ in got[before:]] == [2, 2]
    assert isinstance(got[-1][1], MalformedMessage)


async def test_sending_to_nobody_says_so(coordinator) -> None:
    coordinator.server.expect(1, TOKEN)
    assert not coordinator.server.send(1, m.Welcome())
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    await coordinator.until(1)
    await worker.close()
    while coordinator.server.send(1, m.DumpStacks()):
        pass  # until ZeroMQ, in a thread of its own, has noticed that the peer is gone


async def test_a_callback_that_raises_loses_no_other_message(coordinator) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(str(context["exception"])))

    def complain(worker_id: int, message: object) -> None:
        raise ValueError(type(message).__name__)

    coordinator.then = complain
    coordinator.server.expect(1, TOKEN)
    worker = Worker(coordinator.path)
    for message in (hello(), m.Loaded(), m.Ready()):
        worker.client.post(message)
    await coordinator.until(3)
    await asyncio.sleep(0)
    assert complaints == ["Hello", "Loaded", "Ready"]
    await worker.close()


async def test_a_client_callback_that_raises_is_logged_and_the_client_goes_on(coordinator, caplog) -> None:
    seen: list[object] = []

    def explode(message: object) -> None:
        seen.append(message)
        raise ValueError("no")

    coordinator.server.expect(1, TOKEN)
    client = ControlClient(coordinator.path, explode)
    client.post(hello())
    await coordinator.until(1)
    coordinator.server.send(1, m.Welcome())
    coordinator.server.send(1, m.DumpStacks())
    client.post(m.Goodbye())
    assert await asyncio.to_thread(client.flush_and_close, 10.0)
    assert seen == [m.Welcome(), m.DumpStacks()]
    assert [record.exc_info[1].args for record in caplog.records] == [("no",), ("no",)]


async def test_a_client_beats_by_itself_and_goes_on_when_that_raises(coordinator) -> None:
    beats = threading.Semaphore(0)

    def beat() -> None:
        beats.release()
        raise ValueError("no")

    coordinator.server.expect(1, TOKEN)
    worker = Worker(coordinator.path, on_beat=beat, beat_s=0.01)
    for _ in range(3):
        assert await asyncio.to_thread(beats.acquire)
    worker.client.post(hello())
    worker.client.post(m.Goodbye())
    assert await worker.close()


async def test_a_client_whose_heart_never_beats_can_be_closed(coordinator) -> None:
    worker = Worker(coordinator.path, on_beat=lambda: pytest.fail("never due"), beat_s=float("inf"))
    await worker.close(0.0)


async def test_bytes_that_are_no_message_reach_the_client_as_errors(coordinator, monkeypatch) -> None:
    coordinator.server.expect(1, TOKEN)
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    await coordinator.until(1)
    monkeypatch.setattr(control, "encode", lambda message: b"junk")
    coordinator.server.send(1, m.Welcome())
    [error] = await worker.until(1)
    assert isinstance(error, MalformedMessage)
    monkeypatch.undo()
    await worker.close()


async def test_closing_is_final_on_both_sides(coordinator) -> None:
    worker = Worker(coordinator.path)
    assert await worker.close()
    assert await worker.close()
    assert not worker.client.post(m.Ready())
    coordinator.server.close()
    coordinator.server.close()
    with pytest.raises(PoolClosed):
        coordinator.server.send(1, m.Welcome())
    assert list(coordinator.path.parent.iterdir()) == []


async def test_closing_in_a_callback_stops_at_once(coordinator) -> None:
    coordinator.then = lambda worker_id, message: coordinator.server.close()
    coordinator.server.expect(1, TOKEN)
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    worker.client.post(m.Goodbye())
    await coordinator.until(1)
    assert not await worker.close(0.05)
    assert coordinator.got == [(1, hello())]


async def test_without_a_coordinator_the_last_words_give_up(sockets) -> None:
    worker = Worker(sockets)
    worker.client.post(m.Goodbye())
    assert not await worker.close(0.05)


async def test_logs_are_dropped_when_too_many_wait_but_nothing_else_is(sockets, monkeypatch) -> None:
    monkeypatch.setattr(ControlClient, "_send_pending", lambda self, socket: None)
    worker = Worker(sockets)
    log = m.Log(records=[m.LogRecord("a", 20, "text", 0.0)])
    taken = [worker.client.post(log) for _ in range(1_005)]
    assert taken == [True] * 1_000 + [False] * 5
    assert worker.client.dropped_logs == 5
    assert worker.client.post(m.Drained())
    await worker.close(0.0)


async def test_the_death_of_the_parent_is_told_once(coordinator) -> None:
    read_end, write_end = os.pipe()
    told = threading.Semaphore(0)
    worker = Worker(coordinator.path, parent_fd=read_end, on_parent_death=told.release)
    os.write(write_end, b"x")  # not an end of file
    coordinator.server.expect(1, TOKEN)
    worker.client.post(hello())
    await coordinator.until(1)
    assert not told.acquire(blocking=False)
    os.close(write_end)
    await asyncio.to_thread(told.acquire)
    worker.client.post(m.Ready())
    await coordinator.until(2)
    await worker.close()
    assert not told.acquire(blocking=False)
    os.close(read_end)


async def test_a_forked_copy_stays_silent(coordinator) -> None:
    coordinator.server.expect(1, TOKEN)
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    await coordinator.until(1)
    pid = os.fork()
    if pid == 0:
        silent = not worker.client.post(m.Goodbye()) and not worker.client.flush_and_close(1.0)
        os._exit(0 if silent else 1)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    worker.client.post(m.Ready())
    assert (await coordinator.until(2))[1] == (1, m.Ready())
    await worker.close()


async def exit_code(process: subprocess.Popen[str]) -> int:
    return await asyncio.to_thread(process.wait)


def start_child(code: str, *args: object) -> subprocess.Popen[str]:
    head = """
        import os, sys
        from remotemedia.ipc.control import ControlClient
        from remotemedia.ipc.messages import *
        client = ControlClient(sys.argv[1], lambda message: None)
        client.post(Hello(protocol_version=1, package_version="", python_version="", pid=os.getpid(), token=b"t" * 32))
    """
    program = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program, *map(str, args)], text=True)


async def test_a_process_that_exits_has_delivered_everything(coordinator, loop_kind) -> None:
    coordinator.server.expect(1, TOKEN)
    process = start_child(
        """
        for number in range(500):
            client.post(Stacks(text=str(number)))
        client.post(Goodbye())
        delivered = client.flush_and_close(30.0)
        os._exit(0 if delivered else 1)
        """,
        coordinator.path,
    )
    # Whatever the loop did meanwhile: the process ended only after the Goodbye had been handled.
    assert await exit_code(process) == 0
    assert len(coordinator.got) == 502
    assert coordinator.got[-1] == (1, m.Goodbye())


async def test_a_killed_process_does_not_disturb_the_server(coordinator) -> None:
    coordinator.server.expect(1, TOKEN)
    process = start_child("import signal; signal.pause()", coordinator.path)
    await coordinator.until(1)
    process.send_signal(signal.SIGKILL)
    await exit_code(process)
    coordinator.server.expect(1, TOKEN)
    worker = Worker(coordinator.path)
    worker.client.post(hello())
    assert len(await coordinator.until(2)) == 2
    await worker.close()


async def test_processes_of_other_users_are_refused_by_the_kernel(sockets, raw_peer, monkeypatch) -> None:
    monkeypatch.setattr(control.os, "geteuid", lambda: os.getuid() + 12_345)  # whom the server takes for its user
    coordinator = Coordinator(sockets)
    coordinator.server.expect(1, TOKEN)
    monitor = raw_peer.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    raw_peer.send(m.encode(hello()))
    assert await asyncio.to_thread(monitor.poll)
    coordinator.server.drain()
    assert coordinator.got == []
    assert coordinator.server.dropped == 0
    raw_peer.disable_monitor()
    monitor.close()
    coordinator.server.close()


async def test_the_socket_is_ours_alone(coordinator) -> None:
    assert coordinator.path.stat().st_mode & 0o777 == 0o600


async def test_a_place_that_cannot_hold_a_socket_is_a_clear_error(tmp_path) -> None:
    with pytest.raises(OSError, match="cannot make the control socket"):
        ControlServer(tmp_path / "missing" / "s", lambda worker_id, message: None, asyncio.get_running_loop())
    with pytest.raises(OSError, match="cannot make the control socket"):
        ControlServer(tmp_path / ("x" * 120), lambda worker_id, message: None, asyncio.get_running_loop())


@pytest.mark.parametrize("side", ["server", "client"])
def test_too_few_descriptors_are_an_error_and_never_an_abort(side: str, tmp_path: Path) -> None:
    program = """
        import asyncio, resource, sys
        from remotemedia.ipc.control import ControlClient, ControlServer
        loop, path, side = asyncio.new_event_loop(), sys.argv[1], sys.argv[2]
        outcomes = []
        for limit in range(8, 60):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            try:
                if side == "server":
                    ControlServer(path, print, loop).close()
                else:
                    ControlClient(path, print).flush_and_close(0.0)
                outcomes.append("made")
            except OSError as error:
                assert "free file descriptors" in str(error), error
                outcomes.append("refused")
        assert sorted(outcomes, reverse=True) == outcomes, outcomes
        print(*sorted(set(outcomes)))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "s"), side],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "made refused"), done.stderr
