"""The seam to the failpoints of remotemedia.testing.faults: without its environment variable, nothing is imported, and
the frame loop has no code of it at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple


class Failpoints(NamedTuple):
    """The failpoints of one worker, or around it."""

    reach: Callable[[str], object]
    """To be called with the name of a point when the process is there."""
    instrument: Callable[[Any], object]
    """To be called with the stage before it runs, for the points in its loop."""


def _nothing(_: Any) -> None:
    pass


def failpoints_of(node: str, worker_id: int, generation: int) -> Failpoints:
    """Those that the environment asks for. Raises ConfigurationError if it cannot be understood."""
    if "REMOTEMEDIA_FAULTS" in os.environ:
        from remotemedia.testing.faults import of_worker
        from remotemedia.testing.faulty_stage import instrument

        faults = of_worker(node, worker_id, generation)
        if faults is not None:
            return Failpoints(faults.reach, lambda stage: instrument(stage, faults))
    return Failpoints(_nothing, _nothing)
