"""The files behind other processes' slots: which file an address lies in, and such a file as memory of this process.

iceoryx2 shows a frame to the subscribers of its service only. Its memory is a file in /dev/shm, though, which any
process of the same user may map; so a frame can be found by the name of that file and its place in it
(remotemedia.ipc.references).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from remotemedia.ipc.shm_memory import address_of
from remotemedia.ipc.wire import USER_HEADER_BYTES

_SHM_DIR = "/dev/shm/"  # noqa: S108 - POSIX shared memory on Linux
_MOST_MAPPED = 2
"""Segments of one sender that stay mapped: the present one, and one that it has outgrown."""
_header_sequence = ctypes.c_uint64.from_address


class Range(NamedTuple):
    """A stretch of this process's memory that is a file: the file's name, and where in the file it begins."""

    start: int
    end: int
    name: str
    offset: int


class Segment:
    """A segment of a sender as read-only memory. The mapping goes with the last lease that holds this."""

    __slots__ = ("_keep", "address", "name", "nbytes")

    def __init__(self, name: str, address: int, nbytes: int, keep: Any) -> None:
        """`keep`: what must live as long as this, so that the memory stays mapped."""
        self.name, self.address, self.nbytes, self._keep = name, address, nbytes, keep

    def shows(self, header_at: int, sequence: int) -> bool:
        """Whether the header at that place is the one of this frame."""
        if header_at + USER_HEADER_BYTES > self.nbytes:
            return False
        return _header_sequence(self.address + header_at).value == sequence

    def header(self, header_at: int) -> bytes:
        """The header at that place; empty if there is none."""
        if header_at + USER_HEADER_BYTES > self.nbytes:
            return b""
        return ctypes.string_at(self.address + header_at, USER_HEADER_BYTES)


def map_segment(name: str) -> Segment | None:
    """Map a file of /dev/shm; None if there is none of this name any more."""
    if "/" in name:
        return None
    try:
        fd = os.open(_SHM_DIR + name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        nbytes = os.fstat(fd).st_size
        memory = np.frombuffer(mmap.mmap(fd, nbytes, mmap.MAP_SHARED, mmap.PROT_READ), np.uint8)
    except (OSError, ValueError):  # no memory for the mapping, or nothing in the file
        return None
    finally:
        os.close(fd)
    return Segment(name, address_of(memory), nbytes, memory)


def range_around(address: int) -> Range | None:
    """The file in /dev/shm that lies at an address of this process; None if there is none, or it has been removed."""
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - not every worker needs pathlib
        for line in maps:
            place, _, offset, _, _, *path = line.split(maxsplit=5)
            start, _, end = place.partition("-")
            if int(start, 16) <= address < int(end, 16):
                name = path[0].strip() if path else ""
                if not name.startswith(_SHM_DIR) or name.endswith(" (deleted)"):
                    return None
                return Range(int(start, 16), int(end, 16), name.removeprefix(_SHM_DIR), int(offset, 16))
    return None


class Segments:
    """The segments that this process has mapped by their names, and where those lie that iceoryx2 has mapped for it.

    Belongs to one thread; segments may die in any.
    """

    def __init__(self) -> None:
        self._mapped: dict[int, tuple[int, OrderedDict[str, Segment]]] = {}  # origin → its generation, by name
        self._ranges: list[Range] = []

    def open(self, name: str, origin: int, generation: int) -> Segment | None:
        """The segment of this name; None if it cannot be mapped any more. What one generation of an origin had is
        unmapped when one of the next is opened.
        """
        newest, segments = self._mapped.get(origin, (-1, None))
        if segments is None or generation > newest:
            segments = OrderedDict()
            self._mapped[origin] = generation, segments
        segment = segments.get(name)
        if segment is None:
            segment = map_segment(name)
            if segment is not None and generation >= newest:
                segments[name] = segment
                if len(segments) > _MOST_MAPPED:
                    segments.popitem(last=False)
        return segment

    def close(self) -> None:
        """Keep none mapped but for leases."""
        self._mapped.clear()
        self._ranges.clear()

    def find(self, header: int, origin: int, generation: int) -> tuple[str, int] | None:
        """The name of the segment that a frame with its header at this address lies in, and the header's place in it.

        None if there is no such file any more. What was known of an address may be out of date, because mappings come
        and go: so the header is compared with the one in the file.
        """
        for is_certain in (False, True):
            found = next((known for known in self._ranges if known.start <= header < known.end), None)
            if found is None and is_certain:
                found = range_around(header)
                if found is not None:
                    self._ranges.append(found)
            if found is not None:
                at = header - found.start + found.offset
                segment = self.open(found.name, origin, generation)
                if segment is not None and segment.header(at) == ctypes.string_at(header, USER_HEADER_BYTES):
                    return found.name, at
            self._ranges.clear()  # seldom: one stays for each segment of a sender
        return None
