"""When a frame is sent without a copy, when it must be copied, and that nobody sees the difference."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.ipc.channel import Stamp
from remotemedia.ipc.participant import max_open_slots
from tests.conformance.link import Connector, Link

SHAPE = (64, 100)


@pytest.fixture
def link(share: Connector) -> Link:
    return share(queue_frames=8)


def loan(link: Link, value: float = 7) -> Any:
    """An array in a slot, filled."""
    array = link.sender.empty(SHAPE, np.dtype(np.float64))
    array[:] = value
    return array


def test_an_array_from_empty_is_sent_as_it_is(link: Link) -> None:
    got = link.hand_over(lambda: loan(link))
    assert (got == 7).all()
    assert got.shape == SHAPE
    assert (link.sender.copies, link.sender.bytes_copied) == (0, 0)


def test_of_any_shape_and_dtype(link: Link) -> None:
    shapes: list[tuple[int, ...]] = [(), (0,), (5, 0), (1,), (2,) * 8, (1000, 1000)]
    for shape, dtype in itertools.product(shapes, ["?", "u1", ">i2", "c16", "M8[ms]", "U5"]):
        carry_zeros(link, shape, dtype)
    assert link.sender.copies == 0


def carry_zeros(link: Link, shape: tuple[int, ...], dtype: str) -> None:
    expected = np.zeros(shape, dtype)

    def make() -> Any:
        output = link.sender.empty(shape, np.dtype(dtype))
        output[...] = expected
        return output

    got = link.hand_over(make)
    assert (got.shape, got.dtype) == (shape, np.dtype(dtype))
    assert np.array_equal(got, expected)


VIEWS: list[Callable[[Any], Any]] = [
    lambda a: a[10:20],
    lambda a: a[63:],
    lambda a: a[5],
    lambda a: a[5, 17:],
    lambda a: a[:0],
    lambda a: a[64:],
    lambda a: a.reshape(100, 64),
    lambda a: a.reshape(-1)[1:],
    lambda a: a.view(np.uint8).reshape(-1)[3:5],
    lambda a: a[2:][3:],
    lambda a: a[5:6, 17:18],
]


@pytest.mark.parametrize("view", VIEWS)
def test_a_contiguous_view_of_it_is_sent_as_it_is(link: Link, view: Callable[[Any], Any]) -> None:
    def make() -> Any:
        output = link.sender.empty(SHAPE, np.dtype(np.float64))
        output[:] = np.arange(6400).reshape(SHAPE)
        return view(output)

    assert np.array_equal(link.hand_over(make), view(np.arange(6400.0).reshape(SHAPE)))
    assert link.sender.copies == 0


@pytest.mark.parametrize(
    "view",
    [lambda a: a[:, ::2], lambda a: a.T, lambda a: a[::-1], lambda a: a + 1, lambda a: np.broadcast_to(a[0], (3, 100))],
)
def test_anything_else_is_copied_once(link: Link, view: Callable[[Any], Any]) -> None:
    got = link.hand_over(lambda: view(loan(link)))
    assert np.array_equal(got, view(np.full(SHAPE, 7.0)))
    assert (link.sender.copies, link.sender.bytes_copied) == (1, got.nbytes)


@pytest.mark.parametrize(
    "keep",
    [
        lambda a: a,
        lambda a: a[3:],
        lambda a: a[::2, ::2],
        memoryview,
        lambda a: a.reshape(-1).view(np.uint8),
        lambda a: a.view(np.recarray),
        lambda a: a.ctypes,
        lambda a: a.flat,
    ],
)
def test_what_the_node_still_holds_is_copied_and_may_be_written_later(link: Link, keep: Callable[[Any], Any]) -> None:
    kept: list[Any] = []

    def make() -> Any:
        output = loan(link)
        kept.append(keep(output))
        return output

    got = link.hand_over(make)
    assert link.sender.copies == 1
    held = kept[0]
    if isinstance(held, np.ndarray):
        held[...] = 9
    elif isinstance(held, memoryview):
        held[0, 0] = 9
    assert (got == 7).all()


def test_a_view_is_copied_while_the_node_holds_the_whole_or_another_view(link: Link) -> None:
    kept: list[Any] = []

    def of_the_whole() -> Any:
        kept.append(loan(link))
        return kept[-1][:5]

    def of_another() -> Any:
        output = loan(link)
        kept.append(output[40:])
        return output[:5]

    got = [link.hand_over(make) for make in (of_the_whole, of_another)]
    assert link.sender.copies == 2
    for array in kept:
        array[...] = 9
    assert all((array == 7).all() for array in got)


def test_sending_the_same_array_twice_is_safe(link: Link) -> None:
    kept = loan(link)
    first = link.hand_over(lambda: kept)
    kept[:] = 8
    second = link.hand_over(lambda: kept)
    assert (first == 7).all()
    assert (second == 8).all()


@pytest.mark.parametrize("frame_type", [VideoFrame, AudioFrame])
@pytest.mark.parametrize("view", [lambda a: a, lambda a: a[3:9], lambda a: a.reshape(-1)[1:]])
def test_a_typed_frame_around_it_needs_no_copy(link: Link, frame_type: Any, view: Callable[[Any], Any]) -> None:
    got = link.hand_over(lambda: frame_type(array=view(loan(link)), pts=90, metadata={"k": "v" * 100}))
    assert type(got) is frame_type
    assert (got.pts, got.metadata) == (90, {"k": "v" * 100})
    assert np.array_equal(got.array, view(np.full(SHAPE, 7.0)))
    assert link.sender.copies == 0


def test_a_typed_frame_is_copied_when_its_array_or_itself_is_held(link: Link) -> None:
    kept: list[Any] = []

    def holding(what: str) -> Any:
        frame = VideoFrame(array=loan(link))
        kept.append(frame.array if what == "array" else frame)
        return frame

    got = [link.hand_over(partial(holding, what)) for what in ("array", "frame")]
    assert link.sender.copies == 2
    kept[0][:] = 9
    kept[1].array[:] = 9
    assert all((frame.array == 7).all() for frame in got)


def test_a_typed_frame_whose_rest_does_not_fit_behind_the_array_is_copied(link: Link) -> None:
    metadata = {"boxes": np.arange(1000), "text": "x" * 5000}
    got = link.hand_over(lambda: VideoFrame(array=loan(link), metadata=metadata))
    assert got.metadata["text"] == metadata["text"]
    assert np.array_equal(got.metadata["boxes"], np.arange(1000))
    assert (got.array == 7).all()
    assert link.sender.copies == 2


def test_more_arrays_than_there_are_slots_are_ordinary_memory(link: Link) -> None:
    outputs = [loan(link, i) for i in range(max_open_slots + 3)]
    while outputs:
        expected = len(outputs) - 1
        assert (link.hand_over(outputs.pop) == expected).all()
    assert link.sender.copies == 3
    assert link.sender.unreleased() == 0


def test_an_array_that_is_thrown_away_gives_its_slot_back(link: Link) -> None:
    for _ in range(100):
        loan(link)
    cycle: list[Any] = [loan(link)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert (link.hand_over(lambda: loan(link)) == 7).all()
    assert link.sender.copies == 0


def test_an_array_of_another_channel_is_copied(share: Connector) -> None:
    here, there = share(), share()
    assert (there.hand_over(lambda: loan(here)) == 7).all()
    assert (there.sender.copies, here.sender.copies) == (1, 0)


def test_a_received_view_is_passed_on_by_copy(share: Connector) -> None:
    here, there = share(), share()
    got = there.hand_over(lambda: here.hand_over(lambda: loan(here)))
    assert (got == 7).all()
    assert there.sender.copies == 1
    assert here.sender.unreleased() == 0


def test_objects_are_copied_in_once_and_not_on_the_way_out(link: Link) -> None:
    value = {"a": np.arange(1000), "b": [np.ones((10, 10)), "text"]}
    got = link.carry(value)
    assert (link.sender.copies, link.sender.bytes_copied) == (2, 8800)
    assert link.receiver.copies == 0
    assert not got["a"].flags.owndata


def test_bytes_are_copied_on_both_sides_and_counted(link: Link) -> None:
    link.carry(b"x" * 1000)
    assert (link.sender.bytes_copied, link.receiver.bytes_copied) == (1000, 1000)


def test_a_parcel_that_is_never_sent_gives_its_slot_back(link: Link) -> None:
    for _ in range(50):
        link.sender.pack(np.zeros(100))
    parcel = link.sender.pack(np.ones(100))
    assert link.sender.has_credit(parcel.nbytes)
    link.sender.send(parcel, Stamp(0))
    assert link.receive().value[99] == 1
