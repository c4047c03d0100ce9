"""Removing what dead processes left in iceoryx2. For the coordinator alone: nobody else cleans up."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import iceoryx2 as iox

from remotemedia.ipc.participant import Participant

_SIZING_S = 0.005
"""A living process needs microseconds between making a segment and giving it its size."""
_CLEANUP_S = 1
_SHM_DIR = Path("/dev/shm")  # noqa: S108 - POSIX shared memory on Linux


def reap(participant: Participant) -> None:
    """Remove the ports and segments of participants that have died; frames that living ones hold stay valid.

    Their processes must have been waited for: zombies count as alive. Blocks, without the GIL, for some milliseconds.

    Segments of size 0 go first: who made them was killed before giving them their size, and iceoryx2 would wait for
    that for ever.
    """
    empty = _empty_segments(participant.prefix)
    if empty:
        time.sleep(_SIZING_S)
        for path in empty & _empty_segments(participant.prefix):
            with suppress(OSError):
                path.unlink()
    with suppress(iox.NodeListFailure):
        for found in iox.Node.list(iox.ServiceType.Ipc, participant.config):
            if isinstance(found, iox.NodeState.Dead):
                with suppress(iox.NodeCleanupFailure):  # half made: it had no ports yet, and goes with the pool
                    found[0].blocking_remove_stale_resources(iox.Duration.from_secs(_CLEANUP_S))


def _empty_segments(prefix: str) -> set[Path]:
    found = set()
    for path in _SHM_DIR.glob(f"{prefix}*"):
        with suppress(OSError):  # it has just been removed
            if path.is_file() and path.stat().st_size == 0:
                found.add(path)
    return found
