"""One stream through the islands: feeds, passes on what they make, starts lost ones again, and gives the results."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import PipelineError, RemoteMediaError
from remotemedia.executors.base import Output, Source
from remotemedia.executors.ray.island_pool import ENDED, FAILED_WITH, INPUT_DONE, OUTPUT, Report
from remotemedia.executors.ray.islands import FEED, Layout
from remotemedia.executors.ray.member import IslandDied, Member, loaded, with_frame
from remotemedia.executors.ray.parcels import ParcelLost, is_mortal, pack, unpack
from remotemedia.executors.ray.relay import Relay
from remotemedia.executors.sources import items_of
from remotemedia.ipc.channel import FAILED
from remotemedia.workers.delivery import Window
from remotemedia.workers.feed import owned


class Run:
    """One stream. Everything happens in the caller's event loop."""

    def __init__(self, number: int, layout: Layout, members: Sequence[Member], config: PoolConfig, nodes: int) -> None:
        self._number, self._layout, self._members = number, layout, members
        self._relay = Relay([island.producers for island in layout.islands], layout.results)
        self._window = Window(
            most_frames=config.in_flight_frames,
            most_bytes=config.in_flight_bytes,
            always=min(nodes, len(os.sched_getaffinity(0))) + len(members),
        )
        self._sizes: dict[int, int] = {}
        self._told = 0
        """Up to where the islands with sources of their own know that everything is through."""
        self._most_ahead = config.in_flight_frames
        self._room, self._progress = asyncio.Event(), asyncio.Event()
        self._is_delivering = False
        self._error: BaseException | None = None

    async def outputs(self, source: Source, *, own_sources: bool, copy: bool) -> AsyncGenerator[Output, None]:
        """All results, in order. `copy`: arrays of the caller's own."""
        await asyncio.gather(*(self._begin(index) for index in range(len(self._members))))
        tasks = [asyncio.create_task(self._serve(index)) for index in range(len(self._members))]
        if not own_sources:
            tasks.append(asyncio.create_task(self._feed(source)))
        try:
            while (found := await self._next_result()) is not None:
                yield Output(found.number, owned(found.value)) if copy else found
                del found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- results -------------------------------------------------------------------------------------------------------

    async def _next_result(self) -> Output | None:
        """The next result, None after the last. Raises what has ended the stream, after all results before that."""
        relay = self._relay
        while True:
            entry = relay.next_result()
            self._settle()
            if entry is None:
                if relay.is_finished:
                    return None
                if self._error is not None:
                    raise self._error
                self._progress.clear()
                await self._progress.wait()
                continue
            if entry.flags & FAILED:
                raise entry.piece.content
            parcel = entry.piece.content
            try:
                value = await unpack(parcel)
            except ParcelLost:
                self._suspect(relay.lost_result(entry, parcel))
                continue
            relay.take_result()
            return Output(entry.number, value)

    def _settle(self) -> None:
        """What is through makes room for more."""
        completed = self._relay.completed
        for number in [number for number in self._sizes if number < completed]:
            self._window.leave(self._sizes.pop(number))
            self._room.set()
        if completed - self._told >= max(1, self._most_ahead // 4):
            self._told = completed
            for island, member in zip(self._layout.islands, self._members, strict=True):
                if not island.producers and member.is_ready:
                    member.give(self._number, None, completed)

    # -- inputs --------------------------------------------------------------------------------------------------------

    async def _feed(self, source: Source) -> None:
        try:
            async with aclosing(items_of(source)) as items:
                async for item in items:
                    parcel = pack(item)
                    while not self._window.has_room():
                        self._room.clear()
                        await self._room.wait()
                    self._window.enter(parcel.nbytes)
                    self._sizes[self._relay.feed(parcel)] = parcel.nbytes
                    self._deliver_soon()
            self._relay.feed_end()
            self._deliver_soon()
        except Exception as error:  # noqa: BLE001 - of the source: raised where the results are taken
            self._fail(error)

    def _deliver_soon(self) -> None:
        """Give the islands what there is for them: once for all that happens in this turn of the loop."""
        self._progress.set()
        if not self._is_delivering:
            self._is_delivering = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_delivering = False
        for index, member in enumerate(self._members):
            if member.is_ready:
                delivery = self._relay.next_delivery(index)
                if delivery is not None:
                    member.give(self._number, delivery, self._relay.completed)

    # -- islands -------------------------------------------------------------------------------------------------------

    async def _serve(self, index: int) -> None:
        """Hear what an island tells, through all its generations."""
        member = self._members[index]
        try:
            while True:
                try:
                    reports = await member.take(self._number)
                except IslandDied as error:
                    await self._begin_again(index, error)
                    continue
                for report in reports.items:
                    self._on_report(index, report)
                self._deliver_soon()
        except RemoteMediaError as error:
            self._fail(error)

    async def _begin(self, index: int) -> None:
        try:
            await self._begin_stream(index)
        except IslandDied as error:  # since the last stream
            await self._begin_again(index, error)

    async def _begin_stream(self, index: int) -> None:
        has_input = bool(self._layout.islands[index].producers)
        await self._members[index].begin(self._number, self._relay.base(index), has_input=has_input)

    async def _begin_again(self, index: int, error: IslandDied) -> None:
        member, relay = self._members[index], self._relay
        frame = relay.present(index)
        member.is_ready = False
        while True:
            relay.died(index, is_mortal)
            await member.revive(error, frame)
            try:
                await self._begin_stream(index)
            except IslandDied as again:
                error = again
                continue
            self._deliver_soon()
            return

    def _on_report(self, index: int, report: Report) -> None:
        relay = self._relay
        if report.kind == OUTPUT:
            relay.output(index, report.position, report.content)
        elif report.kind == INPUT_DONE:
            relay.done(index, report.position)
        elif report.kind == ENDED:
            relay.ended(index)
        elif report.kind == FAILED_WITH:
            relay.failed(index, with_frame(loaded(report.content), relay.present(index)))
        else:
            self._suspect(relay.lost(index, report.position, report.content))

    def _suspect(self, producer: int | None) -> None:
        """What this island made is gone, though it counts as alive: it is made to be what it looks like."""
        if producer is None:
            return
        if producer == FEED or self._members[producer].is_local:
            self._fail(PipelineError("a frame was lost from the object store of this host, which is the caller's own"))
        else:
            self._members[producer].kill()

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._progress.set()
