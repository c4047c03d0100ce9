"""The asyncio side of one worker: starts it, feeds what happens into its lifecycle, carries out what that says."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.core import stats
from remotemedia.core.exceptions import (
    ProtocolError,
    RemoteMediaError,
    WorkerIdentity,
)
from remotemedia.events import Died, Started
from remotemedia.events import Ready as IsReady
from remotemedia.ipc.messages import Failed, FromWorker, Goodbye, Hello, Loaded, Log, Ready, Stop, Welcome
from remotemedia.workers import lifecycle as life
from remotemedia.workers import lifecycle_events as events
from remotemedia.workers.boot import BootSpec
from remotemedia.workers.diagnose import Hang, catches
from remotemedia.workers.event_bus import EventBus
from remotemedia.workers.fabric import Fabric
from remotemedia.workers.failpoints import failpoints_of
from remotemedia.workers.launcher import Launcher
from remotemedia.workers.obituary import Circumstances, error_of_failure, error_of_report, error_of_spawn
from remotemedia.workers.placement import SameCore
from remotemedia.workers.process import ExitStatus, WorkerProcess
from remotemedia.workers.rundir import PoolDir
from remotemedia.workers.spares import Spare
from remotemedia.workers.stdio import OutputReader, Stream
from remotemedia.workers.voices import pass_on_line, pass_on_record, pass_on_stacks
from remotemedia.workers.watch import Signs, Watch
from remotemedia.workers.written_stacks import AskedStacks, split_stacks

_STACKS_S = 0.3
"""How long a hung worker gets to write its stacks before it is killed."""
_LATE = 0.1
"""A deadline that is noticed later than by this part of itself is given once more: the loop was blocked."""

_logger = logging.getLogger("remotemedia.supervisor")


class PoolParts(Protocol):
    """What a supervisor needs of its pool."""

    fabric: Fabric
    directory: PoolDir
    control: Any
    session_names: dict[int, str]
    events: EventBus
    spin_us: int
    home: SameCore | None

    @property
    def limits(self) -> Sequence[WorkerLimits]: ...

    @property
    def launcher(self) -> Launcher: ...

    def take_spare(self, worker_id: int) -> Spare | None:
        """A spare process that can be this worker."""
        ...

    def circumstances(self, supervisor: Supervisor, hang: Hang | None) -> Circumstances:
        """What is known of a worker's end beside its life and its last words."""
        ...


class Supervisor:
    """One worker slot: its process, and what is known of it."""

    def __init__(
        self,
        worker_id: int,
        node_id: str,
        payload_fd: int,
        parts: PoolParts,
        config: PoolConfig,
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[RemoteMediaError], None],
        *,
        generation: int = 0,
        given_up: tuple[int, ...] = (),
    ) -> None:
        """`payload_fd`: a memfd with the node, which stays the caller's. `on_failure(error)` is called once, with the
        first thing that makes the worker useless. `given_up`: numbers of frames that are not to be tried again.
        """
        self.worker_id, self.node_id, self.generation = worker_id, node_id, generation
        self._payload_fd, self._given_up = payload_fd, given_up
        self._failpoints = failpoints_of(node_id, worker_id, generation)
        self._parts, self._config, self._loop = parts, config, loop
        self._on_failure = on_failure
        self.limits = parts.limits[worker_id]
        self.own_bytes: int | None = None
        """Memory of its own when last looked at."""
        self.told: set[str] = set()
        """What the pool's rounds have told of it already."""
        self._board = parts.fabric.boards[worker_id]
        self._frames_before = 0
        self._watch: Watch | None = None
        self._hang: Hang | None = None
        self._broke: ProtocolError | None = None
        self._life, self._instructions = life.begin(config.timeouts)
        self._process: WorkerProcess | None = None
        self._output: OutputReader | None = None
        self._stacks = AskedStacks(loop, self._tell_stacks)
        self._status: ExitStatus | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parent_pipe: int | None = None
        self._error: RemoteMediaError | None = None
        self._cleanup_error: str | None = None
        self._ready: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def state(self) -> str:
        return self._life.phase.value

    @property
    def identity(self) -> WorkerIdentity:
        return WorkerIdentity(
            node=self.node_id, worker_id=self.worker_id, pid=self.pid, generation=self.generation
        )

    def stderr_tail(self) -> str:
        """The last of what it wrote to stderr."""
        return self._output.tail() if self._output is not None else ""

    @property
    def was_ready(self) -> bool:
        """Whether its node has been initialized."""
        return self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None

    @property
    def watch(self) -> Watch | None:
        """The looks at it while it is ready; None before and after."""
        return self._watch if self._life.phase is life.Phase.READY else None

    @property
    def frames(self) -> int:
        """Frames that this process has worked on; the board counts on from one process of a worker to the next."""
        return int(self._board.stats.values[stats.CALLS]) - self._frames_before

    # -- start ---------------------------------------------------------------------------------------------------------

    def spawn(self, spare: Spare | None = None) -> None:
        """Start the process, or make a spare one the worker. Raises WorkerStartError."""
        token = secrets.token_bytes(32)
        self._parts.control.expect(self.worker_id, token)
        self._board.forget_waiting()
        self._frames_before = int(self._board.stats.values[stats.CALLS])
        if spare is not None and spare.become(self._boot_spec(token, spare.parent_fd)):
            self._process, self._parent_pipe = spare.process, spare.parent_pipe
            self._process.on_exit = self._on_exit
        else:
            if spare is not None:
                spare.kill_now()
            self._process = self._start(token)
            self._parts.directory.record_worker(self._process.pid)
        self._output = OutputReader(self._process.stdout, self._process.stderr, self._on_line, self._loop)
        self._failpoints.reach("parent.spawned")
        self._parts.events.emit(Started.of(self.identity))
        self._carry_out(self._instructions)

    def _start(self, token: bytes) -> WorkerProcess:
        child_end = -1
        try:
            child_end, self._parent_pipe = os.pipe2(os.O_CLOEXEC)
            spec = self._boot_spec(token, child_end)
            return self._parts.launcher.launch(
                {"worker": spec.to_builtins()}, spec.inherited_fds(), self.limits, self._on_exit
            )
        except OSError as error:
            self._close_parent_pipe()
            raise error_of_spawn(error, self.identity) from error
        finally:
            if child_end >= 0:
                os.close(child_end)

    def _boot_spec(self, token: bytes, parent_fd: int) -> BootSpec:
        fabric, directory, stage = self._parts.fabric, self._parts.directory, self.worker_id
        return BootSpec(
            node=self.node_id,
            worker_id=self.worker_id,
            generation=self.generation,
            payload_fd=self._payload_fd,
            socket_path=str(directory.socket_path),
            token=token,
            parent_fd=parent_fd,
            shm_prefix=directory.shm_prefix,
            iox_root=str(directory.iox_root),
            ledger_fd=fabric.ledger.fd,
            board=fabric.board_offset(stage),
            bell=fabric.bell_of(stage),
            inputs=fabric.inputs_of(stage),
            output=fabric.output_of(stage),
            origins=fabric.origins_of(stage),
            log_level=logging.getLogger().getEffectiveLevel(),
            own_sources=fabric.own_sources,
            replaceable=fabric.is_replaceable(stage),
            given_up=self._given_up,
            snapshots=fabric.snapshots_of(stage, self._config),
            heartbeat_s=self._config.timeouts.heartbeat_s,
            nice=self.limits.nice,
            cpu_affinity=self._processors(),
            on_error=self._config.on_error,
            spin_us=self._parts.spin_us,
            sessions=tuple(self._parts.session_names.items()),
            traces=fabric.traces,
        )

    def _processors(self) -> tuple[int, ...] | None:
        home = self._parts.home
        return (home.processor,) if self.limits.cpu_affinity is None and home is not None else self.limits.cpu_affinity

    async def ready(self) -> None:
        """Returns when the node is initialized in the worker. Raises why it never will be."""
        await asyncio.shield(self._ready)

    # -- events --------------------------------------------------------------------------------------------------------

    def on_message(self, message: FromWorker | RemoteMediaError) -> None:
        """A control message of this worker, or what was wrong with it."""
        match message:
            case Hello():
                self._feed(events.SaidHello())
            case Loaded():
                self._feed(events.SaidLoaded())
            case Ready():
                self._feed(events.SaidReady())
            case Failed():
                self._on_report(message)
            case Log():
                for record in message.records:
                    pass_on_record(record, self.identity)
            case Goodbye():
                self._cleanup_error = message.cleanup_error
                self._feed(events.SaidGoodbye())
            case ProtocolError():
                self._broke = self._broke or message
                self._feed(events.Condemned(str(message)))

    def _on_report(self, report: Failed) -> None:
        self._announce(error_of_report(report, self.identity))
        if self._life.phase.is_starting:
            self._feed(events.StartFailed(report.phase))

    def _on_exit(self, status: ExitStatus) -> None:
        self._status = status
        self._failpoints.reach("parent.reaping")
        self._parts.control.drain()  # its last words may still be in the socket
        assert self._output is not None
        self._output.finish()
        self._feed(events.Exited(str(status)))
        self._stacks.finish()
        if self._life.failure is not None:
            self._announce_failure()

    def _on_line(self, stream: Stream, text: str) -> None:
        if stream == "stdout" or not self._stacks.take(text):
            pass_on_line(stream, text, self.identity)

    def _on_deadline(self, seconds: float, due: float, *, grace: bool) -> None:
        self._timer = None
        if grace and self._loop.time() - due > seconds * _LATE:
            # This loop was blocked: what the worker said and did meanwhile is still to be heard of.
            self._set_deadline(seconds, grace=False)
        else:
            self._feed(events.DeadlinePassed())

    # -- instructions --------------------------------------------------------------------------------------------------

    def _feed(self, event: events.Event) -> None:
        try:
            self._life, instructions = life.transition(self._life, event)
        except life.IllegalTransition as error:
            self._broke = self._broke or error
            self._life, instructions = life.transition(self._life, events.Condemned(str(error)))
        _logger.debug("%s: %s", self.identity, self._life.story[-1])
        self._carry_out(instructions)

    def _carry_out(self, instructions: list[events.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case events.SendWelcome():
                    self._parts.control.send(self.worker_id, Welcome())
                case events.SendStop(deadline_s):
                    self._parts.fabric.request_stop(self.worker_id)
                    self._parts.control.send(self.worker_id, Stop(deadline_s=deadline_s))
                case events.SetDeadline(seconds):
                    self._set_deadline(seconds)
                case events.AnnounceReady():
                    self._watch = Watch(self._config.timeouts, self.signs(), self._loop.time())
                    self._parts.events.emit(IsReady.of(self.identity))
                    if not self._ready.done():
                        self._ready.set_result(None)
                case events.AnnounceFailure():
                    pass  # told by its report, or when it has ended and everything is known: see _on_exit
                case events.Kill(dump_stacks):
                    self._kill(dump_stacks=dump_stacks)
                case events.Sweep():
                    self._sweep()
                case events.AnnounceEnd():
                    self._on_end()

    def _set_deadline(self, seconds: float | None, *, grace: bool = True) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            due = self._loop.time() + seconds
            self._timer = self._loop.call_later(seconds, partial(self._on_deadline, seconds, due, grace=grace))

    def _kill(self, *, dump_stacks: bool) -> None:
        assert self._process is not None
        if dump_stacks and self.dump_stacks():
            self._loop.call_later(_STACKS_S, self._process.kill)
        else:
            self._process.kill()

    def _sweep(self) -> None:
        """Nothing of a dead worker outlives the pool; until then its frames in flight stay readable."""
        assert self._process is not None
        self._failpoints.reach("parent.sweeping")
        self._parts.directory.forget_worker(self._process.pid)
        self._parts.control.forget(self.worker_id)
        self._close_parent_pipe()
        self._feed(events.Swept())

    def _on_end(self) -> None:
        if self._life.failure is not None:
            self._announce_failure()  # one that could not even be killed is announced here
        if not self._ready.done():
            self._ready.cancel()
        if not self._ended.done():
            self._ended.set_result(None)

    def _announce_failure(self) -> None:
        self._announce(
            error_of_failure(
                self._life,
                self._status,
                self.identity,
                frame=self._board.frame,
                stderr=self._output.tail() if self._output is not None else "",
                known=self._parts.circumstances(self, self._hang),
                broke=self._broke,
            )
        )

    def _announce(self, error: RemoteMediaError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._parts.events.emit(Died.of(self.identity, str(error)))
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # whoever waits gets it; nobody has to
        self._on_failure(error)

    # -- being looked after (see remotemedia.workers.rounds) -----------------------------------------------------------

    def signs(self) -> Signs:
        """What its board shows now."""
        board = self._board
        return Signs(board.beats, board.frame, int(board.stats.values[stats.CALLS]), board.waits)

    def dump_stacks(self, *, tell: bool = False) -> bool:
        """Have it write the stacks of all its threads to its stderr, whatever it does, and go on. False: it would not,
        because it has not got there yet, or because the node has taken the signal's handler away.

        `tell`: the stacks are to be logged when they are there.
        """
        if self._process is None or not catches(self._process.pid, signal.SIGUSR2):
            return False
        self._stacks.ask(tell=tell)
        self._process.send_signal(signal.SIGUSR2)
        return True

    def _tell_stacks(self) -> None:
        if self._life.failure is None:  # else its error has them
            pass_on_stacks(split_stacks(self.stderr_tail())[1], self.identity)

    def give_up(self, hang: Hang) -> None:
        """It hangs: kill it, its stacks first."""
        if self._hang is None:
            self._hang = hang
            what = "no sign of life" if hang.frame is None else f"frame {hang.frame}"
            self._feed(events.Unresponsive(f"{what} for {hang.waited_s:.1f} s, process state {hang.process_state}"))

    # -- stop ----------------------------------------------------------------------------------------------------------

    def begin_stop(self) -> None:
        """Ask the worker to stop, clean up and exit; it is killed when its time is up."""
        if self._process is None:
            if not self._ended.done():
                self._ended.set_result(None)
        elif not self._life.phase.is_final:
            self._feed(events.StopRequested())

    async def stopped(self) -> str | None:
        """Returns when the process is gone: what its `cleanup()` raised, as text."""
        await asyncio.shield(self._ended)
        self._set_deadline(None)
        self._close_parent_pipe()
        return self._cleanup_error

    def kill_now(self) -> None:
        """For finalizers: without the loop."""
        if self._process is not None:
            self._process.kill_now()
        if self._output is not None:
            self._output.finish()
        self._stacks.stop()
        if not self._loop.is_closed():
            self._set_deadline(None)
        self._close_parent_pipe()

    def _close_parent_pipe(self) -> None:
        if self._parent_pipe is not None:
            os.close(self._parent_pipe)
            self._parent_pipe = None
