"""Answers those who look at a pool from outside (see remotemedia.ipc.observer_server). Does nothing unless asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from remotemedia._version import __version__
from remotemedia.core.exceptions import PoolClosed, RemoteMediaError
from remotemedia.core.graph import Graph
from remotemedia.events import Event
from remotemedia.ipc.messages import MAX_STACKS_BYTES, DumpStacks
from remotemedia.ipc.observer_messages import (
    Done,
    GetSnapshot,
    GetStacks,
    PoolDetails,
    PoolView,
    Refused,
    Request,
    RestartWorker,
    StacksText,
    WorkerView,
)
from remotemedia.ipc.observer_server import Observer, ObserverServer
from remotemedia.workers.board import Board
from remotemedia.workers.diagnose import explain, process_facts
from remotemedia.workers.history import History
from remotemedia.workers.pool_snapshot import Meter, PoolSnapshot
from remotemedia.workers.slot import Slot
from remotemedia.workers.stacks import python_stacks
from remotemedia.workers.written_stacks import split_stacks

_ANSWER_S = 1.0
"""How long a worker's interpreter may take to tell its stacks; then they are taken by a signal."""
_SIGNAL_S = 0.5
"""How long it may take to write them at the signal, which it can even with the GIL held."""


class Flow(NamedTuple):
    """How far a pool is: inputs that its first nodes were given, and that have left its last ones; why it is broken."""

    frames_in: int
    frames_out: int
    error: str


class PoolFace(NamedTuple):
    """What observers need of the pool: functions that do not keep it alive (see parts.weakly)."""

    state: Callable[[], str]
    snapshot: Callable[[Sequence[Meter]], PoolSnapshot | None]
    index_of: Callable[[str], int]
    """Raises ConfigurationError for an unknown node."""
    restart: Callable[[str], Any]
    """Begin to replace the worker of a node. Raises RemoteMediaError."""
    flow: Callable[[], Flow | None]


class Observers:
    """All observers of one pool. `snapshot` of the pool itself is not disturbed: each has meters of its own."""

    def __init__(
        self,
        path: Path,
        pool_id: str,
        graph: Graph,
        boards: Sequence[Board],
        slots: dict[int, Slot],
        control: Any,
        face: PoolFace,
        queue_frames: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Raises OSError if the socket cannot be made at `path`."""
        self._pool_id, self._ids, self._boards, self._slots = pool_id, graph.ids, boards, slots
        self._kinds, self._edges = tuple(type(node).__name__ for node in graph.nodes), graph.edges
        self._control, self._face, self._queue_frames, self._loop = control, face, queue_frames, loop
        self._began = loop.time()
        self._meters: dict[Observer, list[Meter]] = {}
        self._last_event: dict[int, tuple[str, float]] = {}
        self._history = History()
        self._wait_for_stacks: dict[int, list[tuple[Observer, int]]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._server = ObserverServer(path, self._on_request, loop, on_gone=self._on_gone)

    def close(self) -> None:
        """Answer nobody any more. Idempotent."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._wait_for_stacks.clear()
        self._server.close()

    def note(self, event: Event) -> None:
        """Something has happened: a sink of the pool's events."""
        self._history.add(event)
        if event.worker_id is not None:
            text = f"{event.words}: {event.reason}" if event.reason else event.words
            self._last_event[event.worker_id] = text.partition("\n")[0][:200], self._loop.time()

    def _on_gone(self, observer: Observer) -> None:
        self._meters.pop(observer, None)

    def _on_request(self, observer: Observer, request: Request) -> None:
        try:
            match request:
                case GetSnapshot():
                    observer.send(self._view(observer, request.number, details=request.details))
                case GetStacks(node=node):
                    self._tell_stacks(observer, request.number, self._face.index_of(node))
                case RestartWorker(node=node):
                    self._face.restart(node)
                    observer.send(Done(number=request.number))
        except RemoteMediaError as error:
            observer.send(Refused(number=request.number, reason=str(error)))

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def _view(self, observer: Observer, number: int, *, details: bool) -> PoolView:
        meters = self._meters.get(observer)
        if meters is None:
            meters = self._meters[observer] = [
                Meter(i, node, board) for i, (node, board) in enumerate(zip(self._ids, self._boards, strict=True))
            ]
            self._face.snapshot(meters)  # where rates begin
        snapshot = self._face.snapshot(meters)
        if snapshot is None:
            raise PoolClosed("the pool is gone")
        now = self._loop.time()
        rows = []
        for worker in snapshot.workers:
            text, at = self._last_event.get(worker.worker_id, ("", now))
            rows.append(
                WorkerView(
                    **asdict(worker),
                    queue_frames=self._queue_frames,
                    frame=self._boards[worker.worker_id].frame,
                    event=text,
                    event_age_s=now - at,
                )
            )
        return PoolView(
            number=number,
            pool_id=self._pool_id,
            pid=os.getpid(),
            state=self._face.state() or "closing",
            package_version=__version__,
            uptime_s=now - self._began,
            sessions=snapshot.sessions,
            workers=rows,
            details=self._details(snapshot.drops) if details else None,
        )

    def _details(self, drops: int) -> PoolDetails:
        flow = self._face.flow() or Flow(0, 0, "")
        return PoolDetails(
            kinds=self._kinds,
            edges=self._edges,
            frames_in=flow.frames_in,
            frames_out=flow.frames_out,
            drops=drops,
            error=flow.error,
            events=self._history.events(),
            errors=self._history.errors(),
        )

    # -- stacks --------------------------------------------------------------------------------------------------------

    def _tell_stacks(self, observer: Observer, number: int, index: int) -> None:
        slot = self._slots.get(index)
        if slot is None:
            observer.send(StacksText(number=number, text=python_stacks(most_bytes=MAX_STACKS_BYTES, own=True)))
            return
        waiting = self._wait_for_stacks.setdefault(index, [])
        waiting.append((observer, number))
        if len(waiting) == 1:
            asked = self._control.send(index, DumpStacks())
            self._after(index, _ANSWER_S if asked else 0.0, partial(self._take_by_signal, index))

    def on_stacks(self, index: int, text: str) -> None:
        """A worker has told its stacks."""
        self._answer(index, lambda number: StacksText(number=number, text=text))

    def _take_by_signal(self, index: int) -> None:
        """Its interpreter does not get to run: native code holds the GIL, or the process does not run at all."""
        supervisor = self._slots[index].supervisor
        before = supervisor.stderr_tail()
        sent = supervisor.dump_stacks()
        self._after(index, _SIGNAL_S if sent else 0.0, partial(self._tell_what_came, index, before))

    def _tell_what_came(self, index: int, before: str) -> None:
        supervisor = self._slots[index].supervisor
        tail = supervisor.stderr_tail()
        stacks = split_stacks(tail.removeprefix(before))[1] if tail != before else ""
        facts = process_facts(supervisor.pid) if supervisor.pid is not None else None
        state = "it has ended" if facts is None else f"process state {facts.state}: {explain(facts, beats=False)}"
        if stacks:
            text = f"The interpreter does not answer ({state}). By signal:\n{stacks[:MAX_STACKS_BYTES]}"
            self._answer(index, lambda number: StacksText(number=number, text=text))
        else:
            reason = f"the worker of {self._ids[index]!r} tells no stacks ({state})"
            self._answer(index, lambda number: Refused(number=number, reason=reason))

    def _answer(self, index: int, make: Callable[[int], StacksText | Refused]) -> None:
        if (timer := self._timers.pop(index, None)) is not None:
            timer.cancel()
        for observer, number in self._wait_for_stacks.pop(index, ()):
            observer.send(make(number))

    def _after(self, index: int, seconds: float, act: Callable[[], None]) -> None:
        self._timers[index] = self._loop.call_later(seconds, act)
