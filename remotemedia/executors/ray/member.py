"""One island as the caller sees it: one actor after the other, each the next generation of the one before."""

from __future__ import annotations

import asyncio
import pickle
import random
import re
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from remotemedia._version import __version__
from remotemedia.config import RestartPolicy, Timeouts
from remotemedia.core.exceptions import (
    ConfigurationError,
    NodeError,
    PipelineError,
    RemoteMediaError,
    RestartLimitExceeded,
    WorkerDied,
    WorkerError,
    WorkerIdentity,
    WorkerStartError,
    WorkerStartTimeout,
)
from remotemedia.executors.ray.cluster import Cluster
from remotemedia.executors.ray.island_pool import Facts, IslandPool, IslandSpec, Reports
from remotemedia.executors.ray.islands import Demand
from remotemedia.executors.ray.relay import Delivery
from remotemedia.log import get_logger
from remotemedia.workers.restart import RestartHistory

_SUMMED = ("calls", "errors", "restarts", "bytes_in", "bytes_out", "copies", "bytes_copied")

_log = get_logger("remotemedia.executors.ray")


class IslandDied(Exception):  # noqa: N818 - named for what happened
    """The actor is gone; the text says what Ray knows of it."""


class Member:
    """One island, across the generations of its actor."""

    def __init__(
        self,
        index: int,
        spec: IslandSpec,
        demand: Demand,
        cluster: Cluster,
        *,
        policy: RestartPolicy,
        is_replaceable: bool,
    ) -> None:
        """`is_replaceable`: whether a next generation can go on where one has died."""
        self._index, self._spec, self._demand, self._cluster = index, spec, demand, cluster
        self._history = RestartHistory(policy)
        self._is_replaceable = is_replaceable
        self._actor: Any = None
        self._local: IslandPool | None = None
        self._facts: Facts | None = None
        self._host_id = ""
        self.restarts = 0
        self.is_ready = False
        self._metrics: list[dict[str, Any]] = []
        """Of the present generation, as far as is known."""
        self._past: list[dict[str, Any]] = []
        """Of those before."""

    @property
    def is_local(self) -> bool:
        """Whether it runs in this process, and so cannot be lost."""
        return self._spec.is_local

    @property
    def identity(self) -> WorkerIdentity:
        """Its nodes, and the process of its actor."""
        pid = self._facts.pid if self._facts is not None else None
        nodes = ", ".join(self._spec.ids)
        return WorkerIdentity(node=nodes, worker_id=self._index, pid=pid, generation=self.restarts)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the first generation. Raises WorkerStartError, or what its nodes raise."""
        try:
            await self._start()
        except IslandDied as error:
            raise WorkerStartError(
                self.identity,
                f"could not be started on another host: {error}",
                suggestion=f"every host needs remotemedia {__version__} and the modules of the nodes",
            ) from error

    async def _start(self) -> None:
        if self.is_local:
            self._local = IslandPool(self._spec)
            answer = await self._local.start()
        else:
            self._actor = self._cluster.start(self._spec, self._demand, avoid=self._host_id)
            timeouts = self._spec.config.timeouts
            limit_s = _start_limit_s(timeouts)
            try:
                answer = await asyncio.wait_for(_answer(self._actor.start.remote()), limit_s)
            except TimeoutError:
                raise WorkerStartTimeout(self.identity, self._why_not_started(limit_s)) from None
        if not isinstance(answer, Facts):
            raise loaded(answer)
        if answer.version != __version__:
            raise ConfigurationError(
                f"{self.identity}: host {answer.host!r} has remotemedia {answer.version}, this one {__version__}: "
                "install the same version on all hosts"
            )
        self._facts, self.is_ready = answer, True
        _log.debug("island started", nodes=list(self._spec.ids), host=answer.host, pid=answer.pid)

    def _why_not_started(self, limit_s: float) -> str:
        wanted = dict(self._demand.resources)
        if self._demand.host is not None:
            wanted["host"] = self._demand.host  # type: ignore[assignment]
        hosts = "; ".join(f"{sorted(host.names)} has {dict(host.resources)}" for host in self._cluster.hosts())
        return f"was not started by Ray within {limit_s:g} s. It needs {wanted or 'nothing special'}; {hosts}"

    async def revive(self, error: IslandDied, frame: int) -> None:
        """Start the next generation after a death, as the restart policy says. `frame`: the number that it was at.

        Raises WorkerDied or RestartLimitExceeded if it must not, or why it cannot.
        """
        self.is_ready = False
        while True:
            died = WorkerDied(self.identity, frame=frame, likely_cause=f"its host or its Ray actor was lost: {error}")
            _log.warning("island lost", nodes=list(self._spec.ids), reason=str(error))
            now = asyncio.get_running_loop().time()
            delay = self._history.next_delay(now, random.random()) if self._is_replaceable else None  # noqa: S311
            if delay is None:
                raise self._last_error(died)
            self.kill()
            self._past, self._metrics = _sum(self._past, self._metrics), []
            await asyncio.sleep(delay)
            self.restarts += 1
            try:
                await self._start()
            except IslandDied as again:
                error = again
            except ConfigurationError as nowhere:
                raise self._no_host(nowhere) from died
            else:
                _log.info("island started again", nodes=list(self._spec.ids), restarts=self.restarts)
                return

    def _last_error(self, died: WorkerDied) -> WorkerError:
        policy = self._history.policy
        if not policy.max_restarts or not self._is_replaceable:
            return died
        exceeded = RestartLimitExceeded(died.worker, restarts=policy.max_restarts, period_s=policy.period_s)
        exceeded.__cause__ = died
        return exceeded

    def _no_host(self, error: ConfigurationError) -> WorkerStartError:
        return WorkerStartError(self.identity, f"has lost its host, and cannot be started elsewhere: {error}")

    def kill(self) -> None:
        """End the actor without asking it. Nothing happens to an island in this process."""
        actor = self._actor
        if actor is not None:
            with suppress(RayError):
                ray.kill(actor)

    async def stop(self) -> list[NodeError]:
        """Stop the pool and end the actor; what the `cleanup` of its nodes raised."""
        was_ready, self.is_ready = self.is_ready, False
        if self._local is not None:
            return await self._local.stop()
        if not was_ready:  # lost, or interrupted while it started: its workers end with it
            self.kill()
            return []
        limit_s = 2 * self._spec.config.timeouts.stop_s + _start_limit_s(self._spec.config.timeouts)
        try:
            return list(await asyncio.wait_for(_answer(self._actor.stop.remote()), limit_s))
        except (IslandDied, RemoteMediaError, TimeoutError) as error:
            _log.warning("island not stopped in order", nodes=list(self._spec.ids), reason=str(error))
            return []
        finally:
            self.kill()

    # -- frames --------------------------------------------------------------------------------------------------------

    async def begin(self, run: int, base: int, *, has_input: bool) -> None:
        """Begin a stream. Raises IslandDied, as those below do."""
        if self._local is not None:
            await self._local.begin(run, base, has_input)
        else:
            await _answer(self._actor.begin.remote(run, base, has_input))

    def give(self, run: int, delivery: Delivery | None, completed: int) -> None:
        """Hand over inputs; `take` tells what became of them."""
        if self._local is not None:
            self._local.give(run, delivery, completed)
        else:
            self._actor.give.remote(run, delivery, completed)

    async def take(self, run: int) -> Reports:
        """What the island tells next."""
        reports: Reports = (
            await self._local.take(run) if self._local is not None else await _answer(self._actor.take.remote(run))
        )
        if reports.metrics is not None:
            self._metrics = reports.metrics
        return reports

    def metrics(self) -> list[dict[str, Any]]:
        """Per node of the island, as Execution.metrics; counters over all generations."""
        ids = self._spec.ids
        found = _sum(self._past, self._metrics) or [_nothing(node_id) for node_id in ids]
        return [{**metrics, "restarts": metrics["restarts"] + self.restarts} for metrics in found]


def _start_limit_s(timeouts: Timeouts) -> float:
    return 2 * timeouts.hello_s + timeouts.load_s + timeouts.initialize_s


async def _answer(call: Awaitable[Any]) -> Any:
    """What a method of an actor returns. Raises IslandDied."""
    try:
        return await call
    except RayTaskError as error:
        raise PipelineError(f"an island failed: {error}") from error
    except RayError as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise IslandDied(first) from error


def _nothing(node_id: str) -> dict[str, Any]:
    zero = {"avg_duration_us": 0.0, "p50_us": 0.0, "p99_us": 0.0}
    return {"node_id": node_id, "calls": 0, **zero, **dict.fromkeys(_SUMMED[1:], 0)}


def _sum(past: list[dict[str, Any]], present: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counters added, means weighed; quantiles are those of the newer one that has any."""
    if not past or not present:
        return past or present
    found = []
    for old, new in zip(past, present, strict=True):
        calls = old["calls"] + new["calls"]
        busy_us = old["calls"] * old["avg_duration_us"] + new["calls"] * new["avg_duration_us"]
        newest = new if new["calls"] else old
        total = {name: old[name] + new[name] for name in _SUMMED}
        found.append({**newest, **total, "avg_duration_us": busy_us / calls if calls else 0.0})
    return found


def loaded(error: BaseException | bytes) -> BaseException:
    """An error that an island has told of."""
    if not isinstance(error, bytes):
        return error
    try:
        found = pickle.loads(error)
    except Exception as broken:  # noqa: BLE001 - an error of a class that is not known here
        return PipelineError(f"an island failed with an error that cannot be unpickled here: {broken!r}")
    return found if isinstance(found, BaseException) else PipelineError(f"an island failed: {found!r}")


def with_frame(error: BaseException, number: int) -> BaseException:
    """`error` of a pool, which numbers its inputs itself, speaking of the pipeline's input `number`."""
    if not isinstance(error, WorkerError) or error.frame is None or error.frame == number:
        return error
    told = re.compile(rf"\b([Ff]rame:? ){error.frame}\b")
    error.reason = told.sub(rf"\g<1>{number}", error.reason)
    error.args = tuple(told.sub(rf"\g<1>{number}", arg) if isinstance(arg, str) else arg for arg in error.args)
    error.frame = number
    return error


__all__ = ["IslandDied", "Member", "loaded", "with_frame"]
