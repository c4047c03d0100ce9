"""Nodes that go wrong on purpose, in every way that the fault tests need. Importable by name in workers."""

from __future__ import annotations

import collections
import ctypes
import faulthandler
import itertools
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from remotemedia.core.node import Node

# -- ways to go wrong --------------------------------------------------------------------------------------------------


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segv() -> None:
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def null_pointer() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def bus_error() -> None:
    """Reads memory behind the end of a file that was cut."""
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        mapped[0]


def illegal_instruction() -> None:
    os.kill(os.getpid(), signal.SIGILL)


def exit_0() -> None:
    os._exit(0)


def exit_3() -> None:
    os._exit(3)


def c_exit() -> None:
    ctypes.CDLL(None).exit(7)


def sys_exit() -> NoReturn:
    sys.exit(4)


def hang_for_ever() -> None:
    while True:
        threading.Event().wait()


def hang_in_python() -> None:
    while True:
        pass


def hang_with_the_gil() -> None:
    """Locks a mutex twice, in C, without giving the GIL back: no signal handler of Python's will run any more."""
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def spin_with_the_gil() -> None:
    """Computes in C for ever: the interpreter's loop never gets a turn, and nothing else that runs in Python."""
    collections.deque(itertools.repeat(None), maxlen=0)


def nap_with_the_gil() -> None:
    """Sleeps for 1.5 s in C without giving the GIL back."""
    ctypes.PyDLL(None).usleep(1_500_000)


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def value_error() -> NoReturn:
    raise ValueError("not this one")


Action = Callable[[], None]
"""Elements of the arrays of Counting."""

_COUNTED = 512
"""Elements of the arrays of Counting."""

# -- nodes -------------------------------------------------------------------------------------------------------------


class Pass(Node):
    """Passes on what it gets."""

    def process(self, data: Any) -> Any:
        return data


class AsyncPass(Pass):
    """The same in an event loop of its worker."""

    async def process(self, data: Any) -> Any:
        return data


class Diary(Pass):
    """Writes what happens to it into a file, a line each."""

    def __init__(self, path: str, name: str | None = None) -> None:
        super().__init__(name)
        self.path = path

    def write(self, what: str) -> None:
        with Path(self.path).open("a") as file:
            file.write(f"{self.name} {what}\n")

    def initialize(self) -> None:
        self.write("initialize")

    def cleanup(self) -> None:
        if self.is_initialized:
            self.write("cleanup")


class Faulty(Pass):
    """Does `action` in one phase of its life; in `process` and `flush`, when it sees the value `at`."""

    def __init__(self, action: Action, phase: str = "process", at: Any = 2, name: str | None = "faulty") -> None:
        super().__init__(name)
        self.action, self.phase, self.at = action, phase, at

    def _reach(self, phase: str) -> None:
        if phase == self.phase:
            self.action()

    def initialize(self) -> None:
        self._reach("initialize")

    def process(self, data: Any) -> Any:
        if data == self.at:
            self._reach("process")
        return data

    def flush(self) -> None:
        self._reach("flush")

    def cleanup(self) -> None:
        if self.is_initialized:
            self._reach("cleanup")


class FaultyOnLoad(Pass):
    """Does `action` while it is unpickled."""

    def __init__(self, action: Action, name: str = "faulty") -> None:
        super().__init__(name)
        self.action = action

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.action()


class FaultyGenerator(Faulty):
    """Gives each input, and then again unless the fault comes in between."""

    def process(self, data: Any) -> Iterator[Any]:
        yield data
        if data == self.at:
            self._reach("process")


class FaultyCoroutine(Faulty):
    async def process(self, data: Any) -> Any:
        return super().process(data)


class FaultyAsyncGenerator(Faulty):
    async def process(self, data: Any) -> AsyncIterator[Any]:
        yield data
        if data == self.at:
            self._reach("process")


class FaultyStreaming(Faulty):
    """Takes the iterator itself."""

    is_streaming = True

    async def process(self, data: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in data:
            if item == self.at:
                self._reach("process")
            yield item


class WithHelper(Pass):
    """Starts a helper process, and tells its pid as output."""

    def initialize(self) -> None:
        self._helper = subprocess.Popen(["sleep", "1000"])

    def process(self, data: Any) -> int:
        return self._helper.pid


class Counting(Node):
    """Writes into each array, at its own place, how many it has seen; and gives one more array at the end.

    Has state, which survives its worker.
    """

    def __init__(self, place: int, name: str) -> None:
        super().__init__(name)
        self.place, self.count = place, 0

    def process(self, data: Any) -> Any:
        self.count += 1
        out = self.empty_like(data)
        out[:] = data
        out[self.place] = self.count
        return out

    def flush(self) -> Any:
        return np.full(_COUNTED, -1 - self.place)

    def snapshot_state(self) -> bytes:
        return self.count.to_bytes(8, "little")

    def restore_state(self, data: memoryview) -> None:
        self.count = int.from_bytes(data, "little")
