"""Frames of any size: slots grow when they must, are used again, and cost no memory per frame."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remotemedia.core.exceptions import FrameTooLarge
from remotemedia.core.frames import VideoFrame
from tests.conformance.link import Connector, Link

SLOT = 4096


def picture(size: int, number: int = 0) -> Any:
    return np.arange(number, number + size, dtype=np.uint32).astype(np.uint8)


@pytest.mark.parametrize("size", [SLOT, SLOT + 1, SLOT + 64, 2 * SLOT, 100 * SLOT, 3, 64, 65])
def test_a_frame_of_another_size_than_the_slot(share: Connector, size: int) -> None:
    link = share(slot_bytes=SLOT)
    for number, each in enumerate((10, size, 10, size, size)):
        assert np.array_equal(link.carry(picture(each, number)), picture(each, number))


def test_frames_that_wait_are_not_touched_when_the_slots_grow(share: Connector) -> None:
    link = share(slot_bytes=SLOT, queue_frames=8)
    sizes = [10, SLOT * 3, SLOT, SLOT * 50, 1, SLOT * 400]
    for number, size in enumerate(sizes):
        link.send(picture(size, number), number)
    got = [link.receive().value for _ in sizes]
    assert all(np.array_equal(array, picture(size, n)) for n, (array, size) in enumerate(zip(got, sizes, strict=True)))


def test_an_open_slot_survives_growth(share: Connector) -> None:
    link = share(slot_bytes=SLOT)
    output = link.sender.empty((1000,), np.dtype(np.uint8))
    output[:] = 5
    link.carry(picture(SLOT * 20))
    outputs = [output]
    del output
    assert (link.hand_over(outputs.pop) == 5).all()
    assert link.sender.copies == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 12).map(lambda power: 3**power + power), min_size=1, max_size=40),
    hold=st.integers(0, 3),
)
def test_many_sizes_one_after_the_other(share: Connector, sizes: list[int], hold: int) -> None:
    link = share(slot_bytes=64, queue_frames=4, window_bytes=1 << 20)
    held: list[tuple[int, int, Any]] = []
    for number, size in enumerate(sizes):
        got = link.carry(picture(size, number))
        held = [*held, (number, size, got)][-hold - 1 :]
        assert all(np.array_equal(array, picture(each, n)) for n, each, array in held)


@pytest.mark.parametrize("kind", ["array", "bytes", "object", "frame", "empty"])
def test_a_frame_over_the_limit_is_refused_and_the_channel_goes_on(share: Connector, kind: str) -> None:
    link = share(max_frame_bytes=100_000, slot_bytes=SLOT, queue_frames=2)
    big = np.zeros(100_001, np.uint8)
    values = {"array": big, "bytes": big.tobytes(), "object": {"a": big}, "frame": VideoFrame(array=big)}
    with pytest.raises(FrameTooLarge, match="max_frame_bytes") as caught:
        link.sender.empty((100_001,), np.dtype(np.uint8)) if kind == "empty" else link.sender.pack(values[kind])
    assert caught.value.limit_bytes == 100_000
    assert caught.value.size_bytes > 100_000
    assert link.fill(picture(100_000)) == 2


def test_the_local_channel_refuses_it_as_well(connect: Connector) -> None:
    link = connect(max_frame_bytes=1000, slot_bytes=64)
    with pytest.raises(FrameTooLarge):
        link.sender.pack(np.zeros(1001, np.uint8))
    assert link.carry(np.zeros(1000, np.uint8)).nbytes == 1000


def test_an_array_as_large_as_the_limit_may_come_from_empty(share: Connector) -> None:
    link = share(max_frame_bytes=100_000)
    assert link.hand_over(lambda: link.sender.empty((100_000,), np.dtype(np.uint8))).nbytes == 100_000
    assert link.sender.copies == 0


def addresses(link: Link, frames: int, in_flight: int) -> set[int]:
    found = set()
    held: list[Any] = []
    for number in range(frames):
        link.send(picture(3000), number)
        frame = link.receive()
        found.add(frame.value.__array_interface__["data"][0])
        held = [*held, frame][-in_flight:]
    return found


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_slots_are_used_again(share: Connector, in_flight: int) -> None:
    """Few slots stay in the processor's cache, many do not."""
    assert len(addresses(share(queue_frames=16), 500, in_flight)) <= in_flight + 2


def test_a_frame_costs_no_memory_that_stays(connect: Connector) -> None:
    link = connect(queue_frames=4)
    values = [picture(3000), {"a": picture(100), "text": "x"}, b"bytes", None, VideoFrame(array=picture(30))]

    def pass_all(times: int) -> None:
        for number in range(times):
            for value in values:
                link.send(value, number)
                link.receive()
            link.hand_over(lambda: link.sender.empty((100,), np.dtype(np.uint8)))

    pass_all(50)
    arrays = values[0], values[-1]
    counts = [sys.getrefcount(array) for array in arrays]
    gc.collect()
    tracemalloc.start()
    try:
        pass_all(1)
        before, _ = tracemalloc.get_traced_memory()
        pass_all(500)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 3000, "more than a byte per frame stays behind"
    assert [sys.getrefcount(array) for array in arrays] == counts
