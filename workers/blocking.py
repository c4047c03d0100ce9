"""The blocking side of WorkerPool: the same pool for programs and threads without an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import PipelineError
from remotemedia.workers.crossing import Crossing
from remotemedia.workers.portal import LoopThread, Portal, refuse_running_loop
from remotemedia.workers.serving import StatusPage
from remotemedia.workers.vigil import result_of

_MOST_AHEAD = 16
"""Items, and outputs, that may lie between the caller's thread and the loop; fewer if `queue_frames` is less."""

P = ParamSpec("P")
T = TypeVar("T")


class Blocking(ABC):
    """What blocks instead of awaiting.

    `with` gives the pool an event loop in a thread of its own. `run`, `map`, `call` and `close` then work in every
    thread; so they do with a pool that was started by `async with`, in every thread but its loop's own.
    """

    _config: PoolConfig
    _portal: Portal | None = None

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def process(self, value: Any) -> Any: ...

    @abstractmethod
    def stream(
        self, source: Iterable[Any] | AsyncIterable[Any] | None = None, *, copy: bool = False
    ) -> AsyncGenerator[Any, None]: ...

    @abstractmethod
    async def serve_status(
        self, port: int = 0, host: str = "127.0.0.1", *, allowed_hosts: Sequence[str] = ()
    ) -> StatusPage: ...

    @abstractmethod
    async def aclose(self) -> None: ...

    @abstractmethod
    def _give_up(self) -> None:
        """Give back at once what `aclose` has left."""

    def __enter__(self) -> Self:
        refuse_running_loop("`with WorkerPool(...)`", "async with WorkerPool(...) as pool:")
        if self._portal is not None:
            raise PipelineError("this pool was started before; make a new one")
        self._portal = LoopThread("remotemedia-pool")
        try:
            self._portal.call(self.start)
        except BaseException:
            self._leave(self._portal)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, value: Any) -> Any:
        """Send one value through: its output, a list if there are several, None if there is none.

        Arrays in the result are read-only views of shared memory. May be called by many threads at once. Raises
        NodeProcessError, WorkerDied, PoolClosed; PipelineError where an event loop is running.
        """
        return self._entrance("pool.run(value)", "await pool.process(value)").call(self.process, value)

    def map(
        self, source: Iterable[Any] | AsyncIterable[Any] | None = None, *, copy: bool = False
    ) -> Generator[Any, None, None]:
        """All outputs for all items of `source`, in order, with backpressure; None: what the pipeline's own sources
        make.

        An iterable is iterated in the thread that takes the outputs, an async one in the pool's. At the end of the
        source every node's `flush()` runs. `copy`: the arrays are to be the caller's own. Leaving the loop that takes
        the outputs stops it all; so does `close()` of the iterator. Raises as `run` does, and what the source raises.
        """
        portal = self._entrance("pool.map(source)", "async for output in pool.stream(source):")
        most = min(self._config.channel.queue_frames, _MOST_AHEAD)
        return Crossing(portal, lambda items: self.stream(items, copy=copy), most).outputs(source)

    def show_status(
        self, port: int = 0, host: str = "127.0.0.1", *, allowed_hosts: Sequence[str] = ()
    ) -> StatusPage:
        """The same as `await pool.serve_status(...)`: a live page at the `url` of what is returned, until its `close()`
        or the pool's end.
        """
        portal = self._entrance("pool.show_status(port)", "await pool.serve_status(port)")
        return portal.call(self.serve_status, port, host, allowed_hosts=allowed_hosts)

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`await function(...)` in the pool's loop, for every method that is a coroutine: `pool.call(pool.process, 1)`.

        Raises what it raises; PoolClosed, and PipelineError where an event loop is running.
        """
        return self._entrance("pool.call(function, ...)", "await function(...)").call(function, *args, **kwargs)

    def close(self) -> None:
        """Stop the workers, run every node's `cleanup()`, remove everything. Idempotent.

        If this thread is interrupted meanwhile (Ctrl-C a second time), workers that still run are killed.
        """
        portal = self._portal
        if portal is None or portal.is_foreign:
            return  # not started, or a forked copy: it is not ours to close
        refuse_running_loop("pool.close()", "await pool.aclose()")
        try:
            if not portal.impatient and not portal.loop.is_closed():
                result_of(portal.begin(self.aclose).ended)  # what interrupts this does not wait for its end
        finally:
            self._leave(portal)

    def _leave(self, portal: Portal) -> None:
        """The end, orderly or cut short: nothing of the pool is left, nor the thread of its own."""
        self._give_up()
        if isinstance(portal, LoopThread):
            portal.close()

    def _entrance(self, blocking: str, instead: str) -> Portal:
        refuse_running_loop(blocking, instead)
        if self._portal is None:
            raise PipelineError("the pool is not started: use `with WorkerPool(...) as pool:`")
        self._portal.refuse_foreign()
        return self._portal
