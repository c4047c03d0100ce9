"""Callers that leave in the middle: break, exceptions, pools dropped without close, interpreters that just end."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from contextlib import aclosing

import pytest
from fault_nodes import AsyncPass, Pass
from fault_tools import Place, Script, until

from remotemedia.core.node import Node
from remotemedia.runtime import execute_pipeline
from remotemedia.workers.pool import WorkerPool

RunScript = Callable[..., Script]


@pytest.mark.parametrize("outputs", [0, 1, 30])
async def test_break_out_of_a_stream_and_go_on(outputs: int, place: Place, loop_kind: str) -> None:
    async with WorkerPool([Pass(), AsyncPass(), Pass()], places=("multiprocess", "inline", "multiprocess")) as pool:
        for _ in range(3):
            async with aclosing(pool.stream(itertools.count())) as stream:
                if outputs:
                    async for output in stream:
                        if output == outputs:
                            break
            assert await pool.process("after") == "after"
        assert [output async for output in pool.stream(range(50))] == list(range(50))


async def test_an_exception_in_the_body_comes_out_unchanged(place: Place) -> None:
    error = KeyError("the caller's own")

    async def use() -> None:
        async with WorkerPool([Pass()]) as pool, aclosing(pool.stream(itertools.count())) as stream:
            async for _ in stream:
                raise error

    with pytest.raises(KeyError) as caught:
        await use()
    assert caught.value is error
    assert caught.value.__cause__ is None


async def test_a_source_that_raises_is_the_callers_error(place: Place) -> None:
    def failing():
        yield from range(5)
        raise KeyError("the caller's own")

    async def failing_async():
        for number in failing():
            yield number

    for source in (failing, failing_async):
        with pytest.raises(KeyError, match="the caller's own"):
            await execute_pipeline([Pass(), Pass()], source(), executor="multiprocess")


async def test_a_pool_goes_on_after_a_source_that_raised(place: Place) -> None:
    def failing():
        yield from range(5)
        raise KeyError("the caller's own")

    async with WorkerPool([Pass()]) as pool:
        with pytest.raises(KeyError):
            [output async for output in pool.stream(failing())]
        assert [output async for output in pool.stream(range(5))] == list(range(5))


@pytest.mark.filterwarnings("default::ResourceWarning")
@pytest.mark.parametrize("places", [("multiprocess", "multiprocess"), ("inline", "multiprocess")])
async def test_a_dropped_pool_is_collected_and_leaves_nothing(places: tuple[str, str], place: Place) -> None:
    nodes: list[Node] = [Pass(), Pass()]
    pool = WorkerPool(nodes, places=places)
    await pool.start()
    assert await pool.process(1) == 1
    with pytest.warns(ResourceWarning, match="was never closed"):  # noqa: PT031 - by the one or by the other
        del pool
        gc.collect()
    until(lambda: not place.leftovers(), "nothing left")


async def test_a_pool_that_was_never_started_needs_no_close(place: Place) -> None:
    pool = WorkerPool([Pass()])
    await pool.aclose()
    del pool
    WorkerPool([Pass()])
    gc.collect()


ENDS = """
import asyncio, os, sys, gc
from fault_nodes import *
from remotemedia.workers.pool import WorkerPool

async def main():
    global pool
    pool = WorkerPool([Pass(), AsyncPass()])
    await pool.start()
    assert await pool.process(1) == 1
    {body}

asyncio.run(main())
"""


@pytest.mark.parametrize("keep", ["pass", "del globals()['pool']; gc.collect()"])
def test_an_interpreter_that_ends_without_closing(keep: str, place: Place, run_script: RunScript) -> None:
    script = run_script(ENDS.format(body=keep))
    assert script.wait() == 0, script.stderr
    assert "ResourceWarning" in script.stderr
    assert "never closed" in script.stderr
    assert "Traceback" not in script.stderr
    place.expect_nothing_left()


def test_a_call_is_under_way_when_the_interpreter_ends(place: Place, run_script: RunScript) -> None:
    body = "global task; task = asyncio.ensure_future(pool.process(2)); await asyncio.sleep(0)"
    script = run_script(ENDS.format(body=body))
    assert script.wait() == 0, script.stderr
    assert "Traceback" not in script.stderr
    place.expect_nothing_left()


def test_sys_exit_in_the_body(place: Place, run_script: RunScript) -> None:
    script = run_script(ENDS.format(body="sys.exit(5)"))
    assert script.wait() == 5
    assert "Traceback" not in script.stderr
    place.expect_nothing_left()


def test_sys_exit_in_another_task(place: Place, run_script: RunScript) -> None:
    script = run_script("""
    import asyncio, sys
    from fault_nodes import *
    from remotemedia.workers.pool import WorkerPool

    async def leave():
        sys.exit(6)

    async def main():
        async with WorkerPool([Pass()]) as pool:
            asyncio.ensure_future(leave())
            async for _ in pool.stream(iter(int, 1)):
                pass

    asyncio.run(main())
    """)
    assert script.wait() == 6
    assert "ResourceWarning" not in script.stderr
    place.expect_nothing_left()


def test_an_exception_that_nobody_catches(place: Place, run_script: RunScript) -> None:
    script = run_script(ENDS.format(body="raise KeyError('the own')"))
    assert script.wait() == 1
    assert script.stderr.count("Traceback") == 1
    place.expect_nothing_left()


def test_os_exit_is_like_a_kill(place: Place, run_script: RunScript) -> None:
    script = run_script(ENDS.format(body="os._exit(7)"))
    assert script.wait() == 7
    until(lambda: not place.processes(), "no worker")
    follower = run_script(ENDS.format(body="await pool.aclose()"))
    follower.expect_success()
    place.expect_nothing_left()


def test_loop_closed_under_the_pool(place: Place, run_script: RunScript) -> None:
    script = run_script("""
    import asyncio
    from fault_nodes import *
    from remotemedia.workers.pool import WorkerPool

    loop = asyncio.new_event_loop()
    pool = WorkerPool([Pass()])
    loop.run_until_complete(pool.start())
    loop.close()
    del pool
    import gc
    gc.collect()
    print("collected")
    """)
    assert script.expect_success() == ["collected"]
    assert "Traceback" not in script.stderr
    place.expect_nothing_left()
