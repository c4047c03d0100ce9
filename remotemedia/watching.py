"""The running pools of this user, seen from outside: for `remotemedia top` and metrics."""

from __future__ import annotations

import select
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from remotemedia.core.exceptions import ConfigurationError, MalformedMessage, PoolClosed
from remotemedia.ipc.observer_client import ObserverClient
from remotemedia.ipc.observer_messages import GetSnapshot, PoolView, Refused, Reply, Request, WorkerView
from remotemedia.workers.diagnose import memory_bytes
from remotemedia.workers.running import PoolPlace, find_pools

SILENT_S = 2.0
_HEALTHY = {"ready", "inline"}
_MEMORY_S = 2.0
"""Between two looks at the memory of the workers, for which the kernel walks through it."""


@dataclass
class WatchedPool:
    """One pool. `view`: its last snapshot, None before the first; `problem`: why there is none, or no new one."""

    place: PoolPlace
    client: ObserverClient | None = None
    view: PoolView | None = None
    problem: str = ""
    shm_bytes: int = 0
    asked_at: float | None = None
    measured_at: float = float("-inf")
    pss: dict[int | None, int | None] = field(default_factory=dict)
    """Memory of the workers, by pid."""

    @property
    def pool_id(self) -> str:
        return self.place.pool_id

    def ask(self, *, details: bool = False) -> None:
        """Ask for a snapshot, unless the last one is still due. Raises PoolClosed, TimeoutError."""
        now = monotonic()
        if self.client is None:
            return
        if self.asked_at is None:
            self.client.ask(GetSnapshot(details=details))
            self.asked_at = now
        elif now - self.asked_at > SILENT_S:
            self.problem = f"no answer for {now - self.asked_at:.0f} s: the event loop of its process is blocked"

    def take(self, reply: Reply) -> Reply | None:
        """Take in an answer; gives it back if it is to something else."""
        if isinstance(reply, PoolView):
            self.asked_at, self.problem, self.view = None, "", reply
            self._measure(reply)
            return None
        if isinstance(reply, Refused) and reply.number == 0:
            self.problem = reply.reason
        return reply

    def _measure(self, view: PoolView) -> None:
        now = monotonic()
        if now - self.measured_at >= _MEMORY_S or set(self.pss) != {worker.pid for worker in view.workers}:
            self.measured_at = now
            self.shm_bytes = self.place.shared_memory()[1]
            self.pss = {w.pid: None if w.pid is None else memory_bytes(w.pid) for w in view.workers}

    def facts(self) -> dict[str, Any]:
        """As plain data: for --json, and the status page."""
        if self.view is None:
            return {"pool_id": self.pool_id, "problem": self.problem}
        plain: dict[str, Any] = msgspec.to_builtins(self.view)
        for worker in plain["workers"]:
            worker["pss_bytes"] = self.pss.get(worker["pid"])
        for unneeded in ("type", "number"):
            plain.pop(unneeded, None)
        details = plain.pop("details") or {}
        return {**plain, **details, "shm_bytes": self.shm_bytes, "problem": self.problem}

    def complaints(self) -> list[str]:
        """What is wrong, a line each; none if the pool runs and every worker takes frames."""
        view, name = self.view, f"pool {self.pool_id}"
        if view is None or self.problem:
            return [f"{name}: {self.problem or 'no answer'}"]
        state = [f"{name}: {view.state}"] if view.state != "running" else []
        return state + [f"{name}: {worker.node} is {worker.state}" for worker in view.workers if not is_healthy(worker)]


def is_healthy(worker: WorkerView) -> bool:
    """Whether it takes frames."""
    return worker.state in _HEALTHY


def health_of(complaints: Iterable[str]) -> tuple[bool, str]:
    """Whether there are no complaints, and the text that /healthz answers."""
    text = "".join(f"{line}\n" for line in complaints)
    return not text, text or "ok\n"


class Watcher:
    """All pools that run, or the one that was asked for; finds new ones and forgets those that end."""

    def __init__(self, wanted: str | None = None) -> None:
        """`wanted`: the beginning of a pool's id, or the pid of its coordinator."""
        self.pools: dict[str, WatchedPool] = {}
        self._wanted = wanted
        self._unwanted: set[str] = set()

    def look(self) -> None:
        """Connect to pools that are new, forget those that are gone."""
        there = {place.pool_id: place for place in find_pools() if place.alive}
        for pool_id in [pool_id for pool_id in self.pools if pool_id not in there]:
            self._forget(pool_id)
        self._unwanted &= set(there)
        for pool_id in there.keys() - self.pools.keys() - self._unwanted:
            pool = _connected(there[pool_id])
            if pool is None:
                continue
            if self._is_wanted(pool):
                self.pools[pool_id] = pool
                continue
            self._unwanted.add(pool_id)
            if pool.client is not None:
                pool.client.close()

    def require_wanted(self) -> None:
        """Raise ConfigurationError if a pool was asked for that does not run."""
        if self._wanted is not None and not self.pools:
            running = [place.pool_id for place in find_pools() if place.alive]
            hint = f"running: {', '.join(running)}" if running else "no pool is running"
            raise ConfigurationError(f"there is no pool {self._wanted!r}; {hint}")

    def _is_wanted(self, pool: WatchedPool) -> bool:
        wanted = self._wanted
        if wanted is None or pool.pool_id.startswith(wanted):
            return True
        return wanted.isdecimal() and pool.client is not None and pool.client.peer_pid() == int(wanted)

    def ask(self) -> None:
        """Ask every pool for a snapshot."""
        for pool in list(self.pools.values()):
            try:
                pool.ask()
            except PoolClosed:
                self._forget(pool.pool_id)
            except TimeoutError:
                pool.problem = "it does not read what it is asked"

    def send(self, pool_id: str, request: Request) -> None:
        """Ask something else; the answer comes out of `wait`. Raises PoolClosed."""
        client = self.pools[pool_id].client if pool_id in self.pools else None
        if client is None:
            raise PoolClosed("the pool is gone")
        client.ask(request)

    def wait(self, timeout_s: float, also: Sequence[int] = ()) -> tuple[list[Reply], list[int]]:
        """Until something has come, or the time is over: what is no snapshot, and which of `also` are readable."""
        clients = {pool.client.fileno(): pool for pool in self.pools.values() if pool.client is not None}
        poll = select.poll()  # select() knows no descriptors above 1023, and a service may have many
        for fd in (*clients, *also):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(max(0.0, timeout_s) * 1e3)]
        received = [self._receive(clients[fd]) for fd in ready if fd in clients]
        return [reply for reply in received if reply is not None], [fd for fd in ready if fd not in clients]

    def _receive(self, pool: WatchedPool) -> Reply | None:
        assert pool.client is not None
        try:
            return pool.take(pool.client.receive())
        except (PoolClosed, TimeoutError):
            if pool.problem and pool.view is None:  # it has told why it does not answer
                pool.client.close()
                pool.client = None
            else:
                self._forget(pool.pool_id)
        except MalformedMessage as error:
            pool.problem = f"it speaks another language: {error}"
        return None

    def wait_for_answers(self, timeout_s: float) -> None:
        """Until every pool has answered, or the time is over."""
        due = monotonic() + timeout_s
        while any(pool.asked_at is not None for pool in self.pools.values()) and monotonic() < due:
            self.wait(due - monotonic())
        for pool in self.pools.values():
            if pool.asked_at is not None and not pool.problem:
                pool.problem = f"no answer for {timeout_s:.0f} s: the event loop of its process is blocked"

    def _forget(self, pool_id: str) -> None:
        pool = self.pools.pop(pool_id)
        if pool.client is not None:
            pool.client.close()

    def close(self) -> None:
        for pool_id in list(self.pools):
            self._forget(pool_id)


def _connected(place: PoolPlace) -> WatchedPool | None:
    """The pool, with a connection; None while it has no socket: it starts, or ends."""
    path = place.observer_path
    if path is None:
        return None
    try:
        return WatchedPool(place, ObserverClient(Path(path)))
    except FileNotFoundError:
        return None
    except OSError as error:
        return WatchedPool(place, problem=f"cannot connect: {error.strerror or error}")
