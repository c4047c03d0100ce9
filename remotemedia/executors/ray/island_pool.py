"""An island where it runs: a worker pool that takes its inputs from, and gives its outputs to, whoever calls it.

On another host it is a Ray actor, in whose event loop the pool lives; nodes that stay with the caller are one in the
caller's process. Its methods are called over the network: few, with many frames in each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import platform
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from remotemedia._version import __version__
from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import (
    NodeError,
    NodeNotLoadable,
    PipelineError,
    RemoteMediaError,
    SerializationError,
    WorkerIdentity,
)
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.core.node_serialization import load_node
from remotemedia.core.remote_errors import described
from remotemedia.executors.ray.intake import Intake
from remotemedia.executors.ray.parcels import ParcelLost, Stored, pack, unpack
from remotemedia.executors.ray.relay import Delivery
from remotemedia.workers.owners import DONE
from remotemedia.workers.pool import WorkerPool

_MOST_REPORTS = 256
"""Outputs that wait to be fetched; the pool is held up beyond that."""
_METRICS_EVERY_S = 0.25

OUTPUT, INPUT_DONE, ENDED, FAILED_WITH, LOST_INPUT = range(5)
"""Kinds of reports."""


class Report(NamedTuple):
    """What an island tells. `position`: of the input that it is about. `content`: the parcel of an OUTPUT, the error of
    FAILED_WITH (pickled, from another process), the epoch of LOST_INPUT.
    """

    kind: int
    position: int
    content: Any = None


class Reports(NamedTuple):
    """An answer to `take`; `metrics` are the pool's, now and then."""

    items: list[Report]
    metrics: list[dict[str, Any]] | None


class Facts(NamedTuple):
    """Who hosts an island."""

    pid: int
    host: str
    version: str


@dataclass(frozen=True)
class IslandSpec:
    """What an island is made from. `nodes`: serialized for another process, as they are for the caller's."""

    nodes: tuple[bytes | Node, ...]
    ids: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    config: PoolConfig
    is_local: bool
    most_ahead: int
    """How many frames an island that makes them itself may be ahead of the end of the pipeline."""

    def graph(self) -> Graph:
        """Raises NodeNotLoadable."""
        named = zip(self.nodes, self.ids, strict=True)
        nodes = tuple(node if isinstance(node, Node) else _loaded(node, name) for node, name in named)
        return Graph(nodes, self.ids, self.edges)


def _loaded(data: bytes, name: str) -> Node:
    try:
        return load_node(data)
    except SerializationError as error:
        raised = NodeNotLoadable(
            WorkerIdentity(node=name, pid=os.getpid()),
            f"could not be unpickled on host {platform.node()!r}: {error.reason}",
            suggestion="its modules must be importable on every host: ray.init(runtime_env={'working_dir': '.'}), or "
            "install them there",
        )
        raise raised from error


class IslandPool:
    """One generation of an island."""

    def __init__(self, spec: IslandSpec) -> None:
        self._spec = spec
        self._pool: WorkerPool | None = None
        self._run = -1
        self._intake = Intake(0)
        self._fetches: dict[int, asyncio.Future[Any]] = {}
        """By position: parcels that are on their way here."""
        self._arrived, self._reported, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._reports: deque[Report] = deque()
        self._pump_task: asyncio.Task[None] | None = None
        self._base = self._completed = 0
        self._is_waiting_for_input = False
        self._metrics_at = 0.0

    async def start(self) -> Facts | BaseException | bytes:
        """Start the pool. Returns why that failed, if it did: an exception would arrive as one of Ray's."""
        places = ["inline" if self._spec.is_local else "multiprocess"] * len(self._spec.nodes)
        try:
            self._pool = WorkerPool(self._spec.graph(), config=self._spec.config, places=places)
            await self._pool.start()
        except Exception as error:  # noqa: BLE001 - raised where it is heard of
            return self._told(error)
        return Facts(os.getpid(), platform.node(), __version__)

    async def begin(self, run: int, base: int, has_input: bool) -> None:
        """A new stream; the one before is left. `base`: the position of its first input."""
        await self._leave()
        self._run, self._base, self._completed = run, base, 0
        self._intake = Intake(base)
        self._reports.clear()
        self._pump_task = asyncio.create_task(self._pump(has_input))

    def give(self, run: int, delivery: Delivery | None, completed: int) -> None:
        """Inputs. `completed`: everything with a lower number is out of the pipeline."""
        if run != self._run:
            return
        self._completed = max(self._completed, completed)
        if delivery is not None:
            self._intake.give(*delivery)
        self._arrived.set()
        self._room.set()

    async def take(self, run: int) -> Reports:
        """What there is to tell; waits until there is something. Nothing, if that run is over."""
        self._room.set()
        while not self._reports and run == self._run:
            self._reported.clear()
            await self._reported.wait()
        if run != self._run:
            return Reports([], None)
        items = list(self._reports)
        self._reports.clear()
        self._room.set()
        metrics = None
        if monotonic() > self._metrics_at or items[-1].kind in (ENDED, FAILED_WITH):
            self._metrics_at = monotonic() + _METRICS_EVERY_S
            metrics = self._pool.metrics() if self._pool is not None else None
        return Reports(items, metrics)

    async def stop(self) -> list[NodeError]:
        """Stop the pool; what the `cleanup` of its nodes raised."""
        await self._leave()
        if self._pool is None:
            return []
        await self._pool.aclose()
        return self._pool.cleanup_errors

    # -- the stream ----------------------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        self._run = -1
        self._reported.set()
        task, self._pump_task = self._pump_task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._forget_fetches()

    async def _pump(self, has_input: bool) -> None:
        assert self._pool is not None
        try:
            source = self._inputs() if has_input else None
            async with aclosing(self._pool.numbered_stream(source, marks=True)) as outputs:
                async for number, value in outputs:
                    position = self._base + number
                    if value is DONE:
                        self._report(INPUT_DONE, position)
                    else:
                        self._report(OUTPUT, position, pack(value))
                    del value
                    await self._until_room(position, has_input)
            self._report(ENDED, 0)
        except Exception as error:  # noqa: BLE001 - told to the caller, whatever it is
            self._report(FAILED_WITH, 0, self._told(error))

    def _told(self, error: BaseException) -> BaseException | bytes:
        return error if self._spec.is_local else dumped(error)

    def _report(self, kind: int, position: int, content: Any = None) -> None:
        self._reports.append(Report(kind, position, content))
        self._reported.set()

    async def _until_room(self, position: int, has_input: bool) -> None:
        while len(self._reports) >= _MOST_REPORTS or (
            not has_input and position - self._completed >= self._spec.most_ahead
        ):
            self._room.clear()
            await self._room.wait()

    async def _inputs(self) -> AsyncGenerator[Any, None]:
        intake = self._intake
        while not intake.is_at_end:
            if intake.head is None:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            position, parcel = intake.head
            self._fetch_ahead(intake)
            try:
                value = await self._fetches.pop(position) if position in self._fetches else await unpack(parcel)
            except ParcelLost:
                self._forget_fetches()
                lost, epoch = intake.lost()
                self._report(LOST_INPUT, lost, epoch)
                continue
            intake.take()
            yield value
            del value

    def _fetch_ahead(self, intake: Intake) -> None:
        """Large inputs come over the network while the one before them is taken."""
        for position, parcel in intake.waiting():
            if isinstance(parcel, Stored) and position not in self._fetches:
                self._fetches[position] = asyncio.ensure_future(unpack(parcel))

    def _forget_fetches(self) -> None:
        for fetch in self._fetches.values():
            fetch.add_done_callback(_heard)
            fetch.cancel()
        self._fetches.clear()


def _heard(fetch: asyncio.Future[Any]) -> None:
    if not fetch.cancelled():
        fetch.exception()


def dumped(error: BaseException) -> bytes:
    """An error for another process."""
    with contextlib.suppress(Exception):
        if isinstance(error, RemoteMediaError):
            return pickle.dumps(error)
    return pickle.dumps(PipelineError(f"an island failed on host {platform.node()!r}: {described(error)}"))
