"""Waiting in the main thread without losing an interrupt.

A lock that is waited for is left by KeyboardInterrupt only if the signal interrupts that very wait. One that the kernel
gives to another thread, or that comes in the moment before the wait begins (which is long when another thread has to be
let run first), is noted by the interpreter, and then nobody wakes the main thread to act on it. What does wake it,
always, is a byte in the descriptor of `signal.set_wakeup_fd`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from concurrent.futures import Future
from typing import Any, Self, TypeVar

SOON_S = 0.05
"""What ends within this time is waited for in the ordinary, cheaper way: an interrupt comes that much later at most."""

_READ_BYTES = 4096

T = TypeVar("T")


def is_interruptible() -> bool:
    """Whether signals interrupt this thread: it is the main one."""
    return threading.current_thread() is threading.main_thread()


class Vigil:
    """In the main thread: `sleep` returns when `ring` was called, by any thread, or raises what a signal raises.

    Whoever had the wake-up descriptor of signals before gets what comes meanwhile. Use as context manager. Raises
    OSError if there is no descriptor free.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        own, self._writer = self._writer, -1
        try:
            present = signal.set_wakeup_fd(-1)
            with contextlib.suppress(OSError, ValueError):  # its owner has closed it
                signal.set_wakeup_fd(self._before if present == own else present)
        finally:
            with self._lock:  # nobody rings at a descriptor that is somebody else's by then
                os.close(own)
            os.close(self._reader)

    def ring(self) -> None:
        """End the present sleep, or the next one. Nothing happens when the vigil is over."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._writer >= 0:
                os.write(self._writer, b"\0")

    def sleep(self) -> None:
        """Wait for `ring` or a signal."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.poll()
        came = os.read(self._reader, _READ_BYTES).replace(b"\0", b"")
        if came and self._before >= 0:
            with contextlib.suppress(OSError):
                os.write(self._before, came)


def begin_vigil() -> Vigil | None:
    """None: no descriptor is free."""
    try:
        return Vigil()
    except OSError:
        return None


def result_of(future: Future[T]) -> T:
    """`future.result()`; in the main thread an interrupt comes out of it for certain."""
    wait_for(future)
    return future.result()


def wait_for(future: Future[Any]) -> None:
    """Returns when it is done, or raises what a signal raises."""
    news = threading.Lock()
    news.acquire()
    future.add_done_callback(lambda _: news.release())
    if news.acquire(timeout=SOON_S if is_interruptible() else -1):
        return
    vigil = begin_vigil()
    if vigil is None:
        news.acquire()
        return
    with vigil:
        future.add_done_callback(lambda _: vigil.ring())
        while not future.done():
            vigil.sleep()
