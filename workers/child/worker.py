"""The life of a worker: hello, load, initialize, ready; frames; stop, cleanup, goodbye."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from typing import Any

from remotemedia._version import __version__
from remotemedia.config import OnError
from remotemedia.core.calling import maybe_await, needs_event_loop
from remotemedia.core.exceptions import ProtocolError
from remotemedia.core.node import Node
from remotemedia.core.node_serialization import load_node
from remotemedia.core.remote_errors import described
from remotemedia.ipc.control import ControlClient
from remotemedia.ipc.doorbell import OwnDoorbell
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.messages import (
    MAX_STACKS_BYTES,
    PROTOCOL_VERSION,
    Answer,
    Custom,
    DumpStacks,
    Failed,
    FailedPhase,
    FromCoordinator,
    Goodbye,
    Hello,
    Loaded,
    Ready,
    Skipped,
    Stacks,
    Stop,
    Welcome,
)
from remotemedia.workers.board import Board
from remotemedia.workers.boot import BootSpec, parse_boot
from remotemedia.workers.child import parent_watch
from remotemedia.workers.child.drive import BlockingWaiter, drive
from remotemedia.workers.child.logs import forward_logs
from remotemedia.workers.child.wiring import resumption, wire
from remotemedia.workers.failpoints import failpoints_of
from remotemedia.workers.snapshots import Snapshot
from remotemedia.workers.stacks import python_stacks
from remotemedia.workers.stage import NodeFailure, Stage, Stopped, cleanup, initialize
from remotemedia.workers.traced_node import TracedNode
from remotemedia.workers.traces import TraceTable

_FLUSH_S = 1.0
_GOODBYE_S = 5.0
"""How long the coordinator may take to read the last message."""


def run(boot: dict[str, Any], payload: memoryview, limits_problem: str | None) -> int:
    """Live one worker's life; returns the exit code. `limits_problem`: what of its limits could not be applied."""
    spec = parse_boot(boot)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's business
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _name_process(spec)
    return Worker(spec).live(payload, limits_problem)


def _name_process(spec: BootSpec) -> None:
    try:
        from setproctitle import setproctitle  # type: ignore[import-not-found]
    except ImportError:
        return
    setproctitle(f"remotemedia: {spec.node} #{spec.worker_id} gen {spec.generation}")


class Worker:
    """One worker process, from inside."""

    def __init__(self, spec: BootSpec) -> None:
        self._spec = spec
        self._ledger = Ledger(spec.ledger_fd)
        self._board = Board(self._ledger, spec.board)
        self._bell = OwnDoorbell(spec.bell.fd, self._ledger.region(spec.bell.word, 1))
        self._welcomed = threading.Event()
        self._cleaned_up = threading.Event()
        self._failed = False
        self._failpoints = failpoints_of(spec.node, spec.worker_id, spec.generation)
        self._stage: Stage | None = None
        self._client = ControlClient(
            spec.socket_path,
            self._on_message,
            parent_fd=spec.parent_fd,
            on_parent_death=self._on_parent_death,
            on_beat=self._board.beat,
            beat_s=spec.heartbeat_s,
        )

    def live(self, payload: memoryview, limits_problem: str | None) -> int:
        """Everything between hello and goodbye."""
        self._failpoints.reach("child.boot")
        forward_logs(self._client.post, self._spec.log_level)
        self._client.post(
            Hello(
                protocol_version=PROTOCOL_VERSION,
                package_version=__version__,
                python_version=".".join(map(str, sys.version_info[:3])),
                pid=os.getpid(),
                token=self._spec.token,
            )
        )
        cleanup_error = None
        node = self._load(payload, limits_problem)
        if node is not None:
            cleanup_error = self._run(node)
        self._cleaned_up.set()
        self._client.post(Goodbye(cleanup_error=cleanup_error))
        self._client.flush_and_close(_GOODBYE_S)
        return 0

    # -- the control thread --------------------------------------------------------------------------------------------

    def _on_message(self, message: FromCoordinator | ProtocolError) -> None:
        if isinstance(message, Welcome):
            self._welcomed.set()
        elif isinstance(message, Custom):
            self._on_control(message)
        elif isinstance(message, DumpStacks):
            self._client.post(Stacks(text=python_stacks(most_bytes=MAX_STACKS_BYTES)))
        elif isinstance(message, (Stop, ProtocolError)):
            self._request_stop()

    def _on_control(self, message: Custom) -> None:
        def answer(error: BaseException | None) -> None:
            told = None if error is None else Failed.of("process", error).error  # certain to fit into a message
            self._client.post(Answer(number=message.number, error=told))

        if self._stage is not None:  # it is there before the coordinator hears that this worker is ready
            self._stage.post_control(message.payload, answer)

    def _on_frame_error(self, done: OnError, number: int, error: BaseException) -> None:
        if done == "skip":
            self._client.post(Skipped(frame=number, text=described(error)))

    def _on_parent_death(self) -> None:
        self._request_stop()
        parent_watch.kill_group_after_grace(self._cleaned_up)

    def _request_stop(self) -> None:
        self._board.request_stop()
        self._welcomed.set()
        self._bell.ring()

    # -- the main thread -----------------------------------------------------------------------------------------------

    def _load(self, payload: memoryview, limits_problem: str | None) -> Node | None:
        self._welcomed.wait()
        if self._board.stop_requested:
            return None
        if limits_problem is not None:
            self._fail("limits", OSError(limits_problem))
            self._wait_for_stop()
            return None
        try:
            node = load_node(payload)
        except BaseException as error:  # noqa: BLE001 - unpickling runs the user's imports: anything may come
            self._fail("load", error.__cause__ or error)
            self._wait_for_stop()
            return None
        node.restart_count = self._spec.generation
        self._failpoints.reach("child.loaded")
        self._client.post(Loaded())
        self._client.flush(_FLUSH_S)  # initialize() may keep the GIL for long, and its time has begun
        return node

    def _run(self, node: Node) -> str | None:
        """Initialize, process, clean up; gives what cleanup raised, as text."""
        if not needs_event_loop(node):
            self._bell.waiter = BlockingWaiter(self._bell, lambda: self._board.stop_requested)
            return drive(self._live_with(node))
        import asyncio

        async def live_in_loop() -> str | None:
            from remotemedia.workers.loop_waiter import LoopWaiter

            waiter = self._bell.waiter = LoopWaiter(self._bell, self._raise_if_stopped)
            try:
                return await self._live_with(node)
            finally:
                waiter.close()

        return asyncio.run(live_in_loop())

    def _raise_if_stopped(self) -> None:
        if self._board.stop_requested:
            raise Stopped

    async def _live_with(self, node: Node) -> str | None:
        try:
            await self._work(node)
        except Stopped:
            pass
        except NodeFailure as failure:
            self._fail(failure.phase, failure.__cause__ or failure, failure.number)
        except BaseException as error:  # noqa: BLE001 - of the node's own: nobody interrupts or cancels a worker
            self._fail("process", error, self._board.frame)
        if self._failed:
            await self._stop_asked()
        try:
            self._failpoints.reach("child.cleanup")
            await cleanup(node)
        except BaseException as error:  # noqa: BLE001 - reported in the goodbye
            return described(error)
        return None

    async def _work(self, node: Node) -> None:
        try:
            stage, snapshot = self._connect(node)
            self._stage = stage
        except BaseException as error:  # noqa: BLE001 - reported to the coordinator
            self._fail("channel", error)
            return
        try:
            await initialize(node)
            if snapshot is not None:
                await maybe_await(node.restore_state(snapshot.state))
            self._failpoints.reach("child.initialized")
        except BaseException as error:  # noqa: BLE001 - reported to the coordinator
            self._fail("initialize", error)
            return
        self._client.post(Ready())
        self._failpoints.instrument(stage)
        await stage.run()

    def _connect(self, node: Node) -> tuple[Stage, Snapshot | None]:
        """The stage between its channels, where the last generation of this worker ended; the snapshot of its state."""
        spec = self._spec
        wiring = wire(spec, self._ledger)
        stage = Stage(
            node,
            wiring.inbox,
            wiring.sender,
            self._bell,
            self._board,
            resumption(node, spec, wiring),
            worker_id=spec.worker_id,
            on_error=spec.on_error,
            spin_us=spec.spin_us,
            sessions=spec.sessions,
            on_frame_error=self._on_frame_error,
            traced=self._traced(node),
        )
        return stage, wiring.snapshot

    def _traced(self, node: Node) -> TracedNode | None:
        spec = self._spec
        if spec.traces is None:
            return None
        table = TraceTable.at(spec.traces, self._ledger)
        return TracedNode(node, table, spec.worker_id, spec.generation)

    def _fail(self, phase: FailedPhase, error: BaseException, number: int | None = None) -> None:
        self._failed = True
        self._client.post(Failed.of(phase, error, frame=number))

    async def _stop_asked(self) -> None:
        """After a failure: wait until the coordinator has decided."""
        with contextlib.suppress(Stopped):
            await self._bell.until(lambda: True if self._board.stop_requested else None, 0)

    def _wait_for_stop(self) -> None:
        self._bell.waiter = BlockingWaiter(self._bell, lambda: self._board.stop_requested)
        drive(self._stop_asked())
