"""What a contestant is: a chain of stage processes between a producer and a sink, both in the calling process.

The interface is asynchronous because some contestants live in an event loop. Those that block simply block: awaiting a
coroutine that never suspends costs about 0.1 µs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence

from benchmarks.work import Array, Work


class Contestant(ABC):
    """One way to move frames through stage processes. An output is valid until the next one is asked for."""

    @abstractmethod
    async def start(self, stages: int, work: Work, size: int) -> None:
        """Start `stages` processes that each do `work` with uint8 frames of `size` bytes; return when they are up."""

    @abstractmethod
    async def roundtrip(self, frame: Array) -> Array:
        """Send one frame through the chain and return what comes out."""

    @abstractmethod
    def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        """Outputs in order, with at most `window` frames in flight; ends when all have come back."""

    @abstractmethod
    async def stop(self) -> None:
        """End the processes and give back what they used."""

    def stage_pids(self) -> Sequence[int]:
        """Process ids of the stages, in their order: those that multiprocessing knows. Override it for others."""
        import multiprocessing  # here, so that workers, which import this module, need not

        children = sorted(multiprocessing.active_children(), key=lambda child: child.pid or 0)
        return [child.pid for child in children if child.pid is not None]


class BlockingContestant(Contestant):
    """A contestant with a blocking `send` and `receive`."""

    @abstractmethod
    def send(self, frame: Array) -> None: ...

    @abstractmethod
    def receive(self) -> Array: ...

    async def roundtrip(self, frame: Array) -> Array:
        self.send(frame)
        return self.receive()

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        in_flight = 0
        for frame in frames:
            if in_flight == window:
                yield self.receive()
                in_flight -= 1
            self.send(frame)
            in_flight += 1
        for _ in range(in_flight):
            yield self.receive()


class AwaitedContestant(Contestant):
    """A contestant whose `send` gives what the output is awaited by."""

    @abstractmethod
    def send(self, frame: Array) -> Awaitable[Array]: ...

    async def roundtrip(self, frame: Array) -> Array:
        return await self.send(frame)

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        under_way: deque[Awaitable[Array]] = deque()
        for frame in frames:
            if len(under_way) == window:
                yield await under_way.popleft()
            under_way.append(self.send(frame))
        while under_way:
            yield await under_way.popleft()
