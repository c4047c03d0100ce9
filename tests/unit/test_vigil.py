"""No interrupt of the main thread is lost, and nobody's wake-up descriptor."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from remotemedia.workers import vigil
from remotemedia.workers.vigil import Vigil, begin_vigil, result_of, wait_for


class Alarm(Exception):  # noqa: N818 - named for what it is
    """What the handler of SIGALRM raises."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def on_alarm(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, on_alarm)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def beside() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Runs something in another thread once the main thread has begun its vigil."""
    threads: list[threading.Thread] = []

    def run(what: Callable[[], object]) -> None:
        def wait_then_run() -> None:
            assert began.wait(30)
            what()

        threads.append(threading.Thread(target=wait_then_run))
        threads[-1].start()

    began = threading.Event()
    sleep = Vigil.sleep

    def announce_and_sleep(self: Vigil) -> None:
        began.set()
        sleep(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Vigil, "sleep", announce_and_sleep)
        patch.setattr(vigil, "SOON_S", 0.001)
        yield run
    for thread in threads:
        thread.join()


def take_signal() -> None:
    """As if the kernel had given it to this thread."""
    signal.pthread_kill(threading.get_ident(), signal.SIGALRM)


def test_a_signal_that_another_thread_takes_ends_the_wait(beside: Any) -> None:
    beside(take_signal)
    with pytest.raises(Alarm):
        wait_for(Future())
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_before_the_wait_begins_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the interpreter's last look at signals and the system call: `poll` is such a C function here."""

    class Late:
        """Sends the signal where nothing of the interpreter looks for it any more, then sleeps."""

        def __init__(self) -> None:
            self._poll = real()

        def register(self, *args: int) -> None:
            self._poll.register(*args)

        def poll(self) -> Any:
            sent = threading.Thread(target=take_signal)
            sent.start()
            return self._poll.poll()

    real = vigil.select.poll
    monkeypatch.setattr(vigil.select, "poll", Late)
    with pytest.raises(Alarm), Vigil() as kept:
        kept.sleep()


def test_a_result_that_comes_late_or_at_once(beside: Any) -> None:
    late: Future[int] = Future()
    beside(lambda: late.set_result(1))
    assert result_of(late) == 1
    early: Future[int] = Future()
    early.set_exception(TimeoutError("the caller's own"))
    with pytest.raises(TimeoutError, match="own"):
        result_of(early)


def test_whoever_had_the_descriptor_gets_what_comes(beside: Any) -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        try:
            future: Future[None] = Future()

            def signal_then_end() -> None:
                take_signal()
                told.append(ours.recv(10))
                future.set_result(None)

            told: list[bytes] = []
            beside(signal_then_end)
            wait_for(future)
        finally:
            assert signal.set_wakeup_fd(-1) == theirs.fileno()
    assert told == [bytes([signal.SIGALRM])]


def test_other_threads_wait_in_the_ordinary_way() -> None:
    results: queue.SimpleQueue[int] = queue.SimpleQueue()
    future: Future[int] = Future()
    thread = threading.Thread(target=lambda: results.put(result_of(future)))
    thread.start()
    future.set_result(3)
    thread.join()
    assert results.get_nowait() == 3


def test_a_ring_after_the_vigil_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    with Vigil() as kept:
        kept.ring()
        kept.sleep()
    kept.ring()
    monkeypatch.setattr(os, "pipe2", refuse)
    assert begin_vigil() is None


def refuse(_: int) -> None:
    raise OSError("no descriptors")
