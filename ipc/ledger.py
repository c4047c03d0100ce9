"""The ledger: one small shared page range per pool with every counter that two processes share.

A memfd made by the coordinator and inherited by the workers, so it survives the death of any of them. It holds unsigned
64-bit words, each written by one process at a time. The layout is computed once by the coordinator (`LedgerLayout`),
everybody else is told offsets.
"""

from __future__ import annotations

import mmap
import os

WORD = 8
LINE = 8
"""Words per cache line: regions start on a line of their own, so that processes do not disturb each other."""


class LedgerLayout:
    """Hands out regions of the ledger, in words."""

    def __init__(self) -> None:
        self.words = 0

    def region(self, words: int) -> int:
        """Offset of a new region of at least `words` words."""
        offset = self.words
        self.words += -(-words // LINE) * LINE
        return offset


class Ledger:
    """The mapped ledger. `fd` belongs to the ledger and is closed with it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, layout: LedgerLayout) -> Ledger:
        """A new, zeroed ledger, its pages already backed by memory."""
        fd = os.memfd_create("remotemedia-ledger", os.MFD_CLOEXEC)
        try:
            size = -(-layout.words * WORD // mmap.PAGESIZE) * mmap.PAGESIZE
            os.posix_fallocate(fd, 0, size)
            return cls(fd)
        except OSError:  # no memory, or no descriptor for the mapping, which has one of its own
            os.close(fd)
            raise

    def region(self, offset: int, words: int) -> memoryview:
        """A view of `words` words from `offset`."""
        return self._words[offset : offset + words]

    def close(self) -> None:
        """Close the descriptor. The mapping goes with the last region that somebody holds."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
