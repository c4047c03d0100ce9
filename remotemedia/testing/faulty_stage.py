"""The failpoints of the frame loop, set around a stage's ends before it runs: the loop itself has no code for them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from remotemedia.testing.faults import Faults

_GARBAGE = 0xA5


def instrument(stage: Any, faults: Faults) -> None:
    """Make `stage` (remotemedia.workers.stage.Stage), which has not run yet, reach the points of `faults`.

    Replaces methods of its inbox, sender, receivers and node by ones that reach the points and do the same; those whose
    points nobody wants stay as they are.
    """
    points = faults.points
    if "loop.received" in points:
        _after_frame(stage.inbox, faults)
    if "loop.borrowed" in points:
        _around(stage.node, "process", before=lambda: faults.reach("loop.borrowed"))
    if "loop.processing" in points:
        _around(stage.sender, "pack", before=lambda: faults.reach("loop.processing"))
    if points & {"loop.loaned", "loop.half_written"}:
        _around_loan(stage.sender.packer, faults)
    if "loop.sent" in points:
        _around(stage.sender, "send", after=lambda: faults.reach("loop.sent"))
    if "loop.acknowledged" in points:
        for receiver in stage.inbox.receivers:
            _around(receiver, "acknowledge", after=lambda: faults.reach("loop.acknowledged"))
    if "loop.snapshot" in points:
        _around(stage.node, "snapshot_state", after=lambda: faults.reach("loop.snapshot"))
    if "loop.draining" in points:
        _around(stage.node, "flush", before=lambda: faults.reach("loop.draining"))


def _nothing() -> None:
    pass


def _around(
    owner: Any, method: str, before: Callable[[], None] = _nothing, after: Callable[[], None] = _nothing
) -> None:
    original = getattr(owner, method)

    @functools.wraps(original)
    def around(*args: Any) -> Any:
        before()
        result = original(*args)
        after()
        return result

    setattr(owner, method, around)


def _after_frame(inbox: Any, faults: Faults) -> None:
    take = inbox.take

    def take_and_reach() -> Any:
        frame = take()
        if frame is not None:
            faults.reach("loop.received")
        return frame

    inbox.take = take_and_reach


def _around_loan(packer: Any, faults: Faults) -> None:
    """Every slot, for a result that is copied as well as for an array of `empty()`, comes from the packer's `loan`."""
    loan = packer.loan

    def loan_and_reach(nbytes: int) -> Any:
        sample = loan(nbytes)
        if nbytes:  # marks have no payload to be written
            faults.reach("loop.loaned")
            due = faults.due("loop.half_written")
            if due:
                ctypes.memset(sample.payload_ptr, _GARBAGE, (nbytes + 1) // 2)
            for fault in due:
                fault.act()
        return sample

    packer.loan = loan_and_reach
