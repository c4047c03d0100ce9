"""Raw shared memory: addresses, room, and memory behind them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.exceptions import SharedMemoryExhausted
from remotemedia.ipc.wire import USER_HEADER_BYTES

Memory = ctypes.c_uint8 * (1 << 40)
"""One ctypes type for every size: making a type per size costs 6 µs each."""
Header = ctypes.c_uint8 * USER_HEADER_BYTES

_MADV_POPULATE_WRITE = 23  # madvise(2), since Linux 5.14
_libc = ctypes.CDLL(None, use_errno=True)


def array_at(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A writable array over memory that somebody else keeps alive."""
    memory: Any = Memory.from_address(address)
    return np.ndarray(shape, dtype, memory)


def address_of(array: npt.NDArray[Any]) -> int:
    """Where the first element lies."""
    return int(array.__array_interface__["data"][0])


def free_shared_memory() -> int:
    """Free bytes of /dev/shm."""
    facts = os.statvfs("/dev/shm")  # noqa: S108 - the directory of POSIX shared memory, fixed on Linux
    return facts.f_bavail * facts.f_frsize


def populate(channel: str, address: int, nbytes: int) -> bool:
    """Put memory behind a range; False if it is not mapped. Raises SharedMemoryExhausted: a write would be a SIGBUS."""
    start = address & -mmap.PAGESIZE
    length = address + nbytes - start
    if _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(_MADV_POPULATE_WRITE)) == 0:
        return True
    code = ctypes.get_errno()
    if code not in {errno.EINVAL, errno.ENOMEM}:  # EINVAL: before Linux 5.14, memory comes at the first touch
        raise SharedMemoryExhausted(channel, nbytes, free_shared_memory())
    return code != errno.ENOMEM
