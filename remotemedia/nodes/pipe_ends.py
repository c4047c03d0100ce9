"""The end of a pipe for raw media: a file object, a descriptor, a path, or a command's stdin or stdout."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from typing import Any, BinaryIO

from remotemedia.core.exceptions import ConfigurationError, NodeError

_LAST_WORDS = 2000  # bytes of a command's stderr that an error shows


def checked_end(node_type: str, end: Any, method: str) -> Any:
    """What was given as the end of a pipe: a command as a list, a path as str. Raises ConfigurationError for others."""
    if isinstance(end, os.PathLike):
        return os.fspath(end)
    if isinstance(end, str) or (isinstance(end, int) and not isinstance(end, bool) and end >= 0):
        return end
    if isinstance(end, (list, tuple)) and end and all(isinstance(part, (str, os.PathLike)) for part in end):
        return [os.fspath(part) for part in end]
    if callable(getattr(end, method, None)):
        return end
    raise ConfigurationError(
        f"{node_type}({end!r}): expected a path, a descriptor (0 or more), a binary file with {method}(), or a command "
        'as a list of words (["ffmpeg", "-i", …])'
    )


def check_portable(end: Any) -> None:
    """Raise TypeError if it cannot travel to another process: a descriptor or an open file."""
    if not isinstance(end, (str, list)):
        raise TypeError(
            f"{end!r} belongs to this process; keep the node here (executor='inline'), or give it a path or a command"
        )


class PipeEnd:
    """One opened end, for reading or for writing. Files and descriptors that were given stay open when it is closed."""

    def __init__(self, node: str, end: Any, *, write: bool) -> None:
        """Raises NodeError if it cannot be opened or the command cannot be started."""
        self._node = node
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: BinaryIO | None = None
        self._name = end[0] if isinstance(end, list) else repr(end)
        self._owned = isinstance(end, (str, int, list))  # the file around a descriptor does not close that
        try:
            self._file = self._opened(end, write=write)
        except OSError as error:
            self.close()
            raise NodeError(node, f"cannot open {self._name}: {error.strerror or error}") from error

    def _opened(self, end: Any, *, write: bool) -> Any:
        if isinstance(end, str):
            return open(end, "wb" if write else "rb", buffering=0)  # noqa: PTH123 - closed in close()
        if isinstance(end, int):
            return os.fdopen(end, "wb" if write else "rb", buffering=0, closefd=False)
        if not isinstance(end, list):
            return end
        self._stderr = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - a pipe for it could fill up
        streams = {"stdin": subprocess.PIPE} if write else {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(end, stderr=self._stderr, bufsize=0, **streams)  # type: ignore[call-overload]
        return self._process.stdin if write else self._process.stdout

    def read_into(self, buffer: memoryview) -> int:
        """Fill all of `buffer`; fewer bytes only at the end. Raises NodeError for what the system refuses."""
        got = 0
        try:
            while got < len(buffer):
                count = self._read(buffer[got:])
                if not count:
                    break
                got += count
        except OSError as error:
            raise NodeError(self._node, f"cannot read from {self._name}: {error.strerror or error}") from error
        return got

    def _read(self, buffer: memoryview) -> int:
        if hasattr(self._file, "readinto"):
            return self._file.readinto(buffer) or 0
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: memoryview) -> None:
        """All of it. Raises NodeError if the other side does not want it (with what a command said)."""
        try:
            while data.nbytes:
                count = self._file.write(data)
                data = data[data.nbytes if count is None else count :]
        except OSError as error:
            said = self._last_words()
            raise NodeError(self._node, f"cannot write to {self._name}: {error.strerror or error}{said}") from error

    def finish(self, timeout_s: float | None) -> None:
        """After the last byte: close a command's end and wait for it. Raises NodeError if it failed or does not end."""
        if self._process is None:
            if hasattr(self._file, "flush"):
                self._file.flush()
            return
        with contextlib.suppress(BrokenPipeError):
            self._file.close()
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise NodeError(
                self._node, f"{self._name} did not end within {timeout_s:g} s of the end of the data (exit_timeout_s)"
            ) from error
        if code:
            how = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
            raise NodeError(self._node, f"{self._name} {how}{self._last_words()}")

    def _last_words(self) -> str:
        if self._process is None or self._stderr is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # one that closed its end is about to say why
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _LAST_WORDS))
        text = self._stderr.read().decode(errors="replace").strip()
        return f": {text}" if text else ""

    def close(self) -> None:
        """Close what was opened here, and kill a command that still runs. May be called twice."""
        file = self.__dict__.pop("_file", None)
        if file is not None and self._owned:
            with contextlib.suppress(OSError):
                file.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None
