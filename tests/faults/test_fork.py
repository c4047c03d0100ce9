"""The host forks while it has a pool: the copy can do no harm, and is told so when it tries to use the pool."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fault_tools import Place, Script

RunScript = Callable[..., Script]

HOST = """
import asyncio, gc, os, sys
from fault_nodes import *
from remotemedia.core.exceptions import PoolClosed
from remotemedia.workers.pool import WorkerPool

loop = asyncio.new_event_loop()
pool = WorkerPool([Pass(), AsyncPass(), Pass()], places=("multiprocess", "inline", "multiprocess"))
loop.run_until_complete(pool.start())
assert loop.run_until_complete(pool.process(1)) == 1
sys.stdout.flush()
if not (copy := os.fork()):
    {child}
status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
print("copy", status, flush=True)

async def go_on():
    assert await pool.process(2) == 2
    assert [output async for output in pool.stream(range(100))] == list(range(100))
    await pool.aclose()

loop.run_until_complete(go_on())
loop.close()
print("closed")
"""

USES = """
    try:
        asyncio.new_event_loop().run_until_complete(pool.process(3))
    except PoolClosed as error:
        assert "forked" in str(error), error
        os._exit(0)
    os._exit(1)"""
COLLECTS = """
    del pool
    gc.collect()
    os._exit(0)"""
EXITS = """
    sys.exit(0)"""
CLOSES = """
    asyncio.new_event_loop().run_until_complete(pool.aclose())
    sys.exit(0)"""
CRASHES = """
    os.abort()"""


@pytest.mark.parametrize(
    ("child", "status"),
    [(USES, 0), (COLLECTS, 0), (EXITS, 0), (CLOSES, 0), (CRASHES, -6)],
    ids=["uses", "collects", "exits", "closes", "crashes"],
)
def test_a_forked_copy_does_no_harm(child: str, status: int, place: Place, run_script: RunScript) -> None:
    script = run_script(HOST.format(child=child))
    assert script.expect_success() == [f"copy {status}", "closed"]
    assert "never closed" not in script.stderr
    place.expect_nothing_left()


def test_inside_a_running_loop(place: Place, run_script: RunScript) -> None:
    script = run_script("""
    import asyncio, gc, os
    from fault_nodes import *
    from remotemedia.workers.pool import WorkerPool

    async def main():
        async with WorkerPool([Pass(), Pass()]) as pool:
            if not (copy := os.fork()):
                gc.collect()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
            assert [output async for output in pool.stream(range(100))] == list(range(100))

    asyncio.run(main())
    print("closed")
    """)
    assert script.expect_success() == ["closed"]
    place.expect_nothing_left()


def test_a_copy_that_leaves_the_with_block(place: Place, run_script: RunScript) -> None:
    script = run_script("""
    import asyncio, os, sys
    from fault_nodes import *
    from remotemedia.workers.pool import WorkerPool

    async def main():
        async with WorkerPool([Pass(), Pass()]) as pool:
            if not (copy := os.fork()):
                try:
                    await pool.__aexit__(None, None, None)
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
            assert [output async for output in pool.stream(range(100))] == list(range(100))

    asyncio.run(main())
    print("closed")
    """)
    assert script.expect_success() == ["closed"]
    place.expect_nothing_left()


def test_a_node_that_forks(place: Place, run_script: RunScript) -> None:
    """The copy of a worker must neither speak for the worker nor take it along."""
    script = run_script("""
    import asyncio, os
    from fault_nodes import *
    from remotemedia.runtime import run_pipeline

    class Forks(Pass):
        def process(self, data):
            if not (copy := os.fork()):
                raise SystemExit(0) if data % 2 else os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) + data

    print(*run_pipeline([Pass(), Forks(), Pass()], [0, 2, 4], executor="multiprocess"))
    """)
    assert script.expect_success() == ["0 2 4"]
    place.expect_nothing_left()


SYNC_HOST = """
import gc, os, sys
from fault_nodes import *
from remotemedia import PoolClosed, WorkerPool

with WorkerPool([Pass(), AsyncPass(), Pass()], places=("multiprocess", "inline", "multiprocess")) as pool:
    outputs = pool.map(range(1000))
    assert [next(outputs), pool.run(1)] == [0, 1]
    sys.stdout.flush()
    if not (copy := os.fork()):
        {child}
    status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    print("copy", status, flush=True)
    assert pool.run(2) == 2
    assert list(outputs) == list(range(1, 1000))
    assert list(pool.map(range(100))) == list(range(100))
print("closed")
"""

SYNC_USES = """
        refused = 0
        uses = (lambda: pool.run(3), lambda: list(pool.map([3])), lambda: list(outputs),
                lambda: pool.call(pool.process, 3))
        for use in uses:
            try:
                use()
            except PoolClosed as error:
                refused += "forked" in str(error)
        os._exit(refused)"""
SYNC_COLLECTS = """
        del pool, outputs
        gc.collect()
        os._exit(0)"""
SYNC_LEAVES = """
        print("leaves", flush=True)
        raise SystemExit(0)"""
SYNC_CLOSES = """
        pool.close()
        outputs.close()
        sys.exit(0)"""
SYNC_CRASHES = """
        os.abort()"""


@pytest.mark.parametrize(
    ("child", "said"),
    [
        (SYNC_USES, ["copy 4"]),
        (SYNC_COLLECTS, ["copy 0"]),
        (SYNC_LEAVES, ["leaves", "copy 0"]),
        (SYNC_CLOSES, ["copy 0"]),
        (SYNC_CRASHES, ["copy -6"]),
    ],
    ids=["uses", "collects", "leaves the block", "closes", "crashes"],
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_forked_copy_of_a_pool_with_a_loop_of_its_own(
    loop: str, child: str, said: list[str], place: Place, run_script: RunScript
) -> None:
    source = f"import asyncio, {loop}\nasyncio.new_event_loop = {loop}.new_event_loop\n"
    script = run_script(source + SYNC_HOST.format(child=child))
    assert script.expect_success() == [*said, "closed"]
    assert "never closed" not in script.stderr
    place.expect_nothing_left()
