"""Placement "same_core": the coordinator's loop and its workers on one processor.

With one frame in flight only one of the processes has work at a time. On one processor the next one starts when the one
before falls asleep, in some microseconds; on another one that processor has to be woken from its halt first.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")
_PROCESSOR = 36
"""Field of /proc/<pid>/stat behind the name: the processor that the thread ran on last."""


class SameCore:
    """Keeps a thread on the processor that it runs on now, and gives it back what it was allowed before.

    Make it in that thread. Several may hold the same thread; the last one gives it back.
    """

    def __init__(self) -> None:
        self._thread = threading.get_native_id()
        self.processor = _present_processor()
        self._holds = False

    def hold(self) -> None:
        """From now on the thread stays there. Threads that it starts inherit that."""
        with _lock:
            if self._holds:
                return
            self._holds = True
            hold = _holds.get(self._thread)
            if hold is None:
                hold = _holds[self._thread] = _Hold(self._thread, self.processor)
            hold.count += 1

    def give_back(self) -> None:
        """The thread may run where it could before; so may the threads that it has started meanwhile. From any thread.
        Idempotent.
        """
        with _lock:
            if not self._holds:
                return
            self._holds = False
            hold = _holds[self._thread]
            hold.count -= 1
            if not hold.count:
                del _holds[self._thread]
                hold.end()


class _Hold:
    """One thread on one processor."""

    def __init__(self, thread: int, processor: int) -> None:
        self.processor, self.count = processor, 0
        self._thread = thread
        self._before = os.sched_getaffinity(thread)
        self._others = set(_threads())
        os.sched_setaffinity(thread, {processor})

    def end(self) -> None:
        for thread in _threads():
            with suppress(ProcessLookupError):  # it has just ended
                is_heir = thread not in self._others and os.sched_getaffinity(thread) == {self.processor}
                if thread == self._thread or is_heir:
                    os.sched_setaffinity(thread, self._before)


_lock = threading.RLock()
_holds: dict[int, _Hold] = {}
"""By the thread's native id."""


def _threads() -> list[int]:
    """Of this process, so that no number is taken for a thread's that is meanwhile another process's."""
    return [int(entry.name) for entry in _THREADS.iterdir()]


def _present_processor() -> int:
    stat = Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()
    processor, allowed = int(stat[_PROCESSOR]), os.sched_getaffinity(0)
    return processor if processor in allowed else min(allowed)
