"""The control plane: messages between the coordinator (ControlServer) and its workers (ControlClient) over ZeroMQ.

One ROUTER socket in the coordinator, one DEALER in each worker, on a Unix socket in the pool's private directory.
Nothing polls: both ends sleep until a file descriptor becomes readable. The only file that imports zmq.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import struct
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias, cast

import zmq

from remotemedia.core.exceptions import MalformedMessage, PoolClosed, ProtocolError
from remotemedia.ipc.connections import Connections
from remotemedia.ipc.messages import (
    MAX_MESSAGE_BYTES,
    Direction,
    Farewell,
    FromCoordinator,
    FromWorker,
    Goodbye,
    Log,
    Message,
    Skipped,
    decode,
    encode,
    hello_token,
)

if TYPE_CHECKING:
    import asyncio

_logger = logging.getLogger("remotemedia.ipc.control")

_SERVER_FDS = 16  # context, socket, listener, and the first connections
_CLIENT_FDS = 12
_HANDSHAKE_MS = 10_000
_DRAIN_AT_ONCE = 64  # messages handled before the loop may look after others
_WARN_EVERY_S = 60.0
_PENDING_LOGS = 1_000
_MONITOR_EVENT = struct.Struct("=HI")  # its kind, and the descriptor of the connection

_CONNECTION_LOST = (
    f"the connection has ended although the process goes on: a message of more than {MAX_MESSAGE_BYTES} bytes has "
    "come, which ZeroMQ does not let in, or the node has closed a descriptor that is not its own"
)

OnServerMessage: TypeAlias = Callable[[int, "FromWorker | ProtocolError"], None]
OnClientMessage: TypeAlias = Callable[["FromCoordinator | ProtocolError"], None]


def require_free_fds(count: int, who: str = "the control plane") -> None:
    """Raise OSError(EMFILE) unless `count` descriptors are free: libzmq aborts the process when it runs out of them."""
    probes: list[int] = []
    try:
        for _ in range(count):
            probes.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - closed even half-way
    except OSError as error:
        text = f"{who} needs {count} free file descriptors, {len(probes)} are free; raise `ulimit -n`"
        raise OSError(error.errno, text) from error
    finally:
        for fd in probes:
            os.close(fd)


def _decoded(parts: list[bytes], direction: Direction) -> Message | ProtocolError:
    if len(parts) != 1:
        return MalformedMessage(f"it has {len(parts)} parts instead of one")
    try:
        return decode(parts[0], direction)
    except ProtocolError as error:
        return error


class ControlServer:
    """The coordinator's end. Everything is called in, and every callback comes in, the loop's thread.

    `on_message(worker_id, message)` gets each message of a known worker, or the MalformedMessage or
    ProtocolVersionMismatch that its bytes caused; a MalformedMessage as well if its connection ends, which a message
    that is too large makes it do, and it is not forgotten within a second. A peer becomes a known worker by a Hello
    with the token given to `expect`; messages of others are dropped, counted in `dropped`, and warned of once per
    minute.

    Raises OSError if the socket cannot be made at `path` (which must fit into 107 bytes).
    """

    def __init__(
        self, path: str | os.PathLike[str], on_message: OnServerMessage, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._path, self._on_message, self._loop = os.fspath(path), on_message, loop
        self._expected: dict[int, bytes] = {}
        self._worker_of: dict[bytes, int] = {}
        self._peer_of: dict[int, bytes] = {}
        self._connections = Connections(loop, self._on_connection_lost)
        self.dropped = 0
        self._warned_at = -_WARN_EVERY_S
        require_free_fds(_SERVER_FDS)
        self._context = zmq.Context(io_threads=1)
        try:
            self._socket = self._bound_socket()
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise OSError(error.errno, f"cannot make the control socket: {error.strerror}", self._path) from error
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._monitor_fd = int(self._monitor.getsockopt(zmq.FD))
        loop.add_reader(self._fd, self._drain_some)
        loop.add_reader(self._monitor_fd, self._watch_connections)

    def _bound_socket(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        # Second line behind the private directory: the kernel says whose process connects.
        socket.setsockopt(zmq.IPC_FILTER_UID, os.geteuid())
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        socket.bind(f"ipc://{self._path}")
        os.chmod(self._path, 0o600)  # noqa: PTH101 - pathlib costs every worker 3 ms
        return socket

    # -- who is who ----------------------------------------------------------------------------------------------------

    def expect(self, worker_id: int, token: bytes) -> None:
        """The next Hello with `token` (32 random bytes, good for one Hello) is worker `worker_id`; an earlier
        process of that id is forgotten."""
        self.forget(worker_id)
        self._expected[worker_id] = token

    def forget(self, worker_id: int) -> None:
        """Drop from now on what the process known as `worker_id` sends."""
        self._expected.pop(worker_id, None)
        self._connections.forget(worker_id)
        peer = self._peer_of.pop(worker_id, None)
        if peer is not None:
            del self._worker_of[peer]

    def _identify(self, peer: bytes, payload: list[bytes], connection: int) -> int | None:
        worker_id = self._worker_of.get(peer)
        if worker_id is not None:
            return worker_id
        token = hello_token(payload[0]) if len(payload) == 1 else None
        worker_id = None if token is None else self._claim(token)
        if worker_id is not None:
            self._worker_of[peer], self._peer_of[worker_id] = worker_id, peer
            self._connections.belongs(connection, worker_id)
        return worker_id

    def _claim(self, token: bytes) -> int | None:
        import hmac

        for worker_id, expected in self._expected.items():
            if hmac.compare_digest(expected, token):
                del self._expected[worker_id]
                return worker_id
        return None

    # -- receiving -----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Handle everything that has arrived, now: before judging a worker that has exited, read its last words."""
        while self._receive_one():
            pass

    def _drain_some(self) -> None:
        # The descriptor tells of changes only (edge-triggered): what is left unread must be come back to by ourselves.
        # That holds as well when a callback raises.
        more = True
        try:
            for _ in range(_DRAIN_AT_ONCE):
                more = self._receive_one()
                if not more:
                    return
        finally:
            if more and not self._socket.closed:
                self._loop.call_soon(self._drain_some)

    def _receive_one(self) -> bool:
        if self._socket.closed:  # closed by a callback, or between scheduling and running
            return False
        try:
            parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        self._watch_connections()  # what happened before: descriptors are used again
        self._handle([part.bytes for part in parts], int(parts[-1].get(zmq.SRCFD)))
        return True

    def _watch_connections(self) -> None:
        while not self._monitor.closed:
            try:
                event, _ = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            kind, fd = _MONITOR_EVENT.unpack(event)
            if kind == zmq.EVENT_ACCEPTED:
                self._connections.opened(fd)
            else:
                self._connections.ended(fd)

    def _on_connection_lost(self, worker_id: int) -> None:
        self._on_message(worker_id, MalformedMessage(_CONNECTION_LOST))

    def _handle(self, parts: list[bytes], connection: int) -> None:
        peer, *payload = parts
        worker_id = self._identify(peer, payload, connection)
        if worker_id is None:
            self._drop(peer)
            return
        message = _decoded(payload, "to_coordinator")
        if isinstance(message, Goodbye):
            self._connections.forget(worker_id)
        self._on_message(worker_id, cast("FromWorker | ProtocolError", message))
        if isinstance(message, Goodbye) and not self._socket.closed:
            self.send(worker_id, Farewell())

    def _drop(self, peer: bytes) -> None:
        self.dropped += 1
        now = monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            text = "dropped a control message of an unknown peer (%s) on %s; %d so far"
            _logger.warning(text, peer.hex(), self._path, self.dropped)

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(self, worker_id: int, message: FromCoordinator) -> bool:
        """Send without waiting. False: the worker is not connected (not yet, or no more) or does not read."""
        if self._socket.closed:
            raise PoolClosed("the control plane is closed")
        data = encode(message)
        peer = self._peer_of.get(worker_id)
        if peer is None:
            return False
        try:
            self._socket.send_multipart([peer, data], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in {errno.EHOSTUNREACH, errno.EAGAIN}:
                return False
            raise
        finally:
            # Sending may have eaten the descriptor's edge for messages that arrived meanwhile.
            if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self._loop.call_soon(self._drain_some)
        return True

    def close(self) -> None:
        """Close the socket, remove its file, end ZeroMQ's threads. What has not been sent is dropped. Idempotent."""
        if self._socket.closed:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            self._loop.remove_reader(self._monitor_fd)
            self._connections.close()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108


class ControlClient:
    """A worker's end: a daemon thread of its own that sends what was posted and waits for what comes.

    `on_message(message)` gets each message of the coordinator (or the ProtocolError it caused) and `on_parent_death()`
    is called once when `parent_fd` reads end of file, both in that thread; so is `on_beat()`, every `beat_s` seconds,
    which shows that the interpreter gets to run. What they raise is logged; the thread goes on. `parent_fd` stays the
    caller's; it must not be closed before this client is. Raises OSError if there are too few free file descriptors.

    In a forked copy of the worker every method does nothing: only the worker speaks for itself.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        on_message: OnClientMessage,
        *,
        parent_fd: int | None = None,
        on_parent_death: Callable[[], None] | None = None,
        on_beat: Callable[[], None] | None = None,
        beat_s: float = 1.0,
    ) -> None:
        self._path, self._on_message = os.fspath(path), on_message
        self._on_beat, self._beat_s = on_beat, beat_s
        self._beat_at = math.inf if on_beat is None else monotonic() + beat_s
        self._parent_fd, self._on_parent_death = parent_fd, on_parent_death
        self._pid = os.getpid()
        self._outgoing: deque[bytes] = deque()
        self._pending_logs = 0
        self._last_words_by: float | None = None
        self._farewell_due = False
        self.dropped_logs = 0
        self._lock = threading.Lock()
        self._all_sent = threading.Event()
        self._closed = False
        require_free_fds(_CLIENT_FDS)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._context = zmq.Context(io_threads=1)
        self._thread = threading.Thread(target=self._run, name="remotemedia-control", daemon=True)
        self._thread.start()

    def post(self, message: FromWorker) -> bool:
        """Queue a message; from any thread, never waits. False: not taken (closed, a forked copy, or a Log or Skipped
        while 1000 messages are waiting). Raises MalformedMessage or TypeError for what cannot be encoded."""
        data = encode(message)
        if os.getpid() != self._pid:
            return False
        with self._lock:
            if self._closed:
                return False
            if isinstance(message, (Log, Skipped)) and len(self._outgoing) >= _PENDING_LOGS:
                self.dropped_logs += 1
                return False
            self._farewell_due = self._farewell_due or isinstance(message, Goodbye)
            self._outgoing.append(data)
            self._all_sent.clear()
            os.eventfd_write(self._wake_fd, 1)
        return True

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything posted is handed to ZeroMQ, whose own thread sends it even if this process keeps the
        GIL from now on, or crashes a moment later. False: it took longer. Not to be called from the callbacks.
        """
        return os.getpid() == self._pid and self._all_sent.wait(timeout_s)

    def flush_and_close(self, timeout_s: float) -> bool:
        """Send what is queued, wait until it is read, close. True: the coordinator has read everything posted.

        That is known only if a Goodbye was posted, which the coordinator answers; else it means handed to ZeroMQ.
        Not to be called from the callbacks.
        """
        if os.getpid() != self._pid:
            return False
        with self._lock:
            if not self._closed:
                self._closed = True
                self._last_words_by = monotonic() + timeout_s
                os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        return not self._outgoing and not self._farewell_due

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        socket = self._context.socket(zmq.DEALER)
        try:
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            socket.connect(f"ipc://{self._path}")
            self._serve(socket)
        finally:
            left_ms = max(0, int(1000 * (self._left_s() or 0)))
            socket.close(linger=left_ms)
            self._context.term()
            with self._lock:
                self._closed = True
                os.close(self._wake_fd)

    def _left_s(self) -> float | None:
        return None if self._last_words_by is None else self._last_words_by - monotonic()

    def _finished(self) -> bool:
        left_s = self._left_s()
        return left_s is not None and (left_s <= 0 or (not self._outgoing and not self._farewell_due))

    def _serve(self, socket: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_fd, zmq.POLLIN)
        if self._parent_fd is not None:
            poller.register(self._parent_fd, zmq.POLLIN)
        while not self._finished():
            poller.register(socket, zmq.POLLIN | (zmq.POLLOUT if self._outgoing else 0))
            ready = dict(poller.poll(self._wait_ms()))
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
            if self._parent_fd in ready and self._parent_is_gone():
                poller.unregister(self._parent_fd)
            self._send_pending(socket)
            self._receive(socket)
            self._beat_if_due()

    def _wait_ms(self) -> int | None:
        """Until the time for the last words is over, or the next heartbeat is due."""
        due = self._beat_at if self._last_words_by is None else min(self._beat_at, self._last_words_by)
        return None if due == math.inf else max(0, int((due - monotonic()) * 1000) + 1)

    def _beat_if_due(self) -> None:
        if self._on_beat is not None and (now := monotonic()) >= self._beat_at:
            self._beat_at = now + self._beat_s
            self._guarded(self._on_beat)

    def _send_pending(self, socket: zmq.Socket[bytes]) -> None:
        while self._outgoing:
            try:
                socket.send(self._outgoing[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._outgoing.popleft()
        with self._lock:
            if not self._outgoing:
                self._all_sent.set()

    def _receive(self, socket: zmq.Socket[bytes]) -> None:
        while True:
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = _decoded(parts, "to_worker")
            if isinstance(message, Farewell):
                self._farewell_due = False
            else:
                self._guarded(self._on_message, message)

    def _parent_is_gone(self) -> bool:
        assert self._parent_fd is not None
        if os.read(self._parent_fd, 4096):
            return False
        if self._on_parent_death is not None:
            self._guarded(self._on_parent_death)
        return True

    @staticmethod
    def _guarded(callback: Callable[..., None], *args: object) -> None:
        try:
            callback(*args)
        except Exception:
            _logger.exception("a callback of the control plane raised; the control plane goes on")
