"""WorkerPool without asyncio: `with`, `run`, `map`, `call`, `close`; from one thread and from many."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from remotemedia.config import ChannelConfig, PoolConfig, Timeouts
from remotemedia.core.exceptions import NodeInitializeError, NodeProcessError, PipelineError, PoolClosed
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool
from tests.nodes import Add, AsyncAdd, Count, FailAt, Hold, Journal, Keep, Repeat

TIGHT = PoolConfig(channel=ChannelConfig(queue_frames=2))
DEADLINE_S = 30.0
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of loop that the pool's thread runs: a policy decides what `new_event_loop` gives."""
    monkeypatch.setattr(asyncio, "new_event_loop", LOOPS[request.param])
    return str(request.param)


def chain() -> list[Any]:
    """A worker, a stage in this process, another worker."""
    return [Add(1, name="a"), AsyncAdd(10, name="b", executor="inline"), AsyncAdd(100, name="c")]


def plain(count: int) -> Iterator[int]:
    yield from range(count)


def gone(thread: threading.Thread) -> None:
    """Returns when the kernel's thread has ended, which is a little later than Python's."""
    thread.join(DEADLINE_S)
    task = Path(f"/proc/self/task/{thread.native_id}")
    while task.exists():
        os.sched_yield()


@pytest.mark.parametrize("config", [PoolConfig(), TIGHT])
def test_one_at_a_time_and_many(each_loop: str, config: PoolConfig) -> None:
    with WorkerPool(chain(), config=config) as pool:
        assert type(pool._loop).__module__.split(".")[0] == each_loop
        assert [pool.run(value) for value in range(5)] == [111, 112, 113, 114, 115]
        for source in (range, plain, lambda count: list(range(count))):
            for count in (0, 1, 15, 16, 17, 700):
                assert list(pool.map(source(count))) == list(range(111, 111 + count))
        assert [worker.frames for worker in pool.snapshot().workers] == [5 + 3 * 749] * 3


def test_an_async_source() -> None:
    async def waiting(count: int) -> Any:
        for value in range(count):
            await asyncio.sleep(0)
            yield value

    with WorkerPool([Add(1)]) as pool:
        assert list(pool.map(waiting(50))) == list(range(1, 51))


@pytest.mark.parametrize("config", [PoolConfig(), TIGHT])
def test_no_output_several_outputs_and_those_at_the_end(config: PoolConfig) -> None:
    with WorkerPool([Keep(97), Repeat(40)], config=config) as pool:
        assert pool.run(1) is None
        assert pool.run(97) == [(97, i) for i in range(40)]
        # far more inputs without an output, and outputs of one input, than may be under way
        assert list(pool.map(range(500))) == [(v, i) for v in range(0, 500, 97) for i in range(40)]
    with WorkerPool([Hold("held")], config=config) as pool:
        assert list(pool.map(range(300))) == [list(range(300))]
        assert list(pool.map([3])) == [[3]]


def test_the_pipelines_own_source() -> None:
    with WorkerPool([Count(300), Add(1)]) as pool:
        assert list(pool.map()) == list(range(1, 301))


def test_the_source_is_iterated_in_the_callers_thread_and_held_back() -> None:
    given: list[int] = []
    threads = set()

    def source() -> Iterator[int]:
        for value in range(1000):
            threads.add(threading.current_thread())
            given.append(value)
            yield value

    with WorkerPool([Add(0), Add(0)], config=TIGHT) as pool:
        most = 0
        for taken, output in enumerate(pool.map(source())):
            assert output == taken
            most = max(most, len(given) - taken)
        assert taken == 999
    # Two in each of three channels, one in each node; two on either side of the border between the threads, one at its
    # gate. While that one waits for room the pool's contents may come out and be queued, now and then twice.
    assert most <= 5 * (3 * 2 + 2 + 2 * 2 + 1)
    assert threads == {threading.current_thread()}


def test_outputs_are_views_until_a_copy_is_asked_for() -> None:
    frames = [np.full((256, 256), i, np.float32) for i in range(60)]
    with WorkerPool([Add(np.float32(1))]) as pool:
        views = list(pool.map(frames))
        copies = list(pool.map(frames, copy=True))
    assert not views[0].flags.owndata  # when many are held the later ones are copies, so that the pool can go on
    for number, (view, copied) in enumerate(zip(views, copies, strict=True)):
        assert not view.flags.writeable
        assert copied.flags.owndata
        assert (view == number + 1).all()
        assert (copied == number + 1).all()


@pytest.mark.parametrize("config", [PoolConfig(), TIGHT])
def test_leaving_early_is_in_nobodys_way(each_loop: str, config: PoolConfig) -> None:
    with WorkerPool(chain(), config=config) as pool:
        for length in (1, 2, 7, 40):
            for output in pool.map(plain(10_000)):
                if output == 110 + length:
                    break
            assert pool.run(5) == 116
        with closing(pool.map(plain(10_000))) as outputs:
            assert next(outputs) == 111
        assert list(outputs) == []
        never_begun = pool.map(plain(10))
        del never_begun
        unread = pool.map(plain(10_000))
        assert next(unread) == 111
        assert list(pool.map(range(30))) == list(range(111, 141))  # beside one that nobody reads
        assert next(unread) == 112
        del unread


def test_errors_come_out_where_they_belong() -> None:
    own = KeyError("source")

    def broken() -> Iterator[int]:
        yield 1
        raise own

    with WorkerPool(chain()) as pool:
        with pytest.raises(KeyError) as caught:
            list(pool.map(broken()))
        assert caught.value is own
        with pytest.raises(TypeError, match="not iterable"):
            next(pool.map(3))  # type: ignore[arg-type]
        with pytest.raises(NodeProcessError) as failed:
            pool.run("text")
        assert isinstance(failed.value.__cause__, TypeError)
        assert failed.value.node == "a"


def test_the_error_of_a_node_comes_after_the_outputs_before_it() -> None:
    with WorkerPool([Add(0), FailAt(7, ValueError("seven"))]) as pool:
        seen = []
        with pytest.raises(NodeProcessError, match="seven") as caught:  # noqa: PT012 - outputs first, then the error
            for output in pool.map(range(20)):
                seen.append(output)  # noqa: PERF402 - what came before must be there
        assert seen == list(range(len(seen)))
        assert caught.value.frame == 7


def test_many_threads_at_once(each_loop: str) -> None:
    with WorkerPool(chain(), config=TIGHT) as pool, ThreadPoolExecutor(8) as threads:
        maps = [threads.submit(lambda: list(pool.map(range(200)))) for _ in range(3)]
        assert list(threads.map(pool.run, range(100))) == list(range(111, 211))
        assert [future.result() for future in maps] == [list(range(111, 311))] * 3


class DeathSignal(Node):
    """Seconds until the alarm that the death of the thread that started this worker would have set; 0: none."""

    def process(self, data: Any) -> float:
        return signal.getitimer(signal.ITIMER_REAL)[0]


def test_the_thread_that_made_the_pool_may_end() -> None:
    made: list[WorkerPool] = []
    maker = threading.Thread(target=lambda: made.append(WorkerPool([DeathSignal(), Add(0)]).__enter__()))
    maker.start()
    gone(maker)
    with closing(made.pop()) as pool:
        assert list(pool.map(range(20))) == [0.0] * 20
        assert {worker.state for worker in pool.snapshot().workers} == {"ready"}


class WaitsForEver(Node):
    """Rings, by making a file, when it has got its first input; never answers."""

    def __init__(self, bell: str) -> None:
        super().__init__()
        self.bell = bell

    def process(self, data: Any) -> None:
        Path(self.bell).touch()
        while True:
            threading.Event().wait()


def test_closing_wakes_all_who_wait(tmp_path: Path) -> None:
    bell = tmp_path / "bell"
    pool = WorkerPool([WaitsForEver(str(bell))], config=PoolConfig(timeouts=Timeouts(stop_s=0.2))).__enter__()
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(pool.run, 1), threads.submit(lambda: list(pool.map([1])))]
        while not bell.exists() or len(pool._exchange._owners) < 2:  # type: ignore[union-attr]
            os.sched_yield()
        pool.close()
        pool.close()
        assert [type(future.exception(DEADLINE_S)) for future in waiting] == [PoolClosed] * 2


def test_call_runs_any_coroutine_in_the_pools_loop() -> None:
    async def where(*, word: str) -> tuple[str, int]:
        assert asyncio.get_running_loop() is pool._loop
        return word, await pool.process(1)

    async def fails() -> None:
        raise LookupError("own")

    with WorkerPool([Add(1)]) as pool:
        assert pool.call(where, word="here") == ("here", 2)
        assert pool.call(pool.process, 2) == 3
        with pytest.raises(LookupError, match="own"):
            pool.call(fails)
        with pytest.raises(LookupError, match="no coroutine"):
            pool.call(raises_at_once)


def raises_at_once() -> Any:
    raise LookupError("no coroutine was made")


def test_before_and_after_its_life() -> None:
    pool = WorkerPool([Add(1)])
    pool.close()
    for use in (lambda: pool.run(1), lambda: pool.map([1]), lambda: pool.call(pool.process, 1)):
        with pytest.raises(PipelineError, match="not started"):
            use()
    with pool:
        assert pool.run(1) == 2
        outputs = pool.map(range(1000))
        assert next(outputs) == 1
    with pytest.raises(PoolClosed):
        list(outputs)
    pool.close()
    for use in (lambda: pool.run(1), lambda: list(pool.map([1])), lambda: pool.call(pool.process, 1)):
        with pytest.raises(PoolClosed):
            use()
    with pytest.raises(PipelineError, match="started before"), pool:
        pass


def test_a_start_that_fails_leaves_nothing() -> None:
    """What is left, the loop's thread as well, would be found after the test."""
    journal: list[str] = []
    nodes = [Add(1), Journal("j", journal, fails_in="initialize")]
    pool = WorkerPool(nodes, places=["multiprocess", "inline"])
    with pytest.raises(NodeInitializeError, match="broken on purpose"), pool:
        pytest.fail("it has started")
    assert journal == ["initialize j", "cleanup j"]


def test_an_exception_in_the_body_comes_out_unchanged() -> None:
    error = KeyError("own")
    with pytest.raises(KeyError) as caught, WorkerPool([Add(1)]) as pool:  # noqa: PT012 - the body raises
        for _ in pool.map(iter(int, 1)):
            raise error
    assert caught.value is error
    assert caught.value.__cause__ is None


async def test_in_a_running_loop_it_shows_the_async_form(loop_kind: str) -> None:
    with pytest.raises(PipelineError, match=r"async with WorkerPool\(\.\.\.\) as pool:"), WorkerPool([Add(1)]):
        pass
    async with WorkerPool([Add(1)]) as pool:
        with pytest.raises(PipelineError, match=r"await pool\.process\(value\)"):
            pool.run(1)
        with pytest.raises(PipelineError, match=r"async for output in pool\.stream\(source\)"):
            pool.map([1])
        with pytest.raises(PipelineError, match=r"await function"):
            pool.call(pool.process, 1)
        with pytest.raises(PipelineError, match=r"await pool\.aclose\(\)"):
            pool.close()
        assert await pool.process(1) == 2


def test_a_node_in_this_process_that_exits_does_not_take_the_loop_along() -> None:
    class Leaves(Node):
        def process(self, data: Any) -> Any:
            raise SystemExit(3)

    with WorkerPool([Add(1), Leaves(executor="inline")]) as pool:
        with pytest.raises(NodeProcessError, match="SystemExit"):
            pool.run(1)
        assert pool.call(asyncio.sleep, 0, "the loop runs") == "the loop runs"


@pytest.mark.filterwarnings("default::ResourceWarning")
@pytest.mark.parametrize("where", ["here", "in its own thread"])
def test_a_dropped_pool_is_collected_and_leaves_nothing(where: str) -> None:
    """Its thread, its workers and its memory would be found after the test."""
    pools = [WorkerPool([Add(1)]).__enter__()]
    assert pools[0].run(1) == 2
    portal: Any = pools[0]._portal

    def drop() -> None:
        pools.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="was never closed"):  # noqa: PT031 - in the one place or the other
        if where == "here":
            drop()
        else:
            portal.loop.call_soon_threadsafe(drop)
        gone(portal._thread)
