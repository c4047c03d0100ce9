"""The way into an event loop for threads that have none: calls that block until a coroutine has ended in the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, ParamSpec, TypeVar

from remotemedia.core.exceptions import PipelineError, PoolClosed
from remotemedia.workers.vigil import result_of, wait_for

_logger = logging.getLogger("remotemedia.portal")

_PATIENCE_S = 1.0
"""How long a loop may take to stop before what must not wait for it is done without it."""

P = ParamSpec("P")
T = TypeVar("T")


def refuse_running_loop(blocking: str, instead: str) -> None:
    """Raise PipelineError if an event loop runs in this thread: `blocking` would stop it, `instead` does not."""
    if asyncio._get_running_loop() is not None:
        raise PipelineError(f"{blocking} blocks, and an event loop is running in this thread; write `{instead}` there")


class Call(Generic[T]):
    """A coroutine that runs in the loop on behalf of another thread."""

    __slots__ = ("_make", "_task", "ended")

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._task: asyncio.Task[T] | None = None
        self.ended: Future[T] = Future()

    def begin(self) -> None:
        """In the loop."""
        try:
            self._task = asyncio.get_running_loop().create_task(self._make())
        except BaseException as error:  # noqa: BLE001 - the caller's
            self.fail(error)
        else:
            self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        """In the loop."""
        if self._task is not None:
            self._task.cancel()

    def fail(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def _settle(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if task.cancelled():
            self.fail(PoolClosed("the event loop of the pool was stopped while this call waited"))
        elif (error := task.exception()) is not None:
            self.fail(error)
        elif not self.ended.done():
            self.ended.set_result(task.result())


class Portal:
    """The way into `loop` from other threads. `loop` must be running, or this thread waits until it does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.impatient = False
        """Somebody was interrupted while he waited for the end of a call that he had cancelled."""
        self._owner_pid = os.getpid()

    @property
    def is_foreign(self) -> bool:
        """Whether this is the copy in a forked process, where nobody runs the loop."""
        return os.getpid() != self._owner_pid

    def refuse_foreign(self) -> None:
        """Raise PoolClosed in the copy of a forked process."""
        if self.is_foreign:
            raise PoolClosed("the pool belongs to the process that started it; this is a forked copy")

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `await function(...)` in the loop.

        What interrupts this thread while it waits (KeyboardInterrupt) cancels the coroutine and comes out when that has
        ended; if there is a second one, at once. Raises PoolClosed if the loop is closed, or this is a forked copy.
        """
        call = self.begin(lambda: function(*args, **kwargs))
        try:
            return result_of(call.ended)
        except BaseException:
            self.end(call)
            raise
        finally:
            del call  # who keeps the exception must not keep with it what the call had

    def begin(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Call[T]:
        """Start the coroutine that `make` gives, and return without waiting. Raises PoolClosed."""
        call = Call(make)
        self._post(call)
        return call

    def _post(self, call: Call[Any]) -> None:
        self.wake(call.begin)

    def end(self, call: Call[Any]) -> None:
        """Cancel it, and wait until it has ended. Nothing happens if it has. In the loop itself: without waiting."""
        if call.ended.done() or self.is_foreign:
            return
        with contextlib.suppress(PoolClosed):
            self.wake(call.cancel)
            if asyncio._get_running_loop() is not self.loop:  # where the garbage collector may have brought us
                try:
                    wait_for(call.ended)
                except BaseException:
                    self.impatient = True
                    raise

    def wake(self, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback` soon in the loop. Raises PoolClosed if it is closed, or this is a forked copy."""
        self.refuse_foreign()
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError as error:
            raise PoolClosed("the pool is closed: its event loop has ended") from error

    def close(self, last: Callable[[], None]) -> None:
        """Call `last()`, without the loop if need be."""
        last()


class LoopThread(Portal):
    """A portal to a loop that runs in a thread of its own, from now until `close`.

    The kernel ties the death signal of workers to the thread that starts them: this one lives as long as the pool,
    whatever becomes of the thread that made it. It is a daemon: an interpreter that ends does not wait for it.
    """

    def __init__(self, name: str) -> None:
        """Raises PipelineError if there can be no further thread."""
        super().__init__(asyncio.new_event_loop())
        self._stopping = False
        self._out_of_loop = threading.Event()
        self._last: list[Callable[[], None]] = []
        self._calls: set[Call[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.loop.close()
            raise PipelineError(f"the thread for the pool's event loop could not be started: {error}") from error

    def _post(self, call: Call[Any]) -> None:
        self._calls.add(call)
        call.ended.add_done_callback(lambda _: self._calls.discard(call))
        try:
            super()._post(call)
        except PoolClosed as error:
            call.fail(error)
            raise
        if self._out_of_loop.is_set():  # too late for the loop, but maybe for the thread's last look as well
            call.fail(PoolClosed("the pool was closed"))

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:  # at its end it cancels all tasks
                runner.get_loop()
                while not self._stopping:
                    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # goes to who waits for the task
                        self.loop.run_forever()
        except RuntimeError as error:  # an interpreter that ends starts no threads, and the runner wants one
            _logger.debug("the pool's event loop ended with %r", error)
        finally:
            self._out_of_loop.set()
            self._do_last()
            for call in list(self._calls):
                call.fail(PoolClosed("the pool was closed"))

    def _stop(self) -> None:
        self._stopping = True
        self.loop.stop()

    def _do_last(self) -> None:
        with contextlib.suppress(IndexError):  # somebody else was quicker
            while True:
                self._last.pop()()

    def close(self, last: Callable[[], None] = lambda: None) -> None:
        """End the loop, cancelling what runs in it, and call `last()` in its thread. Returns when the thread has ended.

        If the loop does not end, because a node in this process hangs, `last()` is called here. May be called in the
        loop's thread, by the garbage collector: then all this happens later.
        """
        self._last.append(last)
        with contextlib.suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self._stop)
        if threading.current_thread() is self._thread:
            return
        if self._out_of_loop.wait(_PATIENCE_S):
            self._thread.join()
        self._do_last()


__all__ = ["Call", "LoopThread", "Portal", "refuse_running_loop"]
