"""No worker outlives its coordinator, nor does its fork server.

First line: the boot pipe. Its other end is closed by the kernel when the coordinator dies, in whatever way; the control
thread sees that, asks the stage to stop, and kills the process group when the time for `cleanup()` is over.

Second line, for a node that never gives the GIL back: the kernel itself sends a signal at the death of the coordinator
(prctl(2) PR_SET_PDEATHSIG), whose handler is libc's `alarm`: it is called with the signal's number as its argument,
SIGHUP is 1, so SIGALRM ends the process one second later. No Python runs for this. A worker that came from a fork
server gets the signal at the death of that server, which ends with the coordinator by the same two means.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading

GRACE_S = 1.0
"""Time for `cleanup()` after the coordinator has died."""
_LAST_RESORT_S = 1.5
"""When the kernel ends a worker whose `cleanup()` does not give the GIL back; later than GRACE_S, because a signal ends
the worker alone, and not what it has started."""

_PR_SET_PDEATHSIG = 1


_libc = ctypes.CDLL(None)
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p


def arm(parent_pid: int) -> None:
    """Set up the second line. Exits at once if the parent (coordinator, or fork server) is dead already."""
    _libc.signal(int(signal.SIGHUP), ctypes.cast(_libc.alarm, ctypes.c_void_p))
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGHUP), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def follow(coordinator_pid: int) -> None:
    """The second line of a fork server: exit when the coordinator dies, at once if it is dead already.

    The signal also comes at the end of the thread that started this process, which means nothing here.
    """

    def look(*_: object) -> None:
        if os.getppid() != coordinator_pid:
            os._exit(0)

    signal.signal(signal.SIGHUP, look)
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGHUP), 0, 0, 0)
    look()


def kill_group_after_grace(cleaned_up: threading.Event) -> None:
    """Let the main thread clean up; then kill this process and everything that it started."""
    _libc.signal(int(signal.SIGHUP), int(signal.SIG_IGN))  # the second line would end this process before its helpers
    signal.setitimer(signal.ITIMER_REAL, _LAST_RESORT_S)
    cleaned_up.wait(GRACE_S)
    os.killpg(os.getpid(), signal.SIGKILL)
