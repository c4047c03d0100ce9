"""Events on their way to listeners, sinks and the log."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from remotemedia import events
from remotemedia.core.exceptions import WorkerIdentity
from remotemedia.workers.event_bus import _MOST_UNREAD, EventBus

WORKER = WorkerIdentity(node="detector", worker_id=3, pid=42, generation=1)


async def test_every_listener_hears_everything_from_when_it_began() -> None:
    bus = EventBus()
    early = bus.listen()
    bus.emit(events.Started.of(WORKER))
    late = bus.listen()
    bus.emit(events.Ready.of(WORKER))
    bus.close()
    assert [type(event) async for event in early] == [events.Started, events.Ready]
    assert [type(event) async for event in late] == [events.Ready]
    assert [event async for event in bus.listen()] == []


async def test_several_tasks_may_wait_at_one_listener() -> None:
    bus = EventBus()
    listener = bus.listen()
    tasks = [asyncio.ensure_future(anext(listener)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    for number in (1, 2):
        bus.emit(events.FrameFailed.of(WORKER, frame=number))
    found = await asyncio.gather(*tasks[1:])
    assert {getattr(event, "frame", None) for event in found} == {1, 2}
    waiting = asyncio.ensure_future(anext(listener, None))
    await asyncio.sleep(0)
    await listener.aclose()
    assert await waiting is None


async def test_who_does_not_read_loses_the_oldest_and_is_told_how_many() -> None:
    bus = EventBus()
    listener = bus.listen()
    for number in range(_MOST_UNREAD + 10):
        bus.emit(events.FrameSkipped.of(WORKER, frame=number))
    assert listener.dropped == 10
    first = await anext(listener)
    assert isinstance(first, events.FrameSkipped)
    assert first.frame == 10


async def test_listeners_that_nobody_holds_are_forgotten() -> None:
    bus = EventBus()
    listener = bus.listen()
    assert len(bus._listeners) == 1
    del listener
    gc.collect()
    assert len(bus._listeners) == 0


async def test_sinks_get_every_event_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    seen: list[Any] = []

    def broken(event: events.Event) -> None:
        raise ValueError("no room")

    bus.add_sink(broken)
    bus.add_sink(seen.append)
    with caplog.at_level(logging.INFO, "remotemedia.events"):
        for _ in range(2):
            bus.emit(events.Started.of(WORKER))
        bus.emit(events.Died.of(WORKER, "killed by SIGKILL"))
    assert [type(event) for event in seen] == [events.Started, events.Started, events.Died]
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert texts == ["Died node 'detector' (worker 3, pid 42, generation 1): killed by SIGKILL"]
    assert sum("a sink for events raised" in record.getMessage() for record in caplog.records) == 3


def test_events_say_who_why_and_when() -> None:
    event = events.MemoryWarning.of(WORKER, "it grows", pss_bytes=900 << 20, limit_bytes=1000 << 20)
    assert (event.node, event.worker_id, event.pid, event.generation) == ("detector", 3, 42, 1)
    assert event.time_s > 0
    assert str(event).endswith("generation 1) (900 of 1000 MiB): it grows")
    assert str(events.Closed()) == "Closed"
    assert "(frame 7)" in str(events.FrameFailed.of(WORKER, frame=7))
    assert "for 6.0 s" in str(events.Stalled.of(WORKER, silent_s=6))
