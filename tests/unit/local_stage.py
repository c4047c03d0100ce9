"""One doorbell, and channels within this process: enough to run stages and the exchange without any worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from remotemedia.config import ChannelConfig, OnError
from remotemedia.core.node import Node
from remotemedia.ipc.channel import LAST, MARK, Frame, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, OwnDoorbell, new_doorbell_fd
from remotemedia.ipc.ledger import Ledger, LedgerLayout
from remotemedia.ipc.local_channel import LocalSender
from remotemedia.workers.board import BOARD_WORDS, Board
from remotemedia.workers.loop_waiter import LoopWaiter
from remotemedia.workers.stage import Inbox, Stage, Stopped

Sessions: TypeAlias = Sequence[tuple[int, str]]


class Ground:
    """What all channels of one test share."""

    def __init__(self, on_ring: Callable[[], None] | None = None) -> None:
        layout = LedgerLayout()
        word, board = layout.region(1), layout.region(BOARD_WORDS)
        ledger = Ledger.create(layout)
        self.bell = OwnDoorbell(new_doorbell_fd(), ledger.region(word, 1))
        self.board = Board(ledger, board)
        ledger.close()
        self.waiter = self.bell.waiter = LoopWaiter(self.bell, on_ring or self._raise_if_stopped)

    def _raise_if_stopped(self) -> None:
        if self.board.stop_requested:
            raise Stopped

    def channel(self, receivers: int = 1, **settings: int) -> LocalSender:
        return LocalSender("local", receivers, ChannelConfig(**settings), self.bell)

    def close(self) -> None:
        self.waiter.close()
        os.close(self.bell.fd)
        self.bell.mute()


class RunningStage:
    """A stage with its inputs and its output in the hands of a test."""

    def __init__(
        self,
        ground: Ground,
        node: Node,
        inputs: int,
        on_error: OnError,
        sessions: Sessions,
        spin_us: int,
        **settings: int,
    ) -> None:
        self.ground = ground
        self.frame_errors: list[tuple[OnError, int, BaseException]] = []
        self.inputs = [ground.channel(**settings) for _ in range(inputs)]
        self.output = ground.channel(**settings)
        self.inbox = Inbox([sender.receivers[0] for sender in self.inputs])
        self.stage = Stage(
            node,
            self.inbox,
            self.output,
            ground.bell,
            ground.board,
            on_error=on_error,
            spin_us=spin_us,
            sessions=sessions,
            on_frame_error=lambda *what: self.frame_errors.append(what),
        )
        self.task = asyncio.ensure_future(self.stage.run())

    async def send(self, value: Any, number: int, flags: int = LAST, *, to: int = 0, session: int = 0) -> None:
        sender = self.inputs[to]
        parcel = sender.pack(value)
        await self.ground.bell.until(lambda: sender.has_credit(parcel.nbytes) or None, CREDIT)
        sender.send(parcel, Stamp(number, flags=flags, session=session))

    async def next(self) -> Frame:
        return await self.ground.bell.until(self.output.receivers[0].receive, DATA)

    async def take(self, count: int) -> list[tuple[Any, int, int, int]]:
        """(value, number, index, flags) of the next frames; a mark's value is None."""
        found = []
        for _ in range(count):
            frame = await self.next()
            found.append((None if frame.value is MARK else frame.value, frame.number, frame.index, frame.flags))
            del frame
        return found


@asynccontextmanager
async def running(
    node: Node,
    inputs: int = 1,
    *,
    on_error: OnError = "raise",
    sessions: Sessions = (),
    spin_us: int = 0,
    **settings: int,
) -> AsyncIterator[RunningStage]:
    """A stage that runs, and is stopped at the end as a worker is."""
    ground = Ground()
    stage = RunningStage(ground, node, inputs, on_error, sessions, spin_us, **settings)
    await asyncio.sleep(0)
    try:
        yield stage
    finally:
        ground.board.request_stop()
        ground.bell.ring()
        await asyncio.wait([stage.task])
        if not stage.task.cancelled():
            stage.task.exception()
        ground.close()
