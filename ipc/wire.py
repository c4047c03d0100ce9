"""The frame header: what travels beside the payload, in the 128-byte user header of each sample."""

from __future__ import annotations

import ctypes
import math
import struct
from typing import NamedTuple

import numpy as np

MAX_DIMS = 8
USER_HEADER_BYTES = 128

BARE, ARRAY, BYTES, OBJECT, REFERENCE = range(5)
"""Kinds: no payload · one array · bytes · a pickle (protocol 5) with its buffers out of band · an array, or a
pickle, whose data lie elsewhere (remotemedia.ipc.references).
"""

HEADER = struct.Struct("<QqIIHB5x96s")
"""seq, number, session, index, ticket, flags, layout. `ticket` is the credit to give back."""
LAYOUT = struct.Struct("<BBBBIQQ8s8Q")
"""kind, ndim, of, is repeated, tail, nbytes, offset, dtype, shape[8]: what frames of one shape have in common, so made
and read once.

ARRAY: the array starts `offset` bytes into the payload. OBJECT: the buffer table and the pickle are the `tail` bytes
from `offset`. REFERENCE: `of` is the kind of the frame, and the rest is as in a copy of it. `nbytes` is the payload in
use, or what would be in use in a copy. `dtype` is numpy's `dtype.str`, padded with NULs. `is repeated`: 1 for a frame
that was sent again, in a slot that is not the one that its sender keeps.
"""
KIND_AT = HEADER.size - LAYOUT.size
REPEATED_AT = KIND_AT + 3
"""Where `kind` and `is repeated` lie in the header."""
assert HEADER.size == USER_HEADER_BYTES

NO_DTYPE = bytes(8)
NO_SHAPE = (0,) * MAX_DIMS
_PADDING = tuple((0,) * (MAX_DIMS - n) for n in range(MAX_DIMS + 1))

_names: dict[np.dtype[np.generic], bytes | None] = {}
_dtypes: dict[bytes, np.dtype[np.generic]] = {}


def padded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` filled up to 8 dimensions."""
    return shape + _PADDING[len(shape)]


def dtype_name(dtype: np.dtype[np.generic]) -> bytes | None:
    """The dtype as it stands in the header; None if it does not fit there (objects, records, long names)."""
    try:
        return _names[dtype]
    except KeyError:
        pass
    name = None if dtype.hasobject or dtype.fields is not None or dtype.subdtype else dtype.str.encode()
    if name is not None and (len(name) > len(NO_DTYPE) or not dtype.itemsize or np.dtype(name.decode()) != dtype):
        name = None
    _names[dtype] = name
    return name


def dtype_of(name: bytes) -> np.dtype[np.generic]:
    """Inverse of `dtype_name`, on the padded field of the header."""
    dtype = _dtypes.get(name)
    if dtype is None:
        dtype = _dtypes[name] = np.dtype(name.rstrip(b"\0").decode())
    return dtype


class Layout(NamedTuple):
    """LAYOUT, read."""

    kind: int
    nbytes: int
    offset: int
    tail: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    elements: int
    of: int


_MOST_REMEMBERED = 1024
_array_layouts: dict[tuple[tuple[int, ...], np.dtype[np.generic], int], tuple[bytes, int] | None] = {}
_read_layouts: dict[bytes, Layout] = {}


def array_layout(shape: tuple[int, ...], dtype: np.dtype[np.generic], offset: int = 0) -> tuple[bytes, int] | None:
    """(layout, bytes in use) of an array that starts at `offset`; None if its dtype or shape does not fit the header.

    Raises ValueError for a negative dimension.
    """
    key = (shape, dtype, offset)
    try:
        return _array_layouts[key]
    except KeyError:
        pass
    if min(shape, default=0) < 0:
        raise ValueError(f"negative dimensions are not allowed: {shape}")
    name = dtype_name(dtype)
    found = None
    if name is not None and len(shape) <= MAX_DIMS:
        nbytes = offset + dtype.itemsize * math.prod(shape)
        found = LAYOUT.pack(ARRAY, len(shape), 0, 0, 0, nbytes, offset, name, *padded_shape(shape)), nbytes
    if len(_array_layouts) >= _MOST_REMEMBERED:
        _array_layouts.clear()
    _array_layouts[key] = found
    return found


def layout_of(kind: int, nbytes: int, offset: int = 0, tail: int = 0) -> bytes:
    """The layout of a frame that is no array."""
    return LAYOUT.pack(kind, 0, 0, 0, tail, nbytes, offset, NO_DTYPE, *NO_SHAPE)


def as_reference(layout: bytes) -> bytes:
    """The layout of a reference, from that of a copy."""
    kind, ndim = layout[:2]
    return bytes((REFERENCE, ndim, kind, 0)) + layout[4:]


def read_layout(data: bytes) -> Layout:
    """Inverse of both. Remembers arrays; of other kinds every frame may have another size."""
    found = _read_layouts.get(data)
    if found is None:
        kind, ndim, of, _, tail, nbytes, offset, name, *dims = LAYOUT.unpack(data)
        shape = tuple(dims[:ndim])
        is_array = ARRAY in (kind, of)
        dtype = dtype_of(name) if is_array else _NOTHING
        found = Layout(kind, nbytes, offset, tail, dtype, shape, math.prod(shape), of)
        if is_array:
            if len(_read_layouts) >= _MOST_REMEMBERED:
                _read_layouts.clear()
            _read_layouts[data] = found
    return found


_NOTHING = np.dtype(np.uint8)


class Block(ctypes.Structure):
    """The element type of every service: 64 bytes, so that payloads are cache-line aligned without inflating the
    segment.
    """

    _fields_ = (("bytes", ctypes.c_uint8 * 64),)

    @staticmethod
    def type_name() -> str:
        return "remotemedia.Block64"


class UserHeader(ctypes.Structure):
    """Room for HEADER."""

    _fields_ = (("words", ctypes.c_uint64 * (USER_HEADER_BYTES // 8)),)

    @staticmethod
    def type_name() -> str:
        return "remotemedia.FrameHeader1"


BLOCK_BYTES = ctypes.sizeof(Block)


def blocks(nbytes: int) -> int:
    """How many blocks hold `nbytes`; at least one."""
    return -(-nbytes // BLOCK_BYTES) or 1
