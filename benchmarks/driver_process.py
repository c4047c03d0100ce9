"""The measuring side of a driver: starts it, commands it with a deadline, kills it when the deadline passes."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.commands import Answer, Command
from benchmarks.peers.shm_ring import NAME_PREFIX_VARIABLE
from benchmarks.process_tree import SHARED_MEMORY, cpu_seconds, end_all, mapped_shared_memory, tree_of

BOOT_DEADLINE_S = 20.0
CLOSE_DEADLINE_S = 5.0
REPOSITORY = Path(__file__).resolve().parent.parent

_numbers = itertools.count()


class ContestantError(Exception):
    """`kind` is "unavailable", "wrong output", "hung", "error" or "died"; `detail` says more."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


class DriverProcess:
    """One driver, with a temporary directory and a name prefix in /dev/shm that vanish with it."""

    def __init__(self, contestant: str | None = None) -> None:
        self.contestant = contestant
        self._is_hung = False
        self._prefix = f"rmb{os.getpid()}_{next(_numbers)}_"
        self._directory = Path(tempfile.mkdtemp(prefix="rmb-"))
        self._output = self._directory / "output"
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), *([] if contestant is None else [contestant])]
        with theirs, self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.driver", *arguments],
                cwd=REPOSITORY,
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

    def cpu_seconds(self) -> float:
        """CPU time of the whole tree, producer and sink included, so far."""
        return cpu_seconds(tree_of(self._process.pid))

    def close(self) -> list[str]:
        """End the driver, by force if need be, and remove what is left of it.

        Returns what a driver left behind that had the chance to end by itself.
        """
        family = tree_of(self._process.pid)
        mapped = mapped_shared_memory(family)
        self._connection.close()
        killed = end_all(family, grace_s=0.0 if self._is_hung else CLOSE_DEADLINE_S)
        self._process.wait()
        files = (mapped | set(SHARED_MEMORY.glob(f"{self._prefix}*"))) & set(SHARED_MEMORY.iterdir())
        for path in files:
            path.unlink(missing_ok=True)
        shutil.rmtree(self._directory, ignore_errors=True)
        return [] if self._is_hung else [*(f"process {process.pid}" for process in killed), *map(str, files)]

    def _last_output(self) -> str:
        text = self._output.read_text(errors="replace").strip()
        return f"; last output:\n{text[-2000:]}" if text else ""
