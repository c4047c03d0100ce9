"""Too few file descriptors: whatever the limit, the pool works or says why not, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fault_tools import Place, Script

HOST = """
import asyncio, gc, os, resource, sys
from fault_nodes import *
from remotemedia.core.exceptions import RemoteMediaError
from remotemedia.workers.pool import WorkerPool

async def use():
    async with WorkerPool([Pass(), AsyncPass()]) as pool:
        assert [output async for output in pool.stream(range(20))] == list(range(20))

asyncio.run(use())  # what stays open for the life of the process is open after this
gc.collect()

def descriptors():
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
successes = 0
limit = descriptors()[-1] + 1 + {first}
while successes < 3:
    loop = asyncio.new_event_loop()
    before = descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        loop.run_until_complete(use())
        outcome = "works"
        successes += 1
    except RemoteMediaError as error:
        outcome = type(error).__name__
        text = str(error)
        assert any(word in text for word in ("descriptor", "Too many open files", "EMFILE", "ulimit")), text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    gc.collect()
    assert descriptors() == before, (limit, outcome)
    loop.close()
    print(limit, outcome, flush=True)
    limit += {step}
print("done")
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_every_limit(first: int, place: Place, run_script: Callable[..., Script]) -> None:
    script = run_script(HOST.format(first=first, step=4))
    lines = script.expect_success()
    assert lines[-1] == "done"
    assert "Traceback" not in script.stderr
    assert {line.split()[1] for line in lines[:-1]} > {"works"}  # and others: the limits began low enough
    place.expect_nothing_left()
