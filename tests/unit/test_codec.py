"""Objects as bytes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.exceptions import SerializationError
from remotemedia.ipc import codec

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.binary(),
        st.integers(0, 500).map(lambda size: np.arange(size, dtype=np.int16)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=12,
)


def there_and_back(value: Any, start: int = 0) -> tuple[Any, bytearray]:
    """As the channel does it: buffers and tail in one piece of memory."""
    parts = codec.pickled(value)
    offsets, tail_at = codec.place([buffer.nbytes for buffer in parts.buffers], start)
    size = codec.tail_size(parts)
    memory = bytearray(tail_at + size)
    for offset, buffer in zip(offsets, parts.buffers, strict=True):
        memory[offset : offset + buffer.nbytes] = buffer
    codec.write_tail(memoryview(memory), tail_at, parts, offsets)
    return codec.read(memoryview(memory).toreadonly(), tail_at, size), memory


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.tolist())
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


@given(value=VALUES, start=st.integers(0, 300))
def test_what_is_read_is_what_was_written(value: Any, start: int) -> None:
    assert plain(there_and_back(value, start)[0]) == plain(value)


@given(sizes=st.lists(st.integers(0, 1000)), start=st.integers(0, 1000))
def test_buffers_are_aligned_and_do_not_overlap(sizes: list[int], start: int) -> None:
    offsets, tail_at = codec.place(sizes, start)
    end = start
    for offset, size in zip(offsets, sizes, strict=True):
        assert offset >= end
        assert offset % 64 == 0
        end = offset + size
    assert tail_at >= end
    assert tail_at % 64 == 0


def test_arrays_are_read_only_views_of_the_memory() -> None:
    (array,), memory = there_and_back([np.zeros(100)])
    assert not array.flags.writeable
    memory[:8] = np.float64(7).tobytes()
    assert array[0] == 7


def test_only_large_things_are_out_of_band() -> None:
    assert len(codec.pickled({"a": np.arange(10), "b": [np.ones(3), "text", 5]}).buffers) == 2


def test_functions_travel_by_value() -> None:
    secret = 5
    function, _ = there_and_back(lambda x: x + secret)
    assert function(1) == 6


def test_what_cannot_travel() -> None:
    with pytest.raises(SerializationError, match="Try:") as caught:
        codec.pickled([threading.Lock()])
    assert isinstance(caught.value.__cause__, TypeError)


def test_whatever_pickling_raises_is_told() -> None:
    class Odd:
        def __reduce__(self) -> Any:
            raise ZeroDivisionError("odd")

    with pytest.raises(SerializationError, match="odd"):
        codec.pickled(Odd())
