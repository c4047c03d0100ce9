"""The nodes that do the work in remotemedia's workers. A module of its own: a worker imports what its node's module
imports, and needs nothing of what starts a pool.
"""

from __future__ import annotations

import numpy as np

from benchmarks.work import Array
from remotemedia import Node


class AddOne(Node):
    def process(self, frame: Array) -> Array:
        out = self.empty_like(frame)
        np.add(frame, 1, out=out)
        return out


class AddOneFresh(Node):
    def process(self, frame: Array) -> Array:
        return np.add(frame, 1)


class PassThrough(Node):
    def process(self, frame: Array) -> Array:
        return frame
