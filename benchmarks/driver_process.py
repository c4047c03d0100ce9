"""The measuring side of a driver: starts it, commands it with a deadline, kills it when the deadline passes."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.commands import Answer, Command
from benchmarks.peers.shm_ring import NAME_PREFIX_VARIABLE
from benchmarks.process_tree import (
    SHARED_MEMORY,
    cpu_seconds,
    end_all,
    ended,
    mapped_shared_memory,
    pss_bytes,
    sleeps,
    tree_of,
)

BOOT_DEADLINE_S = 20.0
CLOSE_DEADLINE_S = 5.0


@dataclass(frozen=True)
class Installation:
    """An interpreter, and the directory from which it imports remotemedia and benchmarks."""

    python: str
    directory: Path


HERE = Installation(sys.executable, Path(__file__).resolve().parent.parent)

_numbers = itertools.count()


class ContestantError(Exception):
    """`kind` is "unavailable", "wrong output", "hung", "error" or "died"; `detail` says more."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Aftermath:
    """What was there some time after the main process had been killed."""

    processes: int
    """Its descendants that still run."""
    seconds: float
    """Until the last of them had ended, or until the end of the wait."""
    files: frozenset[Path]
    """In /dev/shm, of those that the tree had mapped or that bear its prefix."""


class DriverProcess:
    """One driver, with a temporary directory and a name prefix in /dev/shm that vanish with it."""

    def __init__(self, contestant: str | None = None, installation: Installation = HERE) -> None:
        self.contestant = contestant
        self._installation = installation
        self._is_hung = False
        self._orphans: list[psutil.Process] = []
        self._orphaned_files: set[Path] = set()
        self._family: list[psutil.Process] = []
        self._family_files: set[Path] = set()
        self._prefix = f"rmb{os.getpid()}_{next(_numbers)}_"
        self._directory = Path(tempfile.mkdtemp(prefix="rmb-"))
        self._output = self._directory / "output"
        self._launch()

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), *([] if self.contestant is None else [self.contestant])]
        with ours, theirs, self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [self._installation.python, "-m", "benchmarks.driver", *arguments],
                cwd=self._installation.directory,
                env=os.environ | {"TMPDIR": str(self._directory), NAME_PREFIX_VARIABLE: self._prefix},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only the measuring side, which then closes the drivers
            )
            self._connection = Connection(ours.detach())

    def wait_until_up(self) -> None:
        """Raises ContestantError("unavailable") if what it measures cannot be imported."""
        self.answer(BOOT_DEADLINE_S)

    def ask(self, command: Command, deadline_s: float) -> Any:
        """Send a command and return its value; raises ContestantError, after which only `close` may be called."""
        self.send(command)
        return self.answer(deadline_s)

    def send(self, command: Command) -> None:
        with suppress(BrokenPipeError):  # `answer` will tell
            self._connection.send(command)

    def answer(self, deadline_s: float) -> Any:
        """The value of the command sent last."""
        try:
            if not self._connection.poll(deadline_s):
                self._is_hung = True
                raise ContestantError("hung", f"no answer within {deadline_s:g} s{self._last_output()}")
            answer: Answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            code = self._process.wait(CLOSE_DEADLINE_S)
            raise ContestantError("died", f"exit status {code}{self._last_output()}") from None
        if answer.failure is not None:
            raise ContestantError(answer.failure, answer.detail)
        return answer.value

    # -- what its tree uses --------------------------------------------------------------------------------------------

    def cpu_seconds(self) -> float:
        """CPU time of the whole tree, producer and sink included, so far."""
        return cpu_seconds(tree_of(self._process.pid))

    def pss_bytes(self) -> int:
        """Memory of the whole tree, shared pages counted once."""
        return pss_bytes(tree_of(self._process.pid))

    def sleeps(self) -> int:
        """How often the threads of the whole tree have gone to sleep so far."""
        return sleeps(tree_of(self._process.pid))

    # -- ends ----------------------------------------------------------------------------------------------------------

    def kill_main(self, wait_s: float) -> Aftermath:
        """kill -9 the driver alone, and wait up to `wait_s` for its descendants; `relaunch` or `close` comes next."""
        family = tree_of(self._process.pid)
        self._orphaned_files |= self._files(family)
        descendants = family[1:]
        with ended(process.pid for process in descendants) as wait_for_end:
            self._process.kill()
            killed = time.monotonic()
            alive = wait_for_end(wait_s)
            seconds = time.monotonic() - killed
        self._process.wait()
        self._connection.close()
        self._orphans += [process for process in descendants if process.pid in alive]
        return Aftermath(len(alive), seconds, self.orphaned_files())

    def orphaned_files(self) -> frozenset[Path]:
        """Those of the killed main process's files in /dev/shm that are still there."""
        return frozenset(self._orphaned_files & set(SHARED_MEMORY.iterdir()))

    def relaunch(self) -> None:
        """The next start, after `kill_main`, with the same temporary directory and prefix.

        Processes that lived on are ended first, as a user would have to: some hold what the next start needs.
        """
        end_all(self._orphans, grace_s=0.0)
        self._launch()
        self.wait_until_up()

    def let_go(self) -> None:
        """Tell the driver that it may end; `close` waits for it."""
        self._family = tree_of(self._process.pid)
        self._family_files = self._files(self._family)
        self._connection.close()

    def close(self) -> list[str]:
        """End the driver, by force if need be, and remove what is left of it.

        Returns what a driver left behind that had the chance to end by itself.
        """
        if not self._connection.closed:
            self.let_go()
        killed = end_all(self._family, grace_s=0.0 if self._is_hung else CLOSE_DEADLINE_S)
        end_all(self._orphans, grace_s=0.0)
        self._process.wait()
        left = (self._family_files | self._files([])) & set(SHARED_MEMORY.iterdir())
        for path in left | self.orphaned_files():
            path.unlink(missing_ok=True)
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._is_hung or self._orphaned_files:
            return []
        return [*(f"process {process.pid}" for process in killed), *map(str, left)]

    def _files(self, processes: list[psutil.Process]) -> set[Path]:
        return mapped_shared_memory(processes) | set(SHARED_MEMORY.glob(f"{self._prefix}*"))

    def _last_output(self) -> str:
        text = self._output.read_text(errors="replace").strip()
        return f"; last output:\n{text[-2000:]}" if text else ""
