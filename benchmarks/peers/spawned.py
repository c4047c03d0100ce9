"""A chain of spawned multiprocessing processes, joined by links; the transport is what the adapters differ in."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
import sys
from abc import abstractmethod
from collections.abc import Sequence
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from typing import Protocol

from benchmarks.peers.base import BlockingContestant
from benchmarks.work import Array, Work

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0


class Inlet(Protocol):
    """The receiving end of a link."""

    def receive(self) -> Array:
        """The next frame; it stays valid until the next call."""


class Outlet(Protocol):
    """The sending end of a link."""

    def loan(self, frame: Array) -> Array:
        """Where the result for `frame` is best written; pass it to `send` afterwards."""

    def send(self, frame: Array) -> None:
        """Send what `loan` gave, or any other array."""


class Link(Protocol):
    """One edge of the chain; goes to the processes on both sides of it."""

    def outlet(self) -> Outlet: ...

    def inlet(self) -> Inlet: ...

    def close(self) -> None:
        """Give back what belongs to the link; called once, in the process that made it."""


class SpawnedChain(BlockingContestant):
    """Stages as spawned processes; subclasses say what links them."""

    _processes: list[BaseProcess]
    _links: list[Link]

    @abstractmethod
    def make_link(self, context: SpawnContext, size: int) -> Link:
        """A link for frames of `size` bytes."""

    async def start(self, stages: int, work: Work, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._links = [self.make_link(context, size) for _ in range(stages + 1)]
        all_up = context.Barrier(stages + 1)
        self._processes = []
        for inlet, outlet in itertools.pairwise(self._links):
            process = context.Process(target=run_stage, args=(inlet, outlet, work, all_up), daemon=True)
            process.start()
            self._processes.append(process)
        self._outlet, self._inlet = self._links[0].outlet(), self._links[-1].inlet()
        all_up.wait(START_TIMEOUT_S)

    def send(self, frame: Array) -> None:
        self._outlet.send(frame)

    def receive(self) -> Array:
        return self._inlet.receive()

    def stage_pids(self) -> Sequence[int]:
        return [process.pid for process in self._processes if process.pid is not None]

    async def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(STOP_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()
        del self._outlet, self._inlet
        for link in self._links:
            link.close()


def run_stage(source: Link, sink: Link, work: Work, all_up: Barrier) -> None:
    """Body of a stage process; ends by SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    inlet, outlet = source.inlet(), sink.outlet()
    all_up.wait(START_TIMEOUT_S)
    with contextlib.suppress(EOFError):  # the other side of a pipe is gone: so is the run
        while True:
            outlet.send(work.result_for(inlet.receive(), outlet.loan))
