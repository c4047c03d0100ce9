"""The frame header: what travels beside the payload, in the 128-byte user header of each sample."""

from __future__ import annotations

import ctypes
import struct

import numpy as np

MAX_DIMS = 8
USER_HEADER_BYTES = 128

BARE, ARRAY, BYTES, OBJECT = range(4)
"""Kinds: no payload · one array · bytes · a pickle (protocol 5) with its buffers out of band."""

HEADER = struct.Struct("<QqIIHBBQQIB3x8s8Q")
"""seq, number, session, index, ticket, kind, flags, nbytes, offset, tail, ndim, dtype, shape[8].

ARRAY: the array starts `offset` bytes into the payload. OBJECT: the buffer table and the pickle are the `tail` bytes
from `offset`. `nbytes` is the payload in use. `dtype` is numpy's `dtype.str`, padded with NULs. `ticket` is the credit
to give back.
"""
assert HEADER.size <= USER_HEADER_BYTES

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
