"""What the times at which results came say about a kill in between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from benchmarks.summary import median

WINDOW_S = 0.05
"""Rates are taken over this long."""
FULL_RATE = 0.8
"""This part of the usual rate counts as the full one: between windows of an undisturbed stream it changes as much."""
WARM_UP_S = 0.1


def recovery_of(times: Sequence[float], killed: float, in_flight: int) -> dict[str, float]:
    """Figures of one recovery, from the times of all results and that of the kill, in seconds.

    {"next_result_ms": from the kill to the first result after the standstill, "full_rate_ms": from the kill to the
    beginning of the first WINDOW_S in which results came at FULL_RATE of the median before, "rate_before": results/s}.
    What had passed the dead stage comes out right after the kill, so the standstill is the longest pause among the
    first results, as many as may have been `in_flight`. Raises ValueError if the rate never came back.
    """
    before = [at for at in times if WARM_UP_S <= at <= killed]
    after = [at for at in times if at > killed]
    usual = median(_counts(before))
    points = [killed, *after][: in_flight + 2]
    if len(points) < 2:
        raise ValueError("no result came after the kill")
    resumed = max(itertools.pairwise(points), key=lambda pause: pause[1] - pause[0])[1]
    enough = max(2, math.ceil(FULL_RATE * usual))
    for first in range(after.index(resumed), len(after) - enough + 1):
        if after[first + enough - 1] - after[first] <= WINDOW_S:
            return {
                "next_result_ms": 1e3 * (resumed - killed),
                "full_rate_ms": 1e3 * (after[first] - killed),
                "rate_before": usual / WINDOW_S,
            }
    raise ValueError(f"{len(after)} results after the kill, never at {FULL_RATE:.0%} of the rate before")


def _counts(times: Sequence[float]) -> list[int]:
    """How many results came in each whole window."""
    if not times:
        raise ValueError("no result came before the kill")
    windows = int((times[-1] - times[0]) / WINDOW_S)
    if windows == 0:
        raise ValueError(f"results came for {times[-1] - times[0]:.3f} s before the kill; {WINDOW_S} are needed")
    counts = [0] * windows
    for at in times:
        window = int((at - times[0]) / WINDOW_S)
        if window < windows:
            counts[window] += 1
    return counts
