"""Nodes that stay in the coordinator: their stages run as tasks of its event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial

from remotemedia.config import OnError
from remotemedia.core.exceptions import NodeError, NodeInitializeError, RemoteMediaError, WorkerIdentity
from remotemedia.core.graph import Graph
from remotemedia.core.remote_errors import described, raised
from remotemedia.workers.fabric import Fabric
from remotemedia.workers.frame_errors import FrameErrors, inline_error
from remotemedia.workers.stage import NodeFailure, Stage, cleanup, initialize
from remotemedia.workers.traced_node import TracedNode


class InlineNodes:
    """The nodes of a pool that stay in the coordinator. Holds no reference to the pool."""

    def __init__(self, graph: Graph, indices: Sequence[int]) -> None:
        """`indices`: theirs, in the order in which they are initialized."""
        self._graph, self._indices = graph, indices
        self._stages: dict[int, Stage] = {}
        self._initialized: list[int] = []
        self._tasks: list[asyncio.Task[None]] = []

    def connect(self, fabric: Fabric, on_error: OnError, frame_errors: FrameErrors) -> None:
        """Make their stages, between the channels that are open."""
        traces = fabric.trace_table()
        for index in self._indices:
            node = self._graph.nodes[index]
            self._stages[index] = Stage(
                node,
                fabric.inbox(index),
                fabric.sender(index),
                fabric.bell,
                fabric.boards[index],
                worker_id=index,
                on_error=on_error,
                on_frame_error=partial(frame_errors.note_inline, index),
                traced=None if traces is None else TracedNode(node, traces, index),
            )

    def stage(self, index: int) -> Stage | None:
        """The stage of a node; None if that has a worker."""
        return self._stages.get(index)

    async def initialize(self) -> None:
        """Raises NodeInitializeError."""
        for index in self._indices:
            self._initialized.append(index)
            try:
                await initialize(self._graph.nodes[index])
            except Exception as error:
                raise NodeInitializeError(self.identity(index), raised("initialize", described(error))) from error

    def run(self, loop: asyncio.AbstractEventLoop, fail: Callable[[RemoteMediaError], None]) -> None:
        """Begin to take frames; `fail` gets what ends a stage."""
        self._tasks = [
            loop.create_task(_run(stage, self.identity(index), fail)) for index, stage in self._stages.items()
        ]

    def identity(self, index: int) -> WorkerIdentity:
        """Who a node is in errors and events."""
        return WorkerIdentity(node=self._graph.ids[index], worker_id=index, pid=os.getpid())

    def cancel(self) -> None:
        """No stage takes another frame."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Returns when all stages have ended, after `cancel`."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def clean_up(self) -> list[NodeError]:
        """Run `cleanup()` of all that were initialized, in reverse order; what it raised."""
        errors = []
        for index in reversed(self._initialized):
            try:
                await cleanup(self._graph.nodes[index])
            except Exception as error:  # noqa: BLE001 - one node's cleanup must not keep the others from theirs
                errors.append(NodeError(self._graph.ids[index], raised("cleanup", described(error))))
        return errors

    def let_go(self) -> None:
        """Of the channels, which hold descriptors and mappings."""
        self._tasks.clear()
        self._stages.clear()


async def _run(stage: Stage, identity: WorkerIdentity, fail: Callable[[RemoteMediaError], None]) -> None:
    try:
        await stage.run()
    except NodeFailure as failure:
        fail(inline_error(identity, failure.phase, failure.__cause__ or failure, failure.number))
    except RemoteMediaError as error:
        fail(error)
    except BaseException as error:
        task = asyncio.current_task()
        if task is None or not task.cancelling():  # else the pool closes; a node may also cancel itself, though
            fail(inline_error(identity, "process", error, stage.board.frame))
        raise
