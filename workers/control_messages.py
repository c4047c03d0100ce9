"""Messages of the user for nodes (`WorkerPool.send_control`), until they have been answered."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from remotemedia.core.exceptions import NodeError
from remotemedia.core.remote_errors import RemoteTraceback, described, raised
from remotemedia.ipc.messages import Answer, Custom, decode, encode
from remotemedia.workers.stage import Stage


class ControlDesk:
    """Hands messages over to nodes and waits for their answers."""

    def __init__(
        self, node_id_of: Callable[[int], str], is_ready: Callable[[int], bool], send: Callable[[int, Custom], bool]
    ) -> None:
        """`is_ready(worker_id)`: whether its node takes messages now; `send(worker_id, message)`: without waiting."""
        self._node_id_of, self._is_ready, self._send = node_id_of, is_ready, send
        self._numbers = itertools.count(1)
        self._unanswered: dict[int, tuple[int, Custom, asyncio.Future[None]]] = {}
        """By number, so in the order in which they were sent: worker, message, who waits."""
        self._error: BaseException | None = None

    async def ask(self, worker_id: int, payload: Any, stage: Stage | None) -> None:
        """Returns when `on_control` of the node has returned. `stage`: of a node in this process.

        Raises NodeError with what `on_control` raised as cause; TypeError for what is not plain data.
        """
        if self._error is not None:
            raise self._error
        number = next(self._numbers)
        message = Custom(payload=payload, number=number)
        data = encode(message)  # not plain, or too large: the caller hears of it at once
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unanswered[number] = worker_id, message, future
        try:
            if stage is not None:
                copy = decode(data, "to_worker")
                assert isinstance(copy, Custom)
                stage.post_control(copy.payload, lambda error: self._finish(worker_id, number, error))
            elif self._is_ready(worker_id):
                self._send(worker_id, message)  # if that fails the worker is dead: its successor will get it
            await future
        finally:
            del self._unanswered[number]

    def on_answer(self, worker_id: int, answer: Answer) -> None:
        """A worker is done with a message."""
        error = None if answer.error is None else RemoteTraceback.from_mapping(answer.error).exception()
        self._finish(worker_id, answer.number, error)

    def _finish(self, worker_id: int, number: int, cause: BaseException | None) -> None:
        _, _, future = self._unanswered.get(number, (None, None, None))
        if future is None or future.done():
            return  # whoever sent it does not wait any more
        if cause is None:
            future.set_result(None)
            return
        error = NodeError(self._node_id_of(worker_id), raised("on_control", described(cause)))
        error.__cause__ = cause
        future.set_exception(error)

    def on_ready(self, worker_id: int) -> None:
        """A worker, or its next generation, takes messages from now on: what was not answered is for it."""
        for owner, message, future in list(self._unanswered.values()):
            if owner == worker_id and not future.done():
                self._send(worker_id, message)

    def fail(self, error: BaseException) -> None:
        """Nobody will answer any more."""
        self._error = self._error or error
        for _, _, future in self._unanswered.values():
            if not future.done():
                future.set_exception(self._error)
