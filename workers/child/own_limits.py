"""What a worker takes upon itself before it imports anything: processors, niceness, to die first for want of memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

_OOM_SCORE = 300
"""Added to the score by which the kernel chooses whom to kill for memory: a worker can be replaced, its host cannot."""
_MOST = 1000
_SCORE_FILE = "/proc/self/oom_score_adj"


def apply(nice: int | None, processors: Sequence[int] | None) -> str | None:
    """Apply the limits to this process; gives what could not be done, as text. Nothing is raised: only later is there
    somebody to tell.
    """
    # If it is not there, or not ours to write, the kernel chooses as it always does. No pathlib: that costs 3 ms.
    with suppress(OSError, ValueError), open(_SCORE_FILE, "r+") as file:  # noqa: PTH123
        score = int(file.read())
        file.write(str(min(score + _OOM_SCORE, _MOST)))
    try:
        if processors is not None:
            os.sched_setaffinity(0, processors)
    except OSError as error:
        return f"cpu_affinity={tuple(processors or ())}: {error.strerror}"
    try:
        if nice is not None:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        return f"nice={nice}: {error.strerror}"
    return None
