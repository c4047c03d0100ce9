"""What a worker writes to stdout and stderr: always drained, handed on as lines, bounded. A flood never blocks it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, Literal, TypeAlias

Stream: TypeAlias = Literal["stdout", "stderr"]
OnLine: TypeAlias = Callable[[Stream, str], None]

LINES_PER_S = 1_000
MAX_LINE_BYTES = 8 * 1024
TAIL_BYTES = 64 * 1024

_CHUNK_BYTES = 64 * 1024
_LINE_END = re.compile(rb"[\r\n]+")  # a carriage return alone ends a progress bar's line


class LineSplitter:
    """Bytes in, lines out; empty lines are left out, a long line is cut at MAX_LINE_BYTES and says so. No I/O."""

    def __init__(self) -> None:
        self._partial = b""
        self._skipping = False
        """The rest of a line that was cut is being skipped."""

    def feed(self, data: bytes) -> Iterator[str]:
        *complete, rest = _LINE_END.split(data)
        for piece in complete:
            line, skipping = self._partial + piece, self._skipping
            self._partial, self._skipping = b"", False
            if line and not skipping:
                yield _text(line)
        if self._skipping:
            return
        self._partial += rest
        if len(self._partial) > MAX_LINE_BYTES:
            yield _text(self._partial)
            self._partial, self._skipping = b"", True

    def end(self) -> Iterator[str]:
        """The last line, if it did not end."""
        if self._partial:
            yield _text(self._partial)
        self._partial = b""


def _text(line: bytes) -> str:
    text = line[:MAX_LINE_BYTES].decode("utf-8", "replace")
    return text if len(line) <= MAX_LINE_BYTES else f"{text} … [line cut at {MAX_LINE_BYTES} bytes]"


class _Pipe:
    """One of the two pipes, non-blocking."""

    def __init__(self, stream: Stream, file: IO[bytes]) -> None:
        self.stream: Stream = stream
        self.fd = file.fileno()
        self._file = file
        self.lines = LineSplitter()
        self.tail = bytearray()
        os.set_blocking(self.fd, False)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def read(self) -> bytes | None:
        """What is there, at most 64 KiB; b"" at the end of the file, None if there is nothing now."""
        try:
            data = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        self.tail += data
        del self.tail[:-TAIL_BYTES]
        return data

    def capacity(self) -> int:
        return fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ)

    def close(self) -> None:
        self._file.close()


class OutputReader:
    """Reads a worker's stdout and stderr in the loop; owns both pipes.

    `on_line(stream, text)` gets each line. Beyond 1000 lines in a second the rest of that second is dropped, and one
    line says how many. Everything is still read: the worker is never blocked by its output.
    """

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes], on_line: OnLine, loop: asyncio.AbstractEventLoop) -> None:
        self._on_line, self._loop = on_line, loop
        self._pipes = {"stdout": _Pipe("stdout", stdout), "stderr": _Pipe("stderr", stderr)}
        self._second = _Second()
        self._timer: asyncio.TimerHandle | None = None
        for pipe in self._pipes.values():
            loop.add_reader(pipe.fd, self._read_some, pipe)

    def tail(self, stream: Stream = "stderr") -> str:
        """The last 64 KiB of a stream, dropped lines included."""
        return self._pipes[stream].tail.decode("utf-8", "replace")

    @property
    def dropped(self) -> int:
        """How many lines have been dropped so far."""
        return self._second.dropped_before + self._second.dropped

    def finish(self) -> None:
        """After the process has ended: read what is left in the pipes and close them. Idempotent.

        A helper process that escaped from the worker may hold a pipe open for ever: what it writes later is not waited
        for, and what it is writing now is read up to the capacity of the pipe.
        """
        for pipe in self._pipes.values():
            if not pipe.closed:
                left = pipe.capacity()
                while left > 0 and (data := pipe.read()):
                    left -= len(data)
                    self._emit(pipe.stream, pipe.lines.feed(data))
                self._close(pipe)
        self._end_second()

    def _read_some(self, pipe: _Pipe) -> None:
        data = pipe.read()
        if data == b"":
            self._close(pipe)
        elif data is not None:
            self._emit(pipe.stream, pipe.lines.feed(data))

    def _close(self, pipe: _Pipe) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(pipe.fd)
        pipe.close()
        self._emit(pipe.stream, pipe.lines.end())

    def _emit(self, stream: Stream, lines: Iterator[str]) -> None:
        for text in lines:
            if self._second.admits(self._loop.time()):
                self._on_line(stream, text)
            elif self._timer is None and not self._loop.is_closed():
                self._timer = self._loop.call_at(self._second.ends_at, self._end_second)

    def _end_second(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dropped = self._second.close()
        if dropped:
            text = f"{dropped} lines of output dropped: more than {LINES_PER_S} lines within a second"
            self._on_line("stderr", text)


class _Second:
    """How many lines of the present second were let through and dropped."""

    def __init__(self) -> None:
        self.ends_at = float("-inf")
        self._admitted = 0
        self.dropped = 0
        self.dropped_before = 0

    def admits(self, now: float) -> bool:
        if now >= self.ends_at and not self.dropped:
            self.ends_at, self._admitted = now + 1.0, 0
        if self._admitted < LINES_PER_S:
            self._admitted += 1
            return True
        self.dropped += 1
        return False

    def close(self) -> int:
        """End the second; gives how many lines it dropped."""
        dropped, self.dropped = self.dropped, 0
        self.dropped_before += dropped
        self.ends_at = float("-inf")
        return dropped
