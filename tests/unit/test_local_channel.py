"""What only the channel within a process does; what it shares with the other is in tests/conformance."""

from __future__ import annotations

import numpy as np

from remotemedia.core.frames import VideoFrame
from remotemedia.ipc.channel import Stamp
from tests.unit.local_stage import Ground


async def test_values_are_passed_as_they_are() -> None:
    ground = Ground()
    sender = ground.channel(receivers=2)
    for value in (np.arange(5), [1], lambda: 0, None):
        sender.send(sender.pack(value), Stamp(0))
        assert all(receiver.receive().value is value for receiver in sender.receivers)  # type: ignore[union-attr]
    assert (sender.copies, sender.bytes_copied, sender.unreleased()) == (0, 0, 0)
    ground.close()


async def test_the_size_is_that_of_the_array() -> None:
    ground = Ground()
    sender = ground.channel()
    array = np.zeros((10, 10), np.float32)
    assert [sender.pack(v).nbytes for v in (array, VideoFrame(array=array), b"abc", 5)] == [400, 400, 3, 0]
    ground.close()


async def test_closing_drops_what_was_not_received() -> None:
    ground = Ground()
    sender = ground.channel(queue_frames=2)
    sender.send(sender.pack(1), Stamp(0))
    sender.close()
    assert sender.receivers[0].receive() is None
    assert sender.unreleased() == 0
    ground.close()
