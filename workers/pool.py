"""WorkerPool: warm workers for the nodes of a pipeline, started in order, stopped in reverse, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.exceptions import (
    ConfigurationError,
    NodeError,
    NodeInitializeError,
    PipelineError,
    PoolClosed,
    RemoteMediaError,
    WorkerIdentity,
)
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.core.node_serialization import serialize_node_async
from remotemedia.ipc.messages import FromWorker
from remotemedia.workers import sweep
from remotemedia.workers.blocking import Blocking
from remotemedia.workers.delivery import Window
from remotemedia.workers.exchange import Exchange, Output
from remotemedia.workers.inline_stage import run_inline
from remotemedia.workers.loop_waiter import LoopWaiter
from remotemedia.workers.parts import Parts, weakly
from remotemedia.workers.plan import FEED, make_plan
from remotemedia.workers.portal import Portal
from remotemedia.workers.rounds import Notice
from remotemedia.workers.slot import Slot
from remotemedia.workers.stage import Stage, cleanup, initialize
from remotemedia.workers.supervisor import refuse_deep_nesting

_logger = logging.getLogger("remotemedia.pool")


@dataclass(frozen=True, kw_only=True)
class WorkerSnapshot:
    """One stage as it is now. `pid` is None and `state` "inline" for a node that runs in the coordinator."""

    node: str
    worker_id: int
    pid: int | None
    state: str
    generation: int
    frames: int
    p50_us: float
    p99_us: float
    errors: int
    bytes_in: int
    bytes_out: int
    copies: int


@dataclass(frozen=True, kw_only=True)
class PoolSnapshot:
    """The pool as it is now."""

    workers: tuple[WorkerSnapshot, ...]


class WorkerPool(Blocking):
    """The nodes of a pipeline as a set of warm worker processes.

        async with WorkerPool([Detector(), Tracker()]) as pool:
            result = await pool.process(frame)
            async for result in pool.stream(frames):
                ...

        with WorkerPool([Detector(), Tracker()]) as pool:       # the same without asyncio
            result = pool.run(frame)
            for result in pool.map(frames):
                ...

    Nodes marked `executor="inline"` stay in this process, every other node gets a worker of its own. A pool belongs to
    the event loop, and the thread, in which it was started: awaiting its methods elsewhere raises PoolClosed; other
    threads use `run`, `map` and `call`. The first failure of a worker or node ends the pool: all who wait get the
    error, and so do all who come.
    """

    def __init__(
        self,
        nodes: Sequence[Node] | Graph,
        *,
        config: PoolConfig | None = None,
        places: Sequence[str] | None = None,
    ) -> None:
        """`nodes`: a chain, or a Graph. `places`: "inline" or "multiprocess" for each node, default by their marks.

        Raises ConfigurationError for an empty pipeline, and for one that cannot run.
        """
        graph = nodes if isinstance(nodes, Graph) else Graph.chain(list(nodes))
        if not graph.nodes:
            raise ConfigurationError("a pool needs at least one node")
        config = config or PoolConfig()
        self._restart = config.restart or RestartPolicy()
        self._config = config
        self._plan = make_plan(
            graph,
            tuple(places or graph.with_executor("multiprocess")),
            self._config.channel,
            retain=self._restart.max_restarts > 0,
        )
        self._parts: Parts | None = None
        self._exchange: Exchange | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._stage_tasks: list[asyncio.Task[None]] = []
        self._initialized: list[int] = []
        self._closing: asyncio.Task[None] | None = None
        self._error: RemoteMediaError | None = None
        self._finalizer: weakref.finalize[Any, WorkerPool] | None = None
        self.cleanup_errors: list[NodeError] = []
        """What `cleanup()` of nodes raised when the pool was closed."""

    @property
    def graph(self) -> Graph:
        return self._plan.graph

    # -- start ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Start the workers, and return when every node is initialized; undoes everything if that fails."""
        if self._loop is not None:
            raise PipelineError("this pool was started before; make a new one")
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._portal = portal = self._portal or Portal(self._loop)
        try:
            await self._start(self._loop, portal)
        except OSError as error:
            await self._close_shielded()
            raise PipelineError(
                f"the pool could not be started: {error}"
                + ("; raise the limit of file descriptors (`ulimit -n`)" if error.errno == errno.EMFILE else "")
            ) from error
        except BaseException:
            await self._close_shielded()
            raise

    async def _start(self, loop: asyncio.AbstractEventLoop, portal: Portal) -> None:
        plan = self._plan
        remote = [i for i in plan.graph.order if plan.remote[i]]
        if remote:
            refuse_deep_nesting()
        sweep.sweep(self._config.runtime_dir)
        payloads = {i: await serialize_node_async(plan.graph.nodes[i]) for i in remote}
        parts = self._parts = Parts(plan, self._config)
        self._finalizer = weakref.finalize(self, Parts.abandon, parts, repr(self), portal)
        parts.open_control(loop, self._on_message)
        for index in remote:
            parts.slots[index] = Slot(
                index,
                plan.graph.ids[index],
                payloads.pop(index),
                parts,
                self._config,
                loop,
                weakly(self._fail),
                policy=self._restart,
                on_error=self._config.on_error,
            )
        for slot in parts.slots.values():
            slot.spawn()
        # While the workers import what they need: the coordinator's part. No await until the channels are there,
        # because the answer
        # to a worker's hello lets it open them.
        parts.fabric.open_channels(parts.directory.shm_prefix, str(parts.directory.iox_root))
        parts.waiter = parts.fabric.bell.waiter = LoopWaiter(parts.fabric.bell, weakly(self._on_ring))
        window = Window(
            most_frames=self._config.in_flight_frames,
            most_bytes=self._config.in_flight_bytes,
            always=min(len(plan.graph.nodes), len(os.sched_getaffinity(0))) + 1,
        )
        fabric = parts.fabric
        self._exchange = Exchange(fabric.sender(FEED), fabric.inbox(plan.collect), fabric.bell, window)
        stages = self._inline_stages()
        await self._initialize_inline()
        await asyncio.gather(*(slot.ready() for slot in parts.slots.values()))
        if self._error is not None:
            raise self._error
        if remote:
            parts.begin_rounds(loop, weakly(self._on_notice), weakly(self._on_limit))
            parts.begin_spares(loop)
        fail = weakly(self._fail)
        self._stage_tasks = [
            loop.create_task(run_inline(stage, self._identity(index), fail)) for index, stage in stages.items()
        ]

    def _inline_stages(self) -> dict[int, Stage]:
        plan, parts = self._plan, self._parts
        assert parts is not None
        fabric = parts.fabric
        return {
            i: Stage(plan.graph.nodes[i], fabric.inbox(i), fabric.sender(i), fabric.bell, fabric.boards[i])
            for i in plan.graph.order
            if not plan.remote[i]
        }

    async def _initialize_inline(self) -> None:
        for index in self._plan.graph.order:
            if self._plan.remote[index]:
                continue
            self._initialized.append(index)
            try:
                await initialize(self._plan.graph.nodes[index])
            except Exception as error:
                raise NodeInitializeError(self._identity(index), f"initialize() raised {error!r}") from error

    def _identity(self, index: int) -> WorkerIdentity:
        return WorkerIdentity(node=self._plan.graph.ids[index], worker_id=index, pid=os.getpid())

    # -- what happens --------------------------------------------------------------------------------------------------

    def _on_ring(self) -> None:
        if self._exchange is not None:
            self._exchange.on_ring()

    def _on_message(self, worker_id: int, message: FromWorker | RemoteMediaError) -> None:
        parts = self._parts
        slot = parts.slots.get(worker_id) if parts is not None else None
        if slot is not None:
            slot.on_message(message)

    def _on_notice(self, notice: Notice) -> None:
        """The rounds have found something worth an event; it is logged already."""

    def _on_limit(self, worker_id: int, reason: str) -> None:
        """A worker has reached one of its limits: it is replaced between two frames."""
        if self._parts is not None and self._plan.is_replaceable(worker_id):
            self._parts.slots[worker_id].begin_replacing(reason)

    def _fail(self, error: RemoteMediaError) -> None:
        """The first failure ends the pool: everybody who waits gets it."""
        if self._closing is not None:
            # Nobody waits for it any more. As text: who keeps log records must not keep the pool with them.
            _logger.warning("while the pool was closing: %s", str(error))
            return
        if self._error is not None:
            return
        self._error = error
        if self._exchange is not None:
            self._exchange.fail(error)
        if self._parts is not None:
            self._parts.fabric.bell.ring()  # for those who wait for room
        for task in self._stage_tasks:
            task.cancel()

    # -- use -----------------------------------------------------------------------------------------------------------

    async def process(self, value: Any) -> Any:
        """Send one value through: its output, a list if there are several, None if there is none.

        Arrays in the result are read-only views of shared memory. May be called by many tasks at once. Raises
        NodeProcessError, WorkerDied, PoolClosed.
        """
        return await self._working_exchange().process(value)

    async def stream(
        self, source: Iterable[Any] | AsyncIterable[Any] | None = None, *, copy: bool = False
    ) -> AsyncGenerator[Any, None]:
        """All outputs for all items of `source`, in order, with backpressure; None: what the pipeline's own sources
        make.

        At the end of the source every node's `flush()` runs. `copy`: the arrays are to be the caller's own. Close the
        iterator to stop early (`contextlib.aclosing`).
        """
        async with contextlib.aclosing(self.numbered_stream(source, copy=copy)) as outputs:
            async for output in outputs:
                yield output.value

    def numbered_stream(
        self, source: Iterable[Any] | AsyncIterable[Any] | None = None, *, copy: bool = False
    ) -> AsyncGenerator[Output, None]:
        """Like `stream`, but gives (number of the input, output): what `flush()` gave carries the number after the
        last.
        """
        own_sources = self._plan.has_own_sources
        if own_sources and source is not None:
            raise ConfigurationError(
                f"the first node {self._plan.graph.ids[self._plan.graph.sources[0]]!r} makes its own frames: "
                "its process() takes no input"
            )
        return self._working_exchange().stream(source, own_sources=own_sources, copy=copy)

    def _working_exchange(self) -> Exchange:
        if self._closing is not None:
            raise PoolClosed("the pool is closed")
        if self._loop is None or self._parts is None:
            raise PipelineError("the pool is not started: use `async with WorkerPool(...) as pool:`")
        if os.getpid() != self._parts.owner_pid:
            raise PoolClosed("the pool belongs to the process that started it; this is a forked copy")
        self._require_own_loop()
        if self._error is not None:
            raise self._error
        if self._exchange is None:
            raise PipelineError("the pool is not started yet")
        return self._exchange

    def _require_own_loop(self) -> None:
        if asyncio._get_running_loop() is self._loop and threading.get_ident() == self._thread_id:
            return
        owner = next((t.name for t in threading.enumerate() if t.ident == self._thread_id), "that has ended")
        raise PoolClosed(
            f"the pool belongs to the event loop {self._loop!r} of thread {owner!r}, and was used in "
            f"{asyncio._get_running_loop() or 'no loop'!r} of thread {threading.current_thread().name!r}; "
            "in other threads use pool.run(value), pool.map(values) or pool.call(function, ...)"
        )

    def snapshot(self) -> PoolSnapshot:
        """States, counters and latencies, read from shared memory: costs the workers nothing."""
        parts = self._parts
        if parts is None:
            raise PipelineError("the pool is not started")
        return PoolSnapshot(workers=tuple(self._worker_snapshot(i, parts) for i in range(len(self._plan.graph.nodes))))

    def _worker_snapshot(self, index: int, parts: Parts) -> WorkerSnapshot:
        slot = parts.slots.get(index)
        facts = parts.fabric.boards[index].stats.as_dict(self._plan.graph.ids[index])
        return WorkerSnapshot(
            node=facts["node_id"],
            worker_id=index,
            pid=slot.pid if slot else None,
            state=slot.state if slot else "inline",
            generation=slot.generation if slot else 0,
            frames=facts["calls"],
            p50_us=facts["p50_us"],
            p99_us=facts["p99_us"],
            errors=facts["errors"],
            bytes_in=facts["bytes_in"],
            bytes_out=facts["bytes_out"],
            copies=facts["copies"],
        )

    def metrics(self) -> list[dict[str, Any]]:
        """Per node: node_id, calls, avg_duration_us, p50_us, p99_us, errors, restarts, bytes_in, bytes_out, copies,
        bytes_copied.
        """
        parts = self._parts
        if parts is None:
            return []
        ids = self._plan.graph.ids
        return [board.stats.as_dict(ids[i]) for i, board in enumerate(parts.fabric.boards)]

    # -- end -----------------------------------------------------------------------------------------------------------

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the workers, run every node's `cleanup()`, remove everything. Idempotent; a cancellation does not stop
        it half-way.
        """
        await self._close_shielded()

    async def _close_shielded(self) -> None:
        if self._parts is not None and os.getpid() != self._parts.owner_pid:
            return  # a forked copy: the pool is not ours to close
        if self._loop is not None and self._loop.is_closed():
            self._give_up()
            return
        if self._loop is not None:
            self._require_own_loop()
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        cancelled = False
        while not self._closing.done():
            try:
                await asyncio.shield(self._closing)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError
        self._closing.result()

    async def _close(self) -> None:
        parts = self._parts
        if parts is None:
            return
        self._error = self._error or PoolClosed("the pool was closed")
        if self._exchange is not None:
            self._exchange.fail(self._error)
            parts.fabric.bell.ring()  # for those who wait for credit
        for task in self._stage_tasks:
            task.cancel()
        await asyncio.gather(*self._stage_tasks, return_exceptions=True)
        slots = list(reversed(parts.slots.values()))
        for slot in slots:
            slot.begin_stop()
        cleanup_texts = await asyncio.gather(*(slot.stopped() for slot in slots))
        for slot, text in zip(slots, cleanup_texts, strict=True):
            if text:
                self._note_cleanup_error(NodeError(slot.node_id, f"cleanup() raised {text}"))
        for index in reversed(self._initialized):
            try:
                await cleanup(self._plan.graph.nodes[index])
            except Exception as error:  # noqa: BLE001 - one node's cleanup must not keep the others from theirs
                self._note_cleanup_error(NodeError(self._plan.graph.ids[index], f"cleanup() raised {error!r}"))
        self._exchange = None  # it holds ports of iceoryx2, and so descriptors and mappings
        self._stage_tasks.clear()
        parts.close()
        if self._finalizer is not None:
            self._finalizer.detach()

    def _give_up(self) -> None:
        """Without waiting for anybody: kill what still runs, and give back what an orderly end has left."""
        if self._finalizer is None or self._finalizer.detach() is None:
            return
        assert self._parts is not None
        assert self._portal is not None
        self._error = self._error or PoolClosed("the pool was closed: its workers were killed")
        self._parts.give_up(self._portal)
        self._exchange = None
        self._stage_tasks.clear()

    def _note_cleanup_error(self, error: NodeError) -> None:
        _logger.error("%s", error)
        self.cleanup_errors.append(error)

    def __repr__(self) -> str:
        state = "new" if self._loop is None else "closed" if self._closing else "broken" if self._error else "running"
        return f"<WorkerPool {' → '.join(self._plan.graph.ids)} ({state})>"


__all__ = ["Output", "PoolSnapshot", "WorkerPool", "WorkerSnapshot"]
