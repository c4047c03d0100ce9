"""What happens when shared memory is full: run in a mount namespace with a small /dev/shm of its own.

`python full_shm.py <scenario>`; each scenario ends with exit status 0 if everything went as it must.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from remotemedia.core.exceptions import NodeProcessError, RemoteMediaError, SharedMemoryExhausted
from remotemedia.core.node import Node
from tests.conformance.link import SHM, Connector, Link

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


def frame(number: int, size: int) -> Any:
    return np.full(size, number % 256, np.uint8)


def check(array: Any, number: int) -> None:
    assert (array == number % 256).all()


def free_bytes() -> int:
    facts = os.statvfs(SHM)
    return facts.f_bavail * facts.f_frsize


@contextmanager
def only_free(nbytes: int) -> Iterator[None]:
    """Another program takes all the shared memory but `nbytes`."""
    path = SHM / "another_program"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free_bytes() - nbytes, 1))
        yield
    path.unlink()


def fill_until_exhausted(link: Link, size: int) -> int:
    """Send without anybody receiving; how many frames that were."""
    sent = 0
    with pytest.raises(SharedMemoryExhausted) as caught:  # noqa: PT012 - only the last of many
        while link.try_send(frame(sent, size), sent):
            sent += 1
    assert caught.value.need_bytes > caught.value.free_bytes >= 0
    del caught  # its traceback leads to the sender, whose memory must not come back while the next one is tested
    return sent


def drain(link: Link) -> None:
    """Receive everything; the content is right."""
    while (received := link.receiver.receive()) is not None:
        check(received.value, received.number)


def too_large_to_grow(connect: Connector) -> None:
    link = connect(slot_bytes=4096, max_frame_bytes=1 << 40)
    for size in (MIB, 100 * MIB, 10, MIB, 1 << 38, MIB):
        if size > free_bytes():
            with pytest.raises(SharedMemoryExhausted):
                link.sender.empty((size,), np.dtype(np.uint8))
        else:
            check(link.carry(frame(size, size)), size)


def slots_that_are_used_for_the_first_time(connect: Connector) -> None:
    link = connect(slot_bytes=MIB, window_bytes=1 << 40, queue_frames=64)
    most = free_bytes() // MIB
    assert most - 3 <= fill_until_exhausted(link, MIB - 4096) <= most
    drain(link)
    for number in range(200):  # the slots that there are can be used for ever
        check(link.carry(frame(number, MIB - 4096)), number)


def memory_that_another_program_takes(connect: Connector) -> None:
    """At every distance from the edge: an error or a success, and content that is right."""
    for free in [*range(0, 40 * 4096, 4096), 300_000, 700_000, 1_500_000]:
        link = connect(slot_bytes=4096, window_bytes=1 << 40, queue_frames=16)
        check(link.carry(frame(7, 100)), 7)
        with only_free(free):
            fill_until_exhausted(link, 200_000 if free > 200_000 else 70_000)
            drain(link)
        check(link.carry(frame(9, 200_000)), 9)
        connect.close()
        gc.collect()


class Enlarge(Node):
    """An array of `data` bytes for each input."""

    def process(self, data: int) -> Any:
        output = self.empty((data,), np.uint8)
        output[:] = 3
        return output


async def pools(_connect: Connector) -> None:
    """In a worker and in the coordinator: an error that says what is full."""
    from remotemedia.workers.pool import WorkerPool

    async with WorkerPool([Enlarge()]) as pool:
        check(await pool.process(1000), 3)
        with pytest.raises(SharedMemoryExhausted):
            await pool.process(np.zeros(free_bytes() + 1, np.uint8))
        check(await pool.process(1000), 3)
        with pytest.raises(NodeProcessError, match="/dev/shm"):
            await pool.process(free_bytes() + 1)
    started = []
    for free in (0, 4096, 20_000, 60_000, 100_000, 200_000, 400_000, 1_000_000, 2_000_000, 4_000_000):
        with only_free(free):
            try:
                async with WorkerPool([Enlarge()]) as pool:
                    check(await pool.process(10), 3)
                    started.append(free)
            except RemoteMediaError as error:
                if "/dev/shm" not in str(error):
                    raise
    assert started
    assert 0 not in started


SCENARIOS = (
    too_large_to_grow,
    slots_that_are_used_for_the_first_time,
    memory_that_another_program_takes,
    pools,
)


def main() -> None:
    scenario = next(each for each in SCENARIOS if each.__name__ == sys.argv[1])
    connect = Connector("shm")
    result = scenario(connect)
    if result is not None:
        asyncio.run(result)
    connect.close()
    print("as it must be")


if __name__ == "__main__":
    main()
