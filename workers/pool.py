"""WorkerPool: warm workers for the nodes of a pipeline, started in order, stopped in reverse, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import errno
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from remotemedia.config import OnError, PoolConfig, RestartPolicy, Tracing
from remotemedia.core.exceptions import (
    ConfigurationError,
    NodeError,
    PipelineError,
    PipelineStalled,
    PoolClosed,
    RemoteMediaError,
    WorkerError,
    WorkerIdentity,
)
from remotemedia.core.graph import Graph
from remotemedia.core.html import table
from remotemedia.core.node import Node
from remotemedia.core.node_serialization import serialize_node_async
from remotemedia.core.remote_errors import raised
from remotemedia.events import Closed, Event, FrameDropped, MemoryWarning, Stalled
from remotemedia.ipc.messages import Answer, Custom, FromWorker, Ready, Skipped, Stacks
from remotemedia.workers import sweep
from remotemedia.workers.blocking import Blocking
from remotemedia.workers.commands import refuse_deep_nesting
from remotemedia.workers.control_messages import ControlDesk
from remotemedia.workers.delivery import Window
from remotemedia.workers.event_bus import EventBus, Listener
from remotemedia.workers.exchange import Exchange, Output
from remotemedia.workers.frame_errors import FrameErrors
from remotemedia.workers.inline_stage import InlineNodes
from remotemedia.workers.live import Live, Overflow, check_overflow
from remotemedia.workers.loop_waiter import LoopWaiter
from remotemedia.workers.observers import Flow, PoolFace
from remotemedia.workers.parts import Parts, weakly
from remotemedia.workers.plan import FEED, make_plan
from remotemedia.workers.pool_snapshot import Meter, PoolSnapshot, WorkerSnapshot
from remotemedia.workers.portal import Portal
from remotemedia.workers.rounds import Notice
from remotemedia.workers.serving import StatusPage
from remotemedia.workers.sessions import Session, check_name
from remotemedia.workers.slot import Slot
from remotemedia.workers.standstill import Standstill
from remotemedia.workers.tasks import finish
from remotemedia.workers.traces import rows_for

if TYPE_CHECKING:
    from remotemedia.workers.tracing import PoolTracing

_logger = logging.getLogger("remotemedia.pool")


class WorkerPool(Blocking):
    """The nodes of a pipeline as a set of warm worker processes.

        async with WorkerPool([Detector(), Tracker()]) as pool:
            result = await pool.process(frame)
            async for result in pool.stream(frames):
                ...
            async with pool.session("caller-42") as call:
                await call.send(frame)
                result = await call.receive()

        with WorkerPool([Detector(), Tracker()]) as pool:       # the same without asyncio
            result = pool.run(frame)
            for result in pool.map(frames):
                ...

    Nodes marked `executor="inline"` stay in this process, every other node gets a worker of its own. A pool belongs to
    the event loop, and the thread, in which it was started: awaiting its methods elsewhere raises PoolClosed; other
    threads use `run`, `map` and `call`. An exception of a node is the error of the one frame (see PoolConfig.on_error);
    a worker that dies is replaced (see RestartPolicy). What cannot be mended ends the pool: all who wait get the error,
    and so do all who come.
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
            traced_frames=rows_for(config.in_flight_frames) if config.tracing is not None else 0,
        )
        _check_on_error(graph)
        self._events = EventBus()
        self._desk = ControlDesk(graph.ids.__getitem__, weakly(self._is_ready), weakly(self._send_custom))
        self._frame_errors = FrameErrors(weakly(self._identity), weakly(self._poison_error), self._events)
        local = [i for i in graph.order if not self._plan.remote[i]]
        self._inline = InlineNodes(graph, local)
        self._meters: list[Meter] = []
        self._parts: Parts | None = None
        self._exchange: Exchange | None = None
        self._tracing = _tracing_of(config.tracing, graph.ids)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._is_up = False
        self._closing: asyncio.Task[None] | None = None
        self._standstill: Standstill | None = None
        self._error: RemoteMediaError | None = None
        self._drops = 0
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
        parts = self._parts = Parts(plan, self._config, self._events)
        self._finalizer = weakref.finalize(self, Parts.abandon, parts, repr(self), portal)
        parts.open_control(loop, self._on_message)
        if remote:
            parts.begin_launcher(loop)
        for index in remote:
            parts.slots[index] = self._slot(index, payloads.pop(index), parts, loop)
        waiting = [slot for slot in parts.slots.values() if not slot.spawn_alone()]
        # While the workers, or the fork server, import what they need: the coordinator's part. No await until the
        # channels are there, because the answer to a worker's hello lets it open them.
        self._connect(parts, loop)
        if waiting:
            await parts.launcher.ready()
        for slot in waiting:
            slot.spawn()
        await self._inline.initialize()
        await asyncio.gather(*(slot.ready() for slot in parts.slots.values()))
        if self._error is not None:
            raise self._error
        if remote:
            parts.begin_rounds(loop, weakly(self._on_notice), weakly(self._on_limit), weakly(self._on_round))
            boards = parts.fabric.boards
            self._standstill = Standstill(boards, [boards[index] for index in remote])
            parts.begin_spares(loop)
        if parts.home is not None:
            parts.home.hold()
        self._is_up = True
        self._inline.run(loop, weakly(self._fail))

    def _slot(self, index: int, payload: bytes, parts: Parts, loop: asyncio.AbstractEventLoop) -> Slot:
        """The place of one worker; nothing of it runs yet."""
        graph = self._plan.graph
        return Slot(
            index,
            graph.ids[index],
            payload,
            parts,
            self._config,
            loop,
            weakly(self._fail),
            policy=self._restart,
            on_error=graph.nodes[index].on_error or self._config.on_error,
        )

    def _connect(self, parts: Parts, loop: asyncio.AbstractEventLoop) -> None:
        """Create the channels; open both ends of the coordinator, and those of the stages in this process."""
        plan, fabric = self._plan, parts.fabric
        fabric.open_channels(parts.directory.shm_prefix, str(parts.directory.iox_root))
        parts.waiter = fabric.bell.waiter = LoopWaiter(fabric.bell, weakly(self._on_ring))
        feed, collect = fabric.sender(FEED), fabric.inbox(plan.collect)
        if self._tracing is not None and (table := fabric.trace_table()) is not None:
            feed, collect = self._tracing.around(feed, collect, table, parts.session_names)
            self._events.add_sink(self._tracing.on_event)
        self._exchange = Exchange(
            feed,
            collect,
            fabric.bell,
            self._window(),
            self._frame_errors.error_of,
            parts.session_names,
            spin_us=parts.spin_us if all(plan.remote) else 0,  # stages in this process share the bell
        )
        self._meters = [Meter(i, node_id, fabric.boards[i]) for i, node_id in enumerate(plan.graph.ids)]
        parts.open_observers(plan.graph, self._face(), loop)
        self._inline.connect(fabric, self._config.on_error, self._frame_errors)

    def _window(self) -> Window:
        return Window(
            most_frames=self._config.in_flight_frames,
            most_bytes=self._config.in_flight_bytes,
            always=min(len(self._plan.graph.nodes), len(os.sched_getaffinity(0))),
        )

    def _face(self) -> PoolFace:
        return PoolFace(
            weakly(self._state),
            weakly(self._seen_with),
            weakly(self._index_of),
            weakly(self._begin_replacing),
            weakly(self._flow),
        )

    def _identity(self, index: int) -> WorkerIdentity:
        slot = self._parts.slots.get(index) if self._parts is not None else None
        return slot.identity if slot is not None else self._inline.identity(index)

    def _poison_error(self, worker_id: int, number: int) -> WorkerError | None:
        return self._parts.slots[worker_id].why_given_up(number) if self._parts is not None else None

    # -- what happens --------------------------------------------------------------------------------------------------

    def _on_ring(self) -> None:
        if self._exchange is not None:
            self._exchange.on_ring()

    def _on_message(self, worker_id: int, message: FromWorker | RemoteMediaError) -> None:
        parts = self._parts
        slot = parts.slots.get(worker_id) if parts is not None else None
        if slot is None:
            return
        if isinstance(message, Answer):
            self._desk.on_answer(worker_id, message)
        elif isinstance(message, Stacks):
            if parts is not None and parts.observers is not None:
                parts.observers.on_stacks(worker_id, message.text)
        elif isinstance(message, Skipped):
            self._frame_errors.note_skipped(worker_id, message.frame, message.text)
        else:
            slot.on_message(message)
            if isinstance(message, Ready):
                self._desk.on_ready(worker_id)

    def _is_ready(self, worker_id: int) -> bool:
        return self._parts is not None and self._parts.slots[worker_id].state == "ready"

    def _send_custom(self, worker_id: int, message: Custom) -> bool:
        return self._parts is not None and self._parts.control.send(worker_id, message)

    def _on_notice(self, notice: Notice) -> None:
        """The rounds have found something: what is worth an event becomes one."""
        if notice.worker is None:
            return
        if notice.kind in {"stalled", "slow"}:
            self._events.emit(Stalled.of(notice.worker, notice.text, silent_s=notice.figures["silent_s"]))
        elif notice.kind == "memory_high":
            self._events.emit(MemoryWarning.of(notice.worker, notice.text, **notice.figures))

    def _on_round(self) -> None:
        parts, exchange = self._parts, self._exchange
        if parts is None or exchange is None or self._standstill is None:
            return
        are_there = all(slot.state == "ready" for slot in parts.slots.values())
        waiting = self._standstill.look(is_starving=are_there and exchange.is_starving)
        if waiting:
            names = [self._plan.graph.ids[index] for index in waiting]
            self._fail(PipelineStalled(names, self._config.channel.queue_frames))

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
        if self._tracing is not None:
            self._tracing.fail(str(error))
        self._desk.fail(error)
        self._inline.cancel()

    # -- use -----------------------------------------------------------------------------------------------------------

    async def process(self, value: Any) -> Any:
        """Send one value through: its output, a list if there are several, None if there is none.

        Arrays in the result are read-only views of shared memory. May be called by many tasks at once. Raises
        NodeProcessError if a node fails on this value; WorkerDied, PoolClosed.
        """
        return await self._working_exchange().process(value)

    def session(self, name: str) -> Session:
        """An ordered stream of a caller's own, beside others over the same workers: `async with pool.session(...)`.

        At most `PoolConfig.session_frames` of its inputs are under way or unread, so a slow or abandoned session does
        not hold up others; all of them take turns. Raises ConfigurationError for a pipeline with streaming nodes or
        sources of its own, and, when it is entered, for the name of a session that is open.
        """
        check_name(name)
        graph = self._plan.graph
        streaming = [graph.ids[i] for i, node in enumerate(graph.nodes) if node.is_streaming]
        if streaming:
            raise ConfigurationError(
                f"sessions need nodes that take one frame at a time: {streaming[0]!r} is streaming, so its outputs "
                "cannot be told apart by session; use a pool for each caller, or make its process() take a frame"
            )
        if self._plan.has_own_sources:
            raise ConfigurationError(f"sessions need input: the first node {self._first_node!r} makes its own frames")
        return Session(self._working_exchange(), name, self._config.session_frames)

    @property
    def _first_node(self) -> str:
        return self._plan.graph.ids[self._plan.graph.sources[0]]

    def events(self) -> Listener:
        """What happens from now on, as an async iterator of remotemedia.events; before the start as well."""
        return self._events.listen()

    def on_event(self, sink: Callable[[Event], None]) -> None:
        """Have `sink` called in the loop's thread with each event; what it raises is logged."""
        self._events.add_sink(sink)

    async def serve_status(
        self, port: int = 0, host: str = "127.0.0.1", *, allowed_hosts: Sequence[str] = ()
    ) -> StatusPage:
        """Serve a live page about this pool at the `url` of what is returned, until its `aclose()` or the pool's end.

        `port` 0: any free one. Nobody but this machine can ask, unless `host` says so; `allowed_hosts`: more names
        under which it may be asked. Costs nothing while nobody looks. Raises ConfigurationError if the port cannot be
        had.
        """
        self._working_exchange()
        assert self._parts is not None
        return self._parts.serve_status(port, host, allowed_hosts)

    async def restart_worker(self, node: str) -> None:
        """Start the worker of a node afresh: it finishes the frame that it is at, and its next generation goes on with
        the one after. Returns when that is ready. Does not count against the restart policy.

        Raises ConfigurationError for an unknown node, and for one whose worker cannot be replaced: it stays in this
        process, iterates over its inputs itself, or the policy is `RestartPolicy.never()`.
        """
        await self._begin_replacing(node).replaced()

    def _begin_replacing(self, node: str) -> Slot:
        index = self._index_of(node)
        self._working_exchange()
        assert self._parts is not None
        slot = self._parts.slots.get(index)
        if slot is None or not self._plan.is_replaceable(index):
            raise ConfigurationError(f"the node {node!r} has no worker that can be replaced")
        slot.begin_replacing("asked for")
        return slot

    def _index_of(self, node: str) -> int:
        ids = self._plan.graph.ids
        if node not in ids:
            close = difflib.get_close_matches(str(node), ids)
            hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; there are {', '.join(ids)}"
            raise ConfigurationError(f"there is no node {node!r} in this pool{hint}")
        return ids.index(node)

    async def send_control(self, node: str, message: Any) -> None:
        """Hand plain data to `on_control` of a node, between two of its frames; returns when that has returned.

        A worker that dies before it answers gets the message again when it is back. Raises NodeError with what
        `on_control` raised, ConfigurationError for an unknown node, TypeError for what is not plain data.
        """
        index = self._index_of(node)
        self._working_exchange()
        await self._desk.ask(index, message, self._inline.stage(index))

    async def drain(self) -> None:
        """Take no new input, and return when everything that was accepted has come out.

        Streams end: their sources are read no further; source nodes are waited for. Outputs that nobody has read yet
        stay readable, also when the pool is closed then. Raises WorkerDied, PoolClosed, if that happens meanwhile.
        """
        await self._working_exchange().drain()

    async def stream(
        self,
        source: Iterable[Any] | AsyncIterable[Any] | None = None,
        *,
        copy: bool = False,
        overflow: Overflow = "block",
        backlog: int = 1,
    ) -> AsyncGenerator[Any, None]:
        """All outputs for all items of `source`, in order, with backpressure; None: what the pipeline's own sources
        make.

        At the end of the source every node's `flush()` runs. `copy`: the arrays are to be the caller's own. Close the
        iterator to stop early (`contextlib.aclosing`).

        `overflow`: what becomes of an async source that is faster than the pipeline. "block": it waits. "drop_oldest",
        "drop_newest": it is read on, and of more than `backlog` items that wait one is dropped: told by an event
        FrameDropped, counted in `snapshot().drops`. Up to `PoolConfig.in_flight_frames` more are under way; set that
        low for fresh outputs.
        """
        check_overflow(overflow, backlog, source)
        async with contextlib.AsyncExitStack() as stack:
            if overflow != "block" and isinstance(source, AsyncIterable):
                source = await stack.enter_async_context(Live(source, overflow, backlog, self._on_drop))
            outputs = await stack.enter_async_context(contextlib.aclosing(self.numbered_stream(source, copy=copy)))
            async for output in outputs:
                yield output.value

    def _on_drop(self, in_stream: int) -> None:
        self._drops += 1
        self._events.emit(FrameDropped(dropped=in_stream, reason="the pipeline is slower than its source"))

    def numbered_stream(
        self,
        source: Iterable[Any] | AsyncIterable[Any] | None = None,
        *,
        copy: bool = False,
        marks: bool = False,
    ) -> AsyncGenerator[Output, None]:
        """Like `stream`, but gives (number of the input, output): what `flush()` gave carries the number after the
        last. `marks`: when all outputs of a number have come, an Output whose value is remotemedia.workers.owners.DONE.
        """
        own_sources = self._plan.has_own_sources
        if own_sources and source is not None:
            raise ConfigurationError(
                f"the first node {self._first_node!r} makes its own frames: "
                "its process() takes no input"
            )
        return self._working_exchange().stream(source, own_sources=own_sources, copy=copy, marks=marks)

    def _working_exchange(self) -> Exchange:
        exchange, is_over = self._exchange, self._closing is not None or self._error is not None
        if exchange is not None and not is_over and self._is_own_loop():
            return exchange  # the way of every frame; all else finds out what is wrong
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

    def _is_own_loop(self) -> bool:
        return asyncio._get_running_loop() is self._loop and threading.get_ident() == self._thread_id

    def _require_own_loop(self) -> None:
        if self._is_own_loop():
            return
        owner = next((t.name for t in threading.enumerate() if t.ident == self._thread_id), "that has ended")
        raise PoolClosed(
            f"the pool belongs to the event loop {self._loop!r} of thread {owner!r}, and was used in "
            f"{asyncio._get_running_loop() or 'no loop'!r} of thread {threading.current_thread().name!r}; "
            "in other threads use pool.run(value), pool.map(values) or pool.call(function, ...)"
        )

    def snapshot(self, *, memory: bool = True) -> PoolSnapshot:
        """States, counters, rates and latencies, read from shared memory and /proc: costs the workers nothing.

        `memory`: read `pss_bytes` as well, for which the kernel walks through the memory of each worker: some
        milliseconds for one of several GB.
        """
        if self._parts is None or not self._meters:
            raise PipelineError("the pool is not started")
        return self._seen_with(self._meters, memory=memory)

    def _seen_with(self, meters: Sequence[Meter], memory: bool = False) -> PoolSnapshot:
        exchange, parts = self._exchange, self._parts
        assert parts is not None
        return PoolSnapshot(
            workers=tuple(self._worker_snapshot(meter, i, parts, memory) for i, meter in enumerate(meters)),
            sessions=len(exchange.sessions.under_way) if exchange is not None else 0,
            drops=self._drops,
        )

    def _flow(self) -> Flow:
        graph, meters = self._plan.graph, self._meters
        if self._plan.has_own_sources:
            given = max(meters[i].passed_on for i in graph.sources)
        else:
            given = self._exchange.next_number if self._exchange is not None else 0
        out = min(meters[i].passed_on for i in graph.sinks)
        return Flow(given, min(out, given), "" if self._error is None else str(self._error))

    def _worker_snapshot(self, meter: Meter, index: int, parts: Parts, memory: bool) -> WorkerSnapshot:
        slot = parts.slots.get(index)
        fed = self._exchange.next_number if self._exchange is not None else 0
        producers = self._plan.producers_of(index)
        return meter.snapshot(
            pid=slot.pid if slot else None,
            state=slot.state if slot else "inline",
            generation=slot.generation if slot else 0,
            given=max(fed if p == FEED else self._meters[p].passed_on for p in producers),
            pss=memory,
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
        await finish(self._closing)

    async def _close(self) -> None:
        parts = self._parts
        if parts is None:
            return
        self._error = self._error or PoolClosed("the pool was closed")
        if self._exchange is not None:
            self._exchange.fail(self._error)
            await self._exchange.sessions.ended()
        self._desk.fail(self._error)
        self._inline.cancel()
        await self._inline.ended()
        slots = list(reversed(parts.slots.values()))
        for slot in slots:
            slot.begin_stop()
        cleanup_texts = await asyncio.gather(*(slot.stopped() for slot in slots))
        for slot, text in zip(slots, cleanup_texts, strict=True):
            if text:
                self._note_cleanup_error(NodeError(slot.node_id, raised("cleanup", text)))
        for error in await self._inline.clean_up():
            self._note_cleanup_error(error)
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        self._inline.let_go()
        parts.close()
        self._events.emit(Closed())
        self._events.close()
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
        self._inline.let_go()

    def _note_cleanup_error(self, error: NodeError) -> None:
        _logger.error("%s", error)
        self.cleanup_errors.append(error)

    def __repr__(self) -> str:
        return f"<WorkerPool {' → '.join(self._plan.graph.ids)} ({self._state()})>"

    def _repr_html_(self) -> str:
        """For notebooks: the pool as it is now."""
        if self._state() not in {"starting", "running", "broken"} or not self._meters:
            return table(repr(self), ("node", "class"), zip(self.graph.ids, map(_kind, self.graph.nodes), strict=True))
        return f"<div>{escape(repr(self))}</div>{self.snapshot(memory=False)._repr_html_()}"

    def _state(self) -> str:
        if self._loop is None:
            return "new"
        if self._closing is not None:
            return "closed" if self._closing.done() else "closing"
        return "broken" if self._error else "running" if self._is_up else "starting"


def _kind(node: Node) -> str:
    return type(node).__name__


def _tracing_of(settings: Tracing | None, node_ids: tuple[str, ...]) -> PoolTracing | None:
    if settings is None:
        return None
    try:
        from remotemedia.workers.tracing import PoolTracing
    except ImportError as error:
        raise ConfigurationError(
            f'PoolConfig(tracing=) needs opentelemetry-api ({error}): pip install "remotemedia[otel]"'
        ) from error
    return PoolTracing(settings, node_ids)


def _check_on_error(graph: Graph) -> None:
    for node_id, node in zip(graph.ids, graph.nodes, strict=True):
        if node.on_error not in (None, *get_args(OnError)):
            raise ConfigurationError(
                f'node {node_id!r}: on_error={node.on_error!r}: expected "raise", "skip", "restart" or None'
            )


__all__ = ["Output", "PoolSnapshot", "WorkerPool", "WorkerSnapshot"]
