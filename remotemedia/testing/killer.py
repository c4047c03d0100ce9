"""Whoever kills the workers of a pool, at random but the same at random for the same seed."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

KILL, SEGV, PAUSE, FREEZE = "kill", "segv", "pause", "freeze"
"""SIGKILL; SIGSEGV; SIGSTOP and then SIGCONT; SIGSTOP and then SIGKILL."""

_WEIGHTS = {KILL: 70, SEGV: 8, PAUSE: 12, FREEZE: 10}
_VICTIMS = {1: 82, 2: 15, 99: 3}
"""How many at once: one, two, all."""
_STANDSTILL_S = (0.02, 0.3)


@dataclass(frozen=True, kw_only=True)
class Blow:
    """What is done to some workers at one time."""

    kind: str
    victims: int
    """How many workers at once; all if there are fewer."""
    order: tuple[float, ...]
    """A number in [0, 1) for each worker: those with the smallest ones are hit."""
    standstill_s: float
    """How long they are stopped."""


def blows(seed: int, workers: int) -> Iterator[Blow]:
    """The endless script of a seed."""
    dice = random.Random(seed)  # noqa: S311 - a script, no secret
    while True:
        yield Blow(
            kind=dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0],
            victims=dice.choices(list(_VICTIMS), list(_VICTIMS.values()))[0],
            order=tuple(dice.random() for _ in range(workers)),
            standstill_s=dice.uniform(*_STANDSTILL_S),
        )


class Killer:
    """Deals out the blows of a script, one each `every_s` seconds, to the workers of a pool that are ready.

    Those that are starting are left alone: a worker that dies before it was ever ready is not replaced, by design.
    `dealt` counts (node, kind), `deaths` the deaths per node, `missed` the blows that met no worker ready. Belongs to
    the pool's event loop, where no pid can be another process's before the pool knows that its worker is gone.
    """

    def __init__(self, pool: Any, seed: int, every_s: float) -> None:
        workers = pool.snapshot().workers
        self._pool, self._every_s = pool, every_s
        self._script = blows(seed, len(workers))
        self.dealt: Counter[tuple[str, str]] = Counter()
        self.deaths: Counter[str] = Counter()
        self.missed = 0
        self.held_back = 0
        """How often it was time for a blow that was not dealt because there was no progress."""
        self._wakers: set[asyncio.Task[None]] = set()
        self._dead: dict[int, int] = {}
        """Worker → the pid that was killed last: whoever has that pid is dead, whether the pool knows it or not."""

    async def run(self, most: int | None = None, progress: Callable[[], int] = lambda: 0, patience: int = 0) -> None:
        """Deal out `most` blows (None: without end). When it is cancelled, whoever is stopped is set going again.

        After `patience` blows (0: never) during which `progress()` has not changed, it holds back until it does: on a
        machine where starting a worker takes longer than the time between blows, nobody could ever get anything done.
        What still does not change then stands still for another reason.
        """
        try:
            before, barren = progress(), 0
            for blow in itertools.islice(self._script, most):
                await asyncio.sleep(self._every_s)
                while patience and barren >= patience and progress() == before:
                    self.held_back += 1
                    await asyncio.sleep(self._every_s)
                barren = 0 if progress() != before else barren + 1
                before = progress()
                self.strike(blow)
            await asyncio.gather(*self._wakers)
        finally:
            for waker in self._wakers:
                waker.cancel()
            await asyncio.gather(*self._wakers, return_exceptions=True)

    def strike(self, blow: Blow) -> None:
        """Deal out one blow."""
        ready = [
            worker
            for worker in self._pool.snapshot().workers
            if worker.state == "ready" and self._dead.get(worker.worker_id) != worker.pid
        ]
        ready.sort(key=lambda worker: blow.order[worker.worker_id])
        self.missed += not ready
        for worker in ready[: blow.victims]:
            self.dealt[worker.node, blow.kind] += 1
            self._hit(worker, blow)

    def _hit(self, worker: Any, blow: Blow) -> None:
        if blow.kind in {KILL, SEGV}:
            self._kill(worker, signal.SIGKILL if blow.kind == KILL else signal.SIGSEGV)
            return
        _send(worker.pid, signal.SIGSTOP)
        waker = asyncio.get_running_loop().create_task(self._after_standstill(worker, blow))
        self._wakers.add(waker)
        waker.add_done_callback(self._wakers.discard)

    async def _after_standstill(self, worker: Any, blow: Blow) -> None:
        try:
            await asyncio.sleep(blow.standstill_s)
            kills = blow.kind == FREEZE
        except asyncio.CancelledError:
            kills = False
        if self._dead.get(worker.worker_id) == worker.pid or not self._is_there(worker):
            return  # another blow has killed it meanwhile
        if kills:
            self._kill(worker, signal.SIGKILL)
        else:
            _send(worker.pid, signal.SIGCONT)

    def _is_there(self, worker: Any) -> bool:
        return bool(self._pool.snapshot().workers[worker.worker_id].pid == worker.pid)

    def _kill(self, worker: Any, number: signal.Signals) -> None:
        self._dead[worker.worker_id] = worker.pid
        self.deaths[worker.node] += 1
        _send(worker.pid, number)
        _send(worker.pid, signal.SIGCONT)  # to one that another blow has stopped, SIGSEGV comes only when it goes on


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has died by itself, and the pool does not know yet
        os.kill(pid, number)
