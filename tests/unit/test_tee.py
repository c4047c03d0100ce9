"""One sender over two channels."""

from __future__ import annotations

import numpy as np
import pytest

from remotemedia.core.exceptions import FrameTooLarge
from remotemedia.ipc.channel import Stamp
from remotemedia.workers.tee import Tee
from tests.unit.local_stage import Ground


async def test_both_get_everything_and_both_hold_back() -> None:
    ground = Ground()
    first, second = ground.channel(queue_frames=3), ground.channel(queue_frames=2)
    tee = Tee(first, second)
    for number in range(2):
        parcel = tee.pack(np.full(3, number))
        assert parcel.nbytes == 24
        assert tee.has_credit(parcel.nbytes)
        tee.send(parcel, Stamp(number))
    del parcel
    assert not tee.has_credit(0)
    assert tee.unreleased() == 2
    for number in range(2):
        for channel in (first, second):
            frame = channel.receivers[0].receive()
            assert frame is not None
            assert (frame.number, frame.value.tolist()) == (number, [number] * 3)
            del frame
    assert tee.has_credit(0)
    assert tee.unreleased() == 0
    tee.close()
    ground.close()


async def test_the_smaller_bound_holds_and_memory_is_ordinary() -> None:
    ground = Ground()
    tee = Tee(ground.channel(), ground.channel(max_frame_bytes=64, slot_bytes=64))
    with pytest.raises(FrameTooLarge):
        tee.pack(np.zeros(100))
    assert tee.empty((2, 3), np.dtype("f4")).flags.owndata
    assert (tee.copies, tee.bytes_copied) == (0, 0)
    ground.close()
