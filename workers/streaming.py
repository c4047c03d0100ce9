"""What a node with `is_streaming = True` iterates over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from remotemedia.ipc.channel import END, FAILED, LAST, MARK, OPEN, Frame

if TYPE_CHECKING:
    from remotemedia.workers.stage import Stage


class Inputs:
    """The values of one stream, and the number to which the node's outputs belong.

    That is the number of the input that the node was given last, until it asks for another one: then the number is
    finished, and what the node yields before it has got the next (after a time-out of its own, say) belongs to that
    one, and waits until it is there. The node may ask from any task, and may cancel asking: nothing is lost.
    """

    def __init__(self, stage: Stage) -> None:
        import asyncio  # only here: a worker whose node is not async does without it

        self._stage = stage
        self._lock = asyncio.Lock()
        self._frame: Frame | None = None
        self._given = False
        self._unfinished: int | None = None
        """The number whose end is still to be told to the receivers."""
        self.number = 0
        self.is_open = False
        """Whether there is an input, or the end of the stream, for outputs to belong to."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._given:
            self._close()
        await self.arrive()
        if self._frame is None:
            raise StopAsyncIteration
        self._given = True
        stage = self._stage
        stage.board.begin(self.number)
        stage.board.stats.record(0)
        return self._frame.value

    def _close(self) -> None:
        """The node is done with the last input when it asks for the next."""
        assert self._frame is not None
        if self._frame.flags & LAST:
            self._unfinished = self.number
        self._frame = None
        self._given = self.is_open = False
        self._stage.board.end()

    async def arrive(self) -> None:
        """Returns when there is something for outputs to belong to."""
        async with self._lock:
            while not self.is_open:
                await self._finish_number()
                await self._open(await self._stage.next_frame())

    async def _finish_number(self) -> None:
        if self._unfinished is not None:
            await self._stage._send_mark(self._unfinished, LAST)
            self._unfinished = None

    async def _open(self, frame: Frame) -> None:
        self._stage.taken = frame.number
        self._stage._stamp.session = frame.session
        if frame.flags & (FAILED | OPEN):
            await self._stage.pass_on(frame)
            return
        if not frame.flags & END:
            if frame.value is MARK:
                if frame.flags & LAST:  # not on the mark of one of several inputs
                    self._unfinished = frame.number
                return
            self._frame = frame
        self.number = frame.number
        self.is_open = True
