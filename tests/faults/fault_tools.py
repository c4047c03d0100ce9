"""Waiting for conditions, hosts in processes of their own, and finding what pools have left on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import remotemedia
from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.exceptions import WorkerError
from remotemedia.core.node import Node

T = TypeVar("T")

NO_RESTART = PoolConfig(restart=RestartPolicy.never())
"""The first death is an error."""

DEADLINE_S = 30.0
"""After which a wait is a hang. Never reached by a test that passes."""

SHM = Path("/dev/shm")
_POLL_S = 0.01
_MARK = "REMOTEMEDIA_TEST_PLACE"


def until(condition: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first true result of `condition`; fails, saying `what` it waited for, when the deadline passes."""
    give_up_at = time.monotonic() + deadline_s
    while not (result := condition()):
        assert time.monotonic() < give_up_at, f"waited {deadline_s:g} s for: {what}"
        time.sleep(_POLL_S)
    return result


async def soon(condition: Callable[[], T], what: str) -> T:
    """The same for code that runs in an event loop, which goes on meanwhile."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < give_up_at, f"waited {DEADLINE_S:g} s for: {what}"
        await asyncio.sleep(_POLL_S)
    return result


async def collect(stream: AsyncIterator[Any], into: list[Any]) -> None:
    """Everything that `stream` gives until it ends or raises."""
    async for item in stream:
        into.append(item)  # noqa: PERF401 - what came before it raised must be there


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def chain(node: Node, position: int, of: int = 3) -> list[Node]:
    """`of` nodes in a row that pass on what they get, with `node` in place of the one at `position`."""
    from fault_nodes import Pass

    return [node if i == position else Pass(name=f"pass{i}") for i in range(of)]


class Place:
    """A runtime directory, and a mark in the environment by which every process started under it is found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {_MARK: str(path), "REMOTEMEDIA_RUNTIME_DIR": str(path)}

    def pool_ids(self) -> list[str]:
        """Pools that have a directory now."""
        return sorted(entry.name for entry in self.path.glob("remotemedia-*/*"))

    def processes(self) -> list[int]:
        """Every running process that was started with this place in its environment: hosts, workers, their helpers."""
        mark = f"{_MARK}={self.path}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with suppress(OSError):  # it has just ended, or is somebody else's
                    if mark in (entry / "environ").read_bytes().split(b"\0") and is_running(int(entry.name)):
                        found.append(int(entry.name))
        return found

    def workers(self) -> list[int]:
        """Those of them that are workers, or are about to be: neither hosts nor copies of them between fork and exec,
        nor fork servers.
        """
        found = []
        for pid in self.processes():
            with suppress(OSError):  # it has just ended
                entry = Path(f"/proc/{pid}")
                ours = b"child/__main__.py" in (entry / "cmdline").read_bytes()
                if ours and (entry / "comm").read_text().strip() != "rm-fork-server":
                    found.append(pid)
        return found

    def shared_memory(self) -> list[str]:
        """What the pools of this place have in /dev/shm; known by the marker file, which names the directory."""
        left = []
        for marker in SHM.glob("rm_*_pool"):
            with suppress(OSError):
                if marker.read_text().startswith(f"{self.path}/"):
                    left += [entry.name for entry in SHM.glob(marker.name.removesuffix("pool") + "*")]
        return left

    def leftovers(self) -> list[str]:
        """One line for each thing that is still there."""
        return [
            *(f"process {pid}" for pid in self.processes()),
            *(f"pool directory {pool_id}" for pool_id in self.pool_ids()),
            *(f"/dev/shm/{name}" for name in self.shared_memory()),
        ]

    def expect_nothing_left(self) -> None:
        """What is on its way out gets time to go."""
        with suppress(AssertionError):
            until(lambda: not self.leftovers(), "nothing left", 5.0)
        assert self.leftovers() == []


def files_of(pool_id: str) -> list[str]:
    """The files of one pool in /dev/shm."""
    return sorted(entry.name for entry in SHM.glob(f"rm_{pool_id}_*"))


def interpreter_environment() -> dict[str, str]:
    """The environment for a host process that imports the very package under test, and the nodes of these tests."""
    root = Path(str(remotemedia.__file__)).parents[1]
    here = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{here}", "PYTHONWARNINGS": "default"}


class Script:
    """A host process that runs `source`. Its output is read as it comes."""

    def __init__(self, source: str, file: Path, cwd: Path, environment: dict[str, str]) -> None:
        file.write_text(textwrap.dedent(source))
        self._lines: list[str] = []
        self._errors: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, str(file)],
            cwd=cwd,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, into), daemon=True)
            for stream, into in ((self.process.stdout, self._lines), (self.process.stderr, self._errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: object, into: list[str]) -> None:
        into.extend(line.rstrip("\n") for line in stream)  # type: ignore[attr-defined]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        return list(self._lines)

    @property
    def stderr(self) -> str:
        return "\n".join(self._errors)

    def said(self, start: str) -> list[str]:
        """Waits for a line that begins with the word `start`; the words after it."""

        def look() -> list[str] | None:
            if not any(reader.is_alive() for reader in self._readers) and not self._first(start):
                raise AssertionError(f"ended without saying {start!r}: {self.lines}\n{self.stderr}")
            return self._first(start)

        words = until(look, f"the script to say {start!r}; stderr: {self.stderr}")
        assert words is not None
        return words[1:]

    def _first(self, start: str) -> list[str] | None:
        return next((words for line in self.lines if (words := line.split()) and words[0] == start), None)

    def pids(self) -> list[int]:
        """Pids of the workers, which the script says after the word `workers`."""
        return [int(word) for word in self.said("workers")]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def interrupt_group(self) -> None:
        """Ctrl-C: SIGINT to its whole process group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill_and_reap(self) -> None:
        """SIGKILL for the host alone: its workers are in groups of their own."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def wait(self) -> int:
        """Its exit code, when it has ended and everything it wrote is read."""
        try:
            code = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the script does not end: {self.lines}\n{self.stderr}") from None
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return code

    def expect_success(self) -> list[str]:
        """Its output lines; fails unless it exits with 0."""
        code = self.wait()
        assert code == 0, f"exit {code}: {self.lines}\n{self.stderr}"
        return self.lines

    def end(self) -> None:
        """Whatever it does: it is gone afterwards, and the pipes are closed."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def check_fields(error: WorkerError, node: str, worker_id: int, pids: list[int] | None = None) -> None:
    """An error about a worker says which one, and its text repeats what its fields say."""
    assert (error.node, error.worker_id, error.generation) == (node, worker_id, 0)
    assert error.pid is not None
    if pids is not None:
        assert error.pid in pids
    assert repr(node) in str(error)
    assert f"pid {error.pid}" in str(error)
