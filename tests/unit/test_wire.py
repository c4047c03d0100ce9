"""The frame header."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from remotemedia.ipc import wire
from remotemedia.ipc.wire import ARRAY, BYTES, MAX_DIMS, OBJECT, array_layout, dtype_name, layout_of, read_layout

DTYPES = st.one_of(
    nps.boolean_dtypes(),
    nps.integer_dtypes(),
    nps.unsigned_integer_dtypes(),
    nps.floating_dtypes(),
    nps.complex_number_dtypes(),
    nps.datetime64_dtypes(),
    nps.timedelta64_dtypes(),
    nps.byte_string_dtypes(max_len=99),
    nps.unicode_string_dtypes(max_len=99),
)


@given(shape=nps.array_shapes(min_dims=0, max_dims=MAX_DIMS, min_side=0), dtype=DTYPES, offset=st.integers(0, 1 << 40))
def test_an_array_reads_as_it_was_written(shape: tuple[int, ...], dtype: np.dtype[np.generic], offset: int) -> None:
    found = array_layout(shape, dtype, offset)
    assert found is not None
    layout, nbytes = found
    assert nbytes == offset + dtype.itemsize * int(np.prod(shape, dtype=object))
    for _ in range(2):  # the second time from memory
        read = read_layout(layout)
        assert (read.kind, read.shape, read.dtype, read.offset, read.nbytes) == (ARRAY, shape, dtype, offset, nbytes)
        assert read.dtype.str == dtype.str
        assert read.elements == int(np.prod(shape, dtype=object))


@given(
    kind=st.sampled_from([wire.BARE, BYTES, OBJECT]),
    nbytes=st.integers(0, 1 << 40),
    offset=st.integers(0, 1 << 40),
    tail=st.integers(0, (1 << 32) - 1),
)
def test_so_does_everything_else(kind: int, nbytes: int, offset: int, tail: int) -> None:
    read = read_layout(layout_of(kind, nbytes, offset, tail))
    assert (read.kind, read.nbytes, read.offset, read.tail) == (kind, nbytes, offset, tail)


@pytest.mark.parametrize(
    "described",
    [object, "i4,f4", [("a", "u1")], ("f4", (3,)), "V0", "U1234567", "M8[1000000s]", np.dtypes.StringDType()],
)
def test_what_does_not_fit_into_the_header(described: Any) -> None:
    dtype: np.dtype[np.generic] = np.dtype(described)
    assert dtype_name(dtype) is None
    assert dtype_name(dtype) is None, "asked again"
    assert array_layout((1,), dtype) is None


def test_more_dimensions_than_there_is_room_for() -> None:
    assert array_layout((1,) * MAX_DIMS, np.dtype("u1")) is not None
    assert array_layout((1,) * (MAX_DIMS + 1), np.dtype("u1")) is None


def test_a_negative_dimension_is_an_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        array_layout((3, -1), np.dtype("u1"))


def test_what_is_remembered_is_bounded() -> None:
    for size in range(5000):
        found = array_layout((size,), np.dtype("u1"))
        assert found is not None
        assert read_layout(found[0]).shape == (size,)
    assert len(wire._array_layouts) <= wire._MOST_REMEMBERED
    assert len(wire._read_layouts) <= wire._MOST_REMEMBERED


def test_the_header_fits_into_its_place() -> None:
    assert wire.HEADER.size <= wire.USER_HEADER_BYTES
    assert wire.LAYOUT.size <= 96


@pytest.mark.parametrize(("nbytes", "blocks"), [(0, 1), (1, 1), (64, 1), (65, 2), (640, 10)])
def test_blocks(nbytes: int, blocks: int) -> None:
    assert wire.blocks(nbytes) == blocks
