"""Messages for nodes at the coordinator's desk: answers, deaths and restarts of who should answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from remotemedia.core.exceptions import MalformedMessage, NodeError, PoolClosed
from remotemedia.core.remote_errors import RemoteTraceback
from remotemedia.ipc.messages import Answer, Custom
from remotemedia.workers.control_messages import ControlDesk


class Workers:
    """Where the desk sends to: keeps what it was given."""

    def __init__(self) -> None:
        self.ready = {0: True, 1: True}
        self.got: list[tuple[int, Any, int]] = []
        self.desk = ControlDesk(lambda index: f"node{index}", self.ready.__getitem__, self.take)

    def take(self, worker_id: int, message: Custom) -> bool:
        self.got.append((worker_id, message.payload, message.number))
        return True

    async def ask(self, worker_id: int, payload: Any) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self.desk.ask(worker_id, payload, None))
        await asyncio.sleep(0)
        return task


async def test_each_gets_its_own_answer() -> None:
    workers = Workers()
    first, second = await workers.ask(0, "a"), await workers.ask(1, {"b": [1, None, b"x"]})
    assert workers.got == [(0, "a", 1), (1, {"b": [1, None, b"x"]}, 2)]
    error = RemoteTraceback.of(ValueError("no")).as_mapping()
    workers.desk.on_answer(1, Answer(number=2, error=error))
    workers.desk.on_answer(0, Answer(number=1))
    workers.desk.on_answer(0, Answer(number=1))
    await first
    with pytest.raises(NodeError, match=r"'node1'.*on_control\(\) raised ValueError: no") as caught:
        await second
    assert isinstance(caught.value.__cause__, ValueError)


async def test_the_next_generation_gets_what_was_not_answered_in_order() -> None:
    workers = Workers()
    tasks = [await workers.ask(0, payload) for payload in ("a", "b", "c")]
    other = await workers.ask(1, "not theirs")
    workers.desk.on_answer(0, Answer(number=2))
    tasks[2].cancel()
    await asyncio.sleep(0)
    workers.ready[0] = False
    tasks.append(await workers.ask(0, "d"))
    workers.got.clear()
    workers.ready[0] = True
    workers.desk.on_ready(0)
    assert workers.got == [(0, "a", 1), (0, "d", 5)]
    for number in (1, 5, 4):
        workers.desk.on_answer(0, Answer(number=number))
    await asyncio.gather(tasks[0], tasks[1], tasks[3], other)
    assert workers.desk._unanswered == {}


async def test_what_no_message_can_carry_is_refused_at_once() -> None:
    workers = Workers()
    with pytest.raises(TypeError, match="a control message cannot carry a value of type object"):
        await workers.desk.ask(0, {"x": object()}, None)
    with pytest.raises(MalformedMessage, match="larger than the limit"):
        await workers.desk.ask(0, bytes(2**20), None)
    assert workers.got == []


async def test_the_end_of_the_pool_is_the_answer() -> None:
    workers = Workers()
    task = await workers.ask(0, "a")
    workers.desk.fail(PoolClosed("over"))
    workers.desk.fail(PoolClosed("again"))
    with pytest.raises(PoolClosed, match="over"):
        await task
    with pytest.raises(PoolClosed, match="over"):
        await workers.desk.ask(0, "b", None)
