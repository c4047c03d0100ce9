"""What holds for every test: nothing left behind, a deadline that shows all stacks, and event loops by name."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import uvloop

from remotemedia.testing.leaks import Snapshot, assert_no_leaks
from remotemedia.workers.fork_server import keep_fork_server

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

# pytest-timeout ends a test that hangs in Python. One that hangs in C, with the GIL held, never gets there: this many
# seconds later, a thread written in C prints all stacks and ends the run.
_GRACE_S = 15.0
# Semaphores of killed processes tell nobody whose they are: tests beside this one have some for seconds.
_LEAK_DEADLINE_S = 12.0
_real_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    _start_what_lives_as_long_as_the_process()
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        config.stash[_real_stderr] = os.dup(2)


def _start_what_lives_as_long_as_the_process() -> None:
    """libuv opens one pair of pipes for all its loops, when the first one runs, and keeps it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))
    _start_blas()
    os.register_at_fork(after_in_parent=_start_blas)  # OpenBLAS ends its threads before a fork, and starts them late


def _start_blas() -> None:
    matrix = np.ones((256, 256))
    matrix @ matrix


def pytest_collection_finish() -> None:
    """The garbage collection before each leak check looks at what the tests make, not at all that is imported."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_real_stderr])


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests that ask for `loop_kind` run on every kind of loop, others on asyncio's."""
    return LOOPS if "loop_kind" in item.fixturenames else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    """One for all tests: else most of their time would go into imports. Hosts in processes of their own have theirs."""
    with keep_fork_server():
        yield


@pytest.fixture
def loop_kind(_asyncio_loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> str:
    """Name of the event loop that the test runs on; asking for it runs an async test once on each kind."""
    return next(name for name, factory in LOOPS.items() if factory is _asyncio_loop_factory)


@pytest.fixture(autouse=True)
def last_resort_deadline(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("timeout")
    timeout_s = float(marker.args[0] if marker else request.config.getini("timeout"))
    stderr = request.config.stash[_real_stderr]
    faulthandler.dump_traceback_later(timeout_s + _GRACE_S, exit=True, file=stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def no_leaks(last_resort_deadline: None) -> Iterator[None]:
    """Fails a test that leaves processes, descriptors, threads, shared memory or runtime directories behind."""
    before = Snapshot.take()
    yield
    assert_no_leaks(before, deadline_s=_LEAK_DEADLINE_S)
