"""Channels between real processes: wake-ups, content, and what the death of one side leaves to the other."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remotemedia.core.frames import AudioFrame
from remotemedia.ipc.channel import END, LAST, MARK, Frame, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA
from remotemedia.workers.child.drive import BlockingWaiter, drive
from tests.conformance.link import Connector, Link, Shared

PEER = Path(__file__).with_name("peer.py")


class Peer:
    """The process at the other end of a channel."""

    def __init__(self, behaviour: str, shared: Shared) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), behaviour, shared.as_json()],
            pass_fds=shared.fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let it end by itself; its exit status."""
        self.process.communicate()
        assert self.process.returncode in (0, -9)


StartPeer = Callable[..., tuple[Link, Peer]]


@pytest.fixture
def start(share: Connector) -> Iterator[StartPeer]:
    """Starts a peer; gives the end that is left for this process."""
    peers: list[Peer] = []

    def start_peer(behaviour: str, end: str, **settings: int) -> tuple[Link, Peer]:
        link, shared = share.open_end(end, **settings)
        own = link.sender_bell if end == "sender" else link.receiver_bell
        own.waiter = BlockingWaiter(own, lambda: False)
        peer = Peer(behaviour, shared)
        peers.append(peer)
        if end == "sender":
            assert peer.says() == "ready"
        return link, peer

    yield start_peer
    for peer in peers:
        peer.kill()
        peer.close()


async def send(link: Link, value: Any, number: int = 0, flags: int = LAST) -> None:
    parcel = link.sender.pack(value)
    await link.sender_bell.until(lambda: link.sender.has_credit(parcel.nbytes) or None, CREDIT)
    link.sender.send(parcel, Stamp(number, flags=flags))


@pytest.mark.parametrize(("queue_frames", "count"), [(2, 60_000), pytest.param(7, 140_000, marks=pytest.mark.slow)])
def test_no_wake_up_is_lost(start: StartPeer, queue_frames: int, count: int) -> None:
    """Small queues: both sides fall asleep and are woken at every possible instant; one lost ring blocks for ever."""
    link, peer = start("check_all", "sender", queue_frames=queue_frames)
    dice = random.Random(queue_frames)
    frames = [np.full(10, value, np.uint8) for value in range(256)]

    async def send_all() -> None:
        for number in range(count):
            await send(link, frames[number % 256], number)
            if dice.random() < 0.002:  # wait until the receiver has nothing left but the views that it holds
                await link.sender_bell.until(lambda: link.sender.unreleased() <= queue_frames // 2 or None, CREDIT)
        await send(link, MARK, count, LAST | END)

    drive(send_all())
    assert peer.says() == str(count)
    assert peer.process.wait() == 0


VALUES: dict[str, tuple[Any, float]] = {
    "array": (np.arange(100), 4950),
    "big endian": (np.arange(100, dtype=">f4"), 4950),
    "fortran": (np.asfortranarray(np.ones((30, 40))), 1200),
    "0-d": (np.array(3), 3),
    "empty": (np.zeros((0, 3)), 0),
    "number": (7, 7),
    "list": ([1, 2, 3.5], 6.5),
    "large": (np.ones(3_000_000, np.uint8), 3_000_000),
}


def test_values_arrive_in_another_process(start: StartPeer) -> None:
    link, peer = start("sum_up", "sender", slot_bytes=1024, queue_frames=3)
    for value, total in [*VALUES.values(), *reversed(VALUES.values())]:
        drive(send(link, value))
        assert float(peer.says()) == total
    drive(send(link, MARK, flags=LAST | END))
    assert peer.process.wait() == 0


def test_what_is_defined_only_here_arrives_in_another_process(start: StartPeer) -> None:
    link, peer = start("answer_to_calls", "sender")
    offset = np.arange(5)
    drive(send(link, lambda: int((offset + 1).sum())))
    assert peer.says() == "15"
    frame = AudioFrame(array=np.ones((8, 2), np.float32))
    drive(send(link, lambda: frame.channels))
    assert peer.says() == "2"


def test_a_sender_gets_the_credit_of_a_sleeping_receiver_back(start: StartPeer) -> None:
    link, peer = start("sum_up", "sender", queue_frames=2)
    for number in range(50):
        drive(send(link, number))
        assert float(peer.says()) == number
    drive(link.sender_bell.until(lambda: link.sender.unreleased() == 0 or None, CREDIT))


async def receive(link: Link) -> Frame:
    frame: Frame = await link.receiver_bell.until(link.receiver.receive, DATA)
    return frame


def test_views_stay_valid_after_their_sender_was_killed(start: StartPeer) -> None:
    link, peer = start("send_until_killed", "receiver", queue_frames=4)
    first, second = (drive(receive(link)).value for _ in range(2))
    assert peer.says() == "sent"
    peer.kill()
    assert (first == 0).all()
    assert (second == 1).all()


def test_frames_that_were_sent_before_the_sender_was_killed_still_come(start: StartPeer) -> None:
    link, peer = start("send_until_killed", "receiver", queue_frames=4)
    assert peer.says() == "sent"
    peer.kill()
    for number in range(3):
        frame = drive(receive(link))
        assert frame.number == number
        assert (frame.value == number).all()


def test_views_stay_valid_after_their_sender_has_left(start: StartPeer) -> None:
    link, peer = start("send_and_wait", "receiver")
    array = drive(receive(link)).value
    nested = drive(receive(link)).value
    assert drive(receive(link)).flags & END
    peer.close()
    assert np.array_equal(array, np.arange(1000))
    assert np.array_equal(nested["array"], np.arange(1000))
