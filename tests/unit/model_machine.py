"""A machine in one thread at a time: processes that can be stopped and killed between any two accesses to what they
share, words of shared memory, eventfds, and publish-subscribe ports that behave as iceoryx2's do.

Every process is a thread, but only one of them ever runs: the test hands out steps, and takes the machine back after
them. A step ends before each read or write of a shared word, each delivery of a frame to one queue, each receive and
each ring of a doorbell. So whoever decides about the steps decides about every interleaving and every instant of death,
and the same decisions give the same run.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from remotemedia.ipc import doorbell, references, segments
from remotemedia.ipc.doorbell import OwnDoorbell
from remotemedia.ipc.segments import Range, Segment
from remotemedia.ipc.wire import BLOCK_BYTES, USER_HEADER_BYTES
from remotemedia.workers import stage
from remotemedia.workers.child import wiring

_STEP_NS = 100_000
"""The time that stages see goes on by so much with each step."""



class Killed(BaseException):
    """Raised in a process that has been killed, where it would do the next thing."""


class Violation(AssertionError):  # noqa: N818 - named for what it is
    """A promise was broken."""


class Machine:
    """What all processes share, and who of them runs."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        """`choose(n)`: a number below n, wherever the outside world decides."""
        self.choose = choose
        self.steps = 0
        self.running: Process | None = None
        self.back = threading.Semaphore(0)
        self.rung: set[int] = set()
        self.services: dict[str, Service] = {}
        self.files: dict[str, Publisher] = {}
        """The memory of each publisher, by name, until it is reaped."""

    def range_around(self, address: int) -> Range | None:
        """In place of segments.range_around."""
        for name, publisher in self.files.items():
            start = ctypes.addressof(publisher.memory)
            if start <= address < start + len(publisher.memory):
                return Range(start, start + len(publisher.memory), name, 0)
        return None

    def map_segment(self, name: str) -> Segment | None:
        """In place of segments.map_segment."""
        if self.running is not None:
            self.running.hard_point()
        publisher = self.files.get(name)
        if publisher is None:
            return None
        return Segment(name, ctypes.addressof(publisher.memory), len(publisher.memory), publisher)

    def eventfd_write(self, fd: int, _value: int) -> None:
        """In place of os.eventfd_write."""
        process = self.running
        if process is not None:
            process.point()
            if process.dying:
                return
        self.rung.add(fd)

    def eventfd_read(self, fd: int) -> int:
        """In place of os.eventfd_read."""
        if fd not in self.rung:
            raise BlockingIOError
        self.rung.discard(fd)
        return 1

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)  # this machine stands where a module expects `os`


class Process:
    """One process: `main` runs in a thread of its own, a number of steps at a time."""

    def __init__(self, machine: Machine, name: str, main: Callable[[Process], None]) -> None:
        self.machine, self.name, self._main = machine, name, main
        self.dying = self.ended = False
        self.asleep: int | None = None
        """The eventfd that it sleeps on."""
        self.ports: list[Subscriber | Publisher] = []
        self._error: BaseException | None = None
        self._steps = 0
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # -- for whoever decides -------------------------------------------------------------------------------------------

    @property
    def can_run(self) -> bool:
        return not self.ended and (self.asleep is None or self.asleep in self.machine.rung)

    def advance(self, steps: int) -> None:
        """Let it do that many steps, or less if it falls asleep or ends. Raises what it raised."""
        self._steps = steps
        self._resume()
        if self.ended:
            self._thread.join()
            if self._error is not None:
                try:
                    raise self._error
                finally:
                    self._error = None  # its frames hold views, and those lead back here

    def kill(self) -> None:
        """It does nothing more that others could see."""
        self.dying = True
        if not self.ended:
            self._resume()
        self._thread.join()

    def _resume(self) -> None:
        self.machine.running = self
        self._go.release()
        self.machine.back.acquire()
        self.machine.running = None

    # -- from inside ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self.dying:
                self._main(self)
        except Killed:
            pass
        except BaseException as error:
            if not self.dying:
                self._error = error
        finally:
            self.ended = True
            self.machine.back.release()

    def point(self) -> None:
        """Before everything that others can see; here the process may be stopped, or killed (see `dying`)."""
        if self.dying or self.machine.running is not self:
            return
        if self._steps <= 0:
            self._hand_back()
            if self.dying:
                return
        self._steps -= 1
        self.machine.steps += 1

    def hard_point(self) -> None:
        """The same, where a process that was killed can be left."""
        self.point()
        if self.dying:
            raise Killed

    def sleep(self, fd: int) -> None:
        """Until the eventfd is written to."""
        if self.dying:
            raise Killed
        if fd not in self.machine.rung:
            self.asleep = fd
            self._hand_back()
            self.asleep = None
        if self.dying:
            raise Killed

    def _hand_back(self) -> None:
        self.machine.back.release()
        self._go.acquire()


class Words:
    """Words of the ledger as one process sees them."""

    __slots__ = ("_process", "_raw")

    def __init__(self, process: Process, raw: memoryview) -> None:
        self._process, self._raw = process, raw

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: int) -> int:
        self._process.point()
        return 0 if self._process.dying else self._raw[index]  # no bell is asked for: nobody is rung by the dead

    def __setitem__(self, index: int, value: int) -> None:
        self._process.point()
        if not self._process.dying:
            self._raw[index] = value


class HardWords(Words):
    """The same, for words that no destructor touches: a process that was killed goes no further than to here."""

    __slots__ = ()

    def __getitem__(self, index: int) -> int:
        self._process.hard_point()
        return self._raw[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._process.hard_point()
        self._raw[index] = value


class LedgerView:
    """The ledger as one process sees it. Regions at the offsets `plain` are not watched: nobody reads them while they
    are written. Those at `hard` are not touched when a frame dies.
    """

    def __init__(self, process: Process, words: memoryview, plain: frozenset[int], hard: frozenset[int]) -> None:
        self._process, self._words, self._plain, self._hard = process, words, plain, hard

    def region(self, offset: int, words: int) -> Any:
        raw = self._words[offset : offset + words]
        if offset in self._plain:
            return raw
        return (HardWords if offset in self._hard else Words)(self._process, raw)


class Waiter:
    """Sleeps on the machine (see remotemedia.ipc.doorbell.Waiter)."""

    def __init__(self, process: Process, bell: OwnDoorbell) -> None:
        self._process, self._bell = process, bell

    async def rung(self) -> None:
        self._process.sleep(self._bell.fd)
        self._bell.clear()

    async def breathe(self) -> None:
        self._process.hard_point()


# -- ports -------------------------------------------------------------------------------------------------------------


class Service:
    """One publish-subscribe service."""

    def __init__(self, name: str, queue_room: int) -> None:
        self.name, self.queue_room = name, queue_room
        self.subscribers: list[Subscriber] = []
        self.publishers: list[Publisher] = []


class Slot:
    """A slot of a publisher's segment, in use as long as somebody refers to it. Stands for every sample made from it.
    """

    __slots__ = ("_publisher", "index", "payload_ptr", "user_header_ptr")

    def __init__(self, publisher: Publisher, index: int) -> None:
        self._publisher, self.index = publisher, index
        self.user_header_ptr = ctypes.addressof(publisher.memory) + index * publisher.stride
        self.payload_ptr = self.user_header_ptr + USER_HEADER_BYTES

    def send(self) -> int:
        return self._publisher.deliver(self)

    def __getattr__(self, name: str) -> Any:
        if name == "__assume_init":
            return lambda: self
        raise AttributeError(name)

    def __del__(self) -> None:
        self._publisher.free.append(self.index)


class Publisher:
    """A sender's port."""

    def __init__(self, process: Process, service: Service, slot_blocks: int, slots: int) -> None:
        self.process, self._service = process, service
        self._blocks = slot_blocks
        self.stride = USER_HEADER_BYTES + slot_blocks * BLOCK_BYTES
        self.memory = (ctypes.c_uint8 * (slots * self.stride))()
        self.free = list(range(slots - 1, -1, -1))
        process.hard_point()
        if service.publishers:
            raise Violation(f"{service.name}: a second publisher")
        service.publishers.append(self)
        process.machine.files[f"{len(process.machine.files)}.{process.machine.steps}"] = self
        process.ports.append(self)
        setattr(self, "__loan_slice_uninit", self._loan)

    def _loan(self, blocks: int) -> Slot:
        if blocks > self._blocks or not self.free:
            raise Violation(f"{self._service.name}: {blocks} blocks wanted, {len(self.free)} slots free")
        return Slot(self, self.free.pop())

    def deliver(self, slot: Slot) -> int:
        reached = 0
        for port in list(self._service.subscribers):
            self.process.hard_point()
            if port not in self._service.subscribers:
                continue
            queue = port.queues.setdefault(self, deque())
            if len(queue) < port.queue_room:
                queue.append(slot)
            elif not port.process.dying:
                raise Violation(f"{self._service.name}: the queue of {port.process.name} overflows")
            reached += 1
        return reached

    def update_connections(self) -> None:
        self.process.hard_point()


class Subscriber:
    """A receiver's port: a queue for each publisher it has heard of."""

    def __init__(self, process: Process, service: Service, queue_room: int) -> None:
        self.process, self.queue_room = process, queue_room
        self.queues: dict[Publisher, deque[Slot]] = {}
        process.hard_point()
        service.subscribers.append(self)
        process.ports.append(self)

    def receive(self) -> Slot | None:
        self.process.hard_point()
        filled = [queue for queue in self.queues.values() if queue]
        if not filled:
            return None
        return filled[self.process.machine.choose(len(filled))].popleft()

    def has_samples(self) -> bool:
        return False


class Participant:
    """One process's membership (see remotemedia.ipc.participant.Participant)."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def open_channel(self, name: str, *, queue_room: int, **_others: Any) -> Service:
        return self._process.machine.services.setdefault(name, Service(name, queue_room))

    def publisher(self, service: Service, *, slot_blocks: int, slots: int) -> Publisher:
        return Publisher(self._process, service, slot_blocks, slots)

    def subscriber(self, service: Service, *, queue_room: int) -> Subscriber:
        return Subscriber(self._process, service, queue_room)


def reap(process: Process) -> None:
    """Remove the ports of a dead process; what it has sent can still be received."""
    for service in process.machine.services.values():
        for port in service.subscribers:
            if port.process is process:
                port.queues.clear()
        service.subscribers = [port for port in service.subscribers if port.process is not process]
        service.publishers = [port for port in service.publishers if port.process is not process]
    files = process.machine.files
    for name in [name for name, publisher in files.items() if publisher.process is process]:
        del files[name]


def lose_unreceived(process: Process) -> None:
    """The end of what a dead process has sent and nobody has received may be lost: as much as the world decides."""
    for service in process.machine.services.values():
        for port in service.subscribers:
            for publisher, queue in port.queues.items():
                if publisher.process is process and port.process is not process:
                    for _ in range(process.machine.choose(len(queue) + 1)):
                        queue.pop()


@contextmanager
def installed(machine: Machine) -> Iterator[None]:
    """Doorbells and workers that are made from now on belong to this machine."""

    def participant(_prefix: str, _root: str) -> Participant:
        assert machine.running is not None
        return Participant(machine.running)

    clock = SimpleNamespace(perf_counter_ns=lambda: machine.steps * _STEP_NS)
    with (
        mock.patch.object(doorbell, "os", machine),
        mock.patch.object(wiring, "Participant", participant),
        mock.patch.object(stage, "time", clock),
        mock.patch.object(segments, "range_around", machine.range_around),
        mock.patch.object(segments, "map_segment", machine.map_segment),
        mock.patch.object(references, "LEAST_BYTES", 1),
    ):
        yield
