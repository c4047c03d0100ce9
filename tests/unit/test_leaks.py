"""The leak checker finds what is left, names it, and waits for what is on its way out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from remotemedia.testing.leaks import Snapshot, assert_no_leaks
from remotemedia.workers.rundir import PoolDir, sweep


def leaks(before: Snapshot) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_no_leaks(before, deadline_s=0.0)
    return str(caught.value)


@contextmanager
def descriptor() -> Iterator[str]:
    fd = os.open("/dev/null", os.O_RDONLY)
    yield f"fd {fd} → /dev/null"
    os.close(fd)


@contextmanager
def unix_socket() -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("\0remotemedia-leak-test")
        yield "(unix @remotemedia-leak-test)"


@contextmanager
def thread() -> Iterator[str]:
    end = threading.Event()
    started = threading.Thread(target=end.wait, name="straggler")
    started.start()
    yield "Thread(straggler, started"
    end.set()
    started.join()


@contextmanager
def native_threads() -> Iterator[str]:
    with zmq.Context() as context, context.socket(zmq.PAIR):
        yield "ZMQbg/IO/0', not Python's"


@contextmanager
def child() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield f"pid {process.pid} (state"
    process.communicate(b"\n")


@contextmanager
def zombie() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield f"pid {process.pid} (state Z)"
    process.wait()


@contextmanager
def grandchild() -> Iterator[str]:
    code = "import subprocess, sys; p = subprocess.Popen(['cat']); print(p.pid, flush=True); p.wait()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield f"pid {int(process.stdout.readline())} "
    process.communicate()


@contextmanager
def shared() -> Iterator[str]:
    segment = Path(f"/dev/shm/psm_leak_test_{os.getpid()}")
    segment.write_bytes(b"x")
    yield f"{segment} (4096 bytes)"
    segment.unlink()


@contextmanager
def pool() -> Iterator[str]:
    with PoolDir.create() as made:
        yield f"runtime directories: {made.path}"


@contextmanager
def pool_in_shm() -> Iterator[str]:
    with PoolDir.create() as made:
        yield f"shared memory: {made.iox_root}"


@pytest.mark.parametrize(
    "left",
    [descriptor, unix_socket, thread, native_threads, child, zombie, grandchild, shared, pool, pool_in_shm],
    ids=lambda left: left.__name__,
)
def test_what_is_left_is_named(left: Callable[[], Iterator[str]]) -> None:
    before = Snapshot.take()
    with left() as expected:
        assert expected in leaks(before)
    assert_no_leaks(before)


def test_what_is_on_its_way_out_is_waited_for() -> None:
    before = Snapshot.take()
    end = threading.Event()
    threading.Thread(target=end.wait).start()
    leaks(before)
    end.set()
    assert_no_leaks(before)


def test_garbage_is_no_leak() -> None:
    class Cycle:
        """Keeps a file open until the collector comes."""

        def __init__(self) -> None:
            self.me = self
            self.fd = os.open("/dev/null", os.O_RDONLY)

        def __del__(self) -> None:
            os.close(self.fd)

    before = Snapshot.take()
    Cycle()
    assert_no_leaks(before)


def test_an_orphan_of_our_session_is_found() -> None:
    before = Snapshot.take()
    code = (
        "import os, subprocess, sys\n"
        "orphan = [sys.executable, '-c', 'input()  # remotemedia', 'x']\n"
        "p = subprocess.Popen(orphan, stdin=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(p.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    read_end, write_end = os.pipe()
    done = subprocess.run([sys.executable, "-c", code], stdin=read_end, capture_output=True, text=True, check=True)
    os.close(read_end)
    assert f"pid {int(done.stdout)} (state" in leaks(before)
    os.close(write_end)
    assert_no_leaks(before)


def test_the_pools_of_an_unrelated_process_are_its_own_business(tmp_path: Path) -> None:
    before = Snapshot.take()
    code = (
        "import os, sys\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "from remotemedia.workers.rundir import PoolDir\n"
        "with PoolDir.create() as pool:\n"
        "    print(pool.path, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    stranger = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    path = Path(stranger.stdout.readline().decode().strip())
    stranger.wait()
    assert path.is_dir()
    left = leaks(before)
    assert "shared memory" not in left
    assert "runtime directories" not in left
    stranger.stdin.close()
    assert stranger.stdout.read() == b""
    stranger.stdout.close()
    assert not path.exists()
    assert_no_leaks(before)
    sweep()
