"""The place of one worker in a pool: one process after the other, each the next generation of the one before.

A supervisor looks after one process. When that has died, the slot has what it left removed, waits as long as the
restart policy says, and starts the next one, which goes on where the dead one ended (remotemedia.workers.stage).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable
from contextlib import suppress

from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.exceptions import (
    NodeProcessError,
    RemoteMediaError,
    RestartLimitExceeded,
    WorkerDied,
    WorkerError,
    WorkerIdentity,
    WorkerStartError,
    WorkerUnresponsive,
)
from remotemedia.core.stats import RESTARTS
from remotemedia.events import Restarted
from remotemedia.ipc.messages import FromWorker
from remotemedia.workers.boot import sealed_fd
from remotemedia.workers.restart import RestartHistory
from remotemedia.workers.supervisor import PoolParts, Supervisor

_MOST_GIVEN_UP = 256
"""Frames that were given up and are remembered: those that are still under way are among them."""

_logger = logging.getLogger("remotemedia.pool")


class Slot:
    """One worker of a pool, across all its generations."""

    def __init__(
        self,
        worker_id: int,
        node_id: str,
        payload: bytes,
        parts: PoolParts,
        config: PoolConfig,
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[RemoteMediaError], None],
        *,
        policy: RestartPolicy,
        on_error: str,
    ) -> None:
        """`on_failure(error)` is called with the first thing that makes the worker useless for good. `on_error`: of the
        node, see PoolConfig.
        """
        self.worker_id, self.node_id = worker_id, node_id
        self._parts, self._config, self._loop, self._on_failure = parts, config, loop, on_failure
        self._payload_fd = sealed_fd("node", payload)
        self._history = RestartHistory(policy)
        self._given_up: dict[int, WorkerError] = {}
        self._restarting: asyncio.Task[None] | None = None
        self._on_error = on_error
        self._stop_asked = asyncio.Event()
        self.restarts = 0
        self._current = self._supervisor()

    def _supervisor(self) -> Supervisor:
        return Supervisor(
            self.worker_id,
            self.node_id,
            self._payload_fd,
            self._parts,
            self._config,
            self._loop,
            self._on_worker_lost,
            generation=self.restarts,
            given_up=tuple(self._given_up),
        )

    # -- what it is now ------------------------------------------------------------------------------------------------

    @property
    def payload_fd(self) -> int:
        """A memfd with the node."""
        return self._payload_fd

    @property
    def supervisor(self) -> Supervisor:
        """Of the present process, or the last one."""
        return self._current

    @property
    def pid(self) -> int | None:
        return self._current.pid

    @property
    def state(self) -> str:
        return "backoff" if self._is_between else self._current.state

    @property
    def generation(self) -> int:
        return self.restarts

    @property
    def identity(self) -> WorkerIdentity:
        return self._current.identity

    @property
    def _is_between(self) -> bool:
        return self._restarting is not None and self._current.state == "exited"

    def why_given_up(self, number: int) -> WorkerError | None:
        """The death that a frame was given up for."""
        return self._given_up.get(number)

    # -- life ----------------------------------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Start the first generation. Raises WorkerStartError."""
        self._current.spawn()

    def spawn_alone(self) -> bool:
        """Start the first generation if it is none that the fork server makes. Raises WorkerStartError."""
        if alone := not self._parts.launcher.forks(self._parts.limits[self.worker_id]):
            self.spawn()
        return alone

    async def ready(self) -> None:
        """Returns when the first generation is ready. Raises why it never will be."""
        await self._current.ready()

    def on_message(self, message: FromWorker | RemoteMediaError) -> None:
        """A control message of the present process."""
        self._current.on_message(message)

    def begin_replacing(self, reason: str) -> None:
        """Let the worker finish the frame that it is at, and start its next generation."""
        if self._restarting is None and not self._stop_asked.is_set():
            _logger.info("%s is replaced: %s", self.identity, reason)
            self._restarting = self._loop.create_task(self._restart(0.0))

    async def replaced(self) -> None:
        """Returns when the next generation, whose start has begun, is ready."""
        if self._restarting is not None:
            await asyncio.shield(self._restarting)
        await self._current.ready()

    def _on_worker_lost(self, error: RemoteMediaError) -> None:
        if self._stop_asked.is_set() or not self._may_go_on(error):
            self._on_failure(error)
            return
        assert isinstance(error, WorkerError)
        delay = self._history.next_delay(self._loop.time(), random.random())  # noqa: S311 - no secret
        if delay is None:
            self._on_failure(self._limit_exceeded(error))
            return
        if error.frame is not None and self._history.blame(error.frame):
            self._given_up[error.frame] = error
            while len(self._given_up) > _MOST_GIVEN_UP:
                del self._given_up[next(iter(self._given_up))]
        _logger.info("%s starts again in %.2f s, for the %dth time", error.worker, delay, self.restarts + 1)
        self._restarting = self._loop.create_task(self._restart(delay))

    def _may_go_on(self, error: RemoteMediaError) -> bool:
        if not self._parts.fabric.is_replaceable(self.worker_id):
            return False
        if isinstance(error, (WorkerDied, WorkerUnresponsive)):
            return self._current.was_ready or self.restarts > 0
        return isinstance(error, NodeProcessError) and self._on_error == "restart"

    def _limit_exceeded(self, error: WorkerError) -> RemoteMediaError:
        policy = self._history.policy
        if not policy.max_restarts:
            return error
        exceeded = RestartLimitExceeded(
            error.worker, restarts=policy.max_restarts, period_s=policy.period_s, story=error.story
        )
        exceeded.__cause__ = error
        return exceeded

    async def _restart(self, delay: float) -> None:
        try:
            self._current.begin_stop()  # one that has only failed still runs
            await self._current.stopped()
            await asyncio.to_thread(self._parts.fabric.reap)
            if delay:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop_asked.wait(), delay)
            if self._stop_asked.is_set():
                return
            board = self._parts.fabric.boards[self.worker_id]
            board.reset()
            self.restarts += 1
            board.stats.values[RESTARTS] = self.restarts
            self._current = self._supervisor()
            self._current.spawn(self._parts.take_spare(self.worker_id))
            self._parts.events.emit(Restarted.of(self.identity))
        except WorkerStartError as error:
            self._on_failure(error)
        finally:
            self._restarting = None

    # -- the end -------------------------------------------------------------------------------------------------------

    def begin_stop(self) -> None:
        """Ask the worker to stop, clean up and exit; it is killed when its time is up. No restart from now on."""
        self._stop_asked.set()
        self._current.begin_stop()

    async def stopped(self) -> str | None:
        """Returns when the process is gone: what its `cleanup()` raised, as text."""
        if self._restarting is not None:
            await asyncio.gather(self._restarting, return_exceptions=True)
            self._current.begin_stop()
        text = await self._current.stopped()
        self._close_payload()
        return text

    def kill_now(self) -> None:
        """For finalizers: without the loop."""
        self._stop_asked.set()
        self._current.kill_now()
        self._close_payload()

    def _close_payload(self) -> None:
        if self._payload_fd >= 0:
            os.close(self._payload_fd)
            self._payload_fd = -1
