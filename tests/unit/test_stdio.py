"""A worker's output: every byte is read, lines come out whole, and floods stay bounded."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.workers import stdio
from remotemedia.workers.stdio import LINES_PER_S, MAX_LINE_BYTES, TAIL_BYTES, LineSplitter, OutputReader


def split(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.end())


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\nt", b"wo"], ["one", "two"]),
        ([b"10 %\r20 %\r", b"\ndone\r\n\n\n"], ["10 %", "20 %", "done"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"bad \xff byte, NUL \0 too\n"], ["bad \ufffd byte, NUL \0 too"]),
        ([], []),
        ([b"\n"], []),
    ],
)
def test_lines(chunks: list[bytes], lines: list[str]) -> None:
    assert split(*chunks) == lines


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:stop] for start, stop in pairwise(edges)]
    assert split(*chunks) == split(data)


def test_a_long_line_is_cut_says_so_and_the_next_is_whole() -> None:
    exact = b"x" * MAX_LINE_BYTES
    assert split(exact + b"\nnext\n") == [exact.decode(), "next"]
    for chunks in ([exact + b"yz\nnext\n"], [exact, b"y", b"z", b"\nnext\n"], [exact + b"y", b"z\nnext"]):
        cut, following = split(*chunks)
        assert cut == exact.decode() + f" … [line cut at {MAX_LINE_BYTES} bytes]"
        assert following == "next"


def test_output_without_any_newline_needs_bounded_memory() -> None:
    splitter = LineSplitter()
    lines = [line for _ in range(1_000) for line in splitter.feed(b"x" * 65_536)]
    assert len(lines) == 1
    assert len(splitter._partial) <= MAX_LINE_BYTES


class Output:
    """An OutputReader on two pipes of our own."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._news = asyncio.Event()
        out_read, self.stdout = os.pipe()
        err_read, self.stderr = os.pipe()
        files = os.fdopen(out_read, "rb", 0), os.fdopen(err_read, "rb", 0)
        self.reader = OutputReader(*files, self._on_line, asyncio.get_running_loop())

    def _on_line(self, stream: str, text: str) -> None:
        self.lines.append((stream, text))
        self._news.set()

    async def until(self, count: int) -> list[tuple[str, str]]:
        while len(self.lines) < count:
            self._news.clear()
            await self._news.wait()
        return self.lines

    def close(self) -> None:
        os.close(self.stdout)
        os.close(self.stderr)
        self.reader.finish()


async def test_both_streams_arrive_and_the_unfinished_last_line_too(loop_kind) -> None:
    output = Output()
    os.write(output.stdout, b"hello\nwor")
    os.write(output.stderr, b"oops\n")
    assert sorted(await output.until(2)) == [("stderr", "oops"), ("stdout", "hello")]
    output.close()
    assert output.lines[2:] == [("stdout", "wor")]
    assert (output.reader.tail("stdout"), output.reader.tail()) == ("hello\nwor", "oops\n")
    output.reader.finish()


async def test_a_stream_may_end_before_the_process_does(loop_kind) -> None:
    output = Output()
    os.write(output.stdout, b"last")
    os.close(output.stdout)
    assert await output.until(1) == [("stdout", "last")]
    os.write(output.stderr, b"still here\n")
    await output.until(2)
    os.close(output.stderr)
    output.reader.finish()


async def test_a_helper_that_holds_the_pipe_is_not_waited_for(loop_kind) -> None:
    output = Output()
    os.write(output.stdout, b"a" * 1_000 + b"\nb")
    output.reader.finish()
    assert [text for _, text in output.lines] == ["a" * 1_000, "b"]
    with pytest.raises(BrokenPipeError):
        os.write(output.stdout, b"x")
    output.close()


async def test_a_helper_that_writes_for_ever_is_cut_off(monkeypatch) -> None:
    output = Output()
    capacity = fcntl.fcntl(output.stdout, fcntl.F_GETPIPE_SZ)
    reads = 0

    def endless(fd: int, count: int) -> bytes:
        nonlocal reads
        reads += 1
        return b"x\n" * (count // 2)

    monkeypatch.setattr(stdio.os, "read", endless)
    output.reader.finish()
    assert reads * 65_536 <= 2 * capacity
    monkeypatch.undo()
    output.close()


async def test_a_flood_is_cut_to_a_thousand_lines_a_second_and_summed_up(monkeypatch) -> None:
    now = 1000.0
    loop = asyncio.get_running_loop()
    output = Output()
    monkeypatch.setattr(loop, "time", lambda: now)
    timers: list[tuple[float, object]] = []
    monkeypatch.setattr(loop, "call_at", lambda when, callback: timers.append((when, callback)) or FakeTimer())

    def write_and_read(count: int) -> None:
        for start in range(0, count, 5_000):
            os.write(output.stdout, b"".join(b"%d\n" % n for n in range(start, min(start + 5_000, count))))
            output.reader._read_some(output.reader._pipes["stdout"])

    write_and_read(LINES_PER_S + 4_321)
    assert len(output.lines) == LINES_PER_S
    assert output.reader.dropped == 4_321
    [(when, end_of_second)] = timers
    assert when == 1001.0
    now = 1001.0
    end_of_second()
    assert output.lines[LINES_PER_S:] == [
        ("stderr", "4321 lines of output dropped: more than 1000 lines within a second")
    ]
    write_and_read(10)
    assert [text for _, text in output.lines[-10:]] == [str(number) for number in range(10)]
    now = 1005.0
    write_and_read(LINES_PER_S)
    assert output.reader.dropped == 4_321
    write_and_read(1)
    assert output.reader.dropped == 4_322
    monkeypatch.undo()
    output.close()
    assert output.lines[-1] == ("stderr", "1 lines of output dropped: more than 1000 lines within a second")


class FakeTimer:
    """A timer that the test fires by hand."""

    def cancel(self) -> None:
        """Nothing to cancel."""


def start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)


async def test_a_real_flood_never_blocks_the_writer_and_its_end_is_kept(loop_kind) -> None:
    lines: list[str] = []
    code = (
        "import os, sys\n"
        "for _ in range(300): os.write(1, b'spam, spam, spam\\n' * 4000)\n"
        "os.write(1, b'x' * (16 << 20))\n"
        "os.write(2, b'\\0\\xff' * 100_000)\n"
        "sys.stdout.write('\\nthe end')\n"
    )
    process = start(code)
    reader = OutputReader(
        process.stdout, process.stderr, lambda _, text: lines.append(text), asyncio.get_running_loop()
    )
    assert await asyncio.to_thread(process.wait) == 0
    reader.finish()
    assert reader.tail("stdout").endswith("x\nthe end")
    assert len(reader.tail("stdout")) == TAIL_BYTES
    assert len(lines) + reader.dropped >= 300 * 4_000 + 3
    assert any("lines of output dropped" in line for line in lines)
    assert max(len(line) for line in lines) <= MAX_LINE_BYTES + 100


def test_closing_the_loop_first_is_no_obstacle() -> None:
    loop = asyncio.new_event_loop()
    lines: list[str] = []
    read_ends, write_ends = zip(os.pipe(), os.pipe(), strict=True)
    files = [os.fdopen(fd, "rb", 0) for fd in read_ends]
    reader = OutputReader(*files, lambda _, text: lines.append(text), loop)
    os.write(write_ends[0], b"too many\n" * (LINES_PER_S + 5))
    loop.close()
    reader.finish()
    assert len(lines) == LINES_PER_S + 1
    for fd in write_ends:
        os.close(fd)
