"""`sys.exit` in a node is an exception of the node, not the end of its worker."""

from __future__ import annotations

import pytest
from fault_nodes import (
    Faulty,
    FaultyAsyncGenerator,
    FaultyCoroutine,
    FaultyGenerator,
    FaultyOnLoad,
    FaultyStreaming,
    sys_exit,
)
from fault_tools import Place

from remotemedia.core.exceptions import NodeInitializeError, NodeNotLoadable, NodeProcessError, WorkerError
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool


async def failure(node: Node) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        async with WorkerPool([node]) as pool:
            [output async for output in pool.stream(range(5))]
    return caught.value


@pytest.mark.parametrize("kind", [Faulty, FaultyCoroutine, FaultyGenerator, FaultyAsyncGenerator, FaultyStreaming])
async def test_in_process(kind: type[Faulty], place: Place) -> None:
    error = await failure(kind(sys_exit, at=2))
    assert type(error) is NodeProcessError
    assert isinstance(error.__cause__, SystemExit)
    assert error.__cause__.code == 4
    assert error.frame == 2
    assert "in sys_exit" in error.remote_traceback


async def test_in_flush(place: Place) -> None:
    error = await failure(Faulty(sys_exit, phase="flush"))
    assert type(error) is NodeProcessError
    assert isinstance(error.__cause__, SystemExit)


async def test_in_initialize(place: Place) -> None:
    error = await failure(Faulty(sys_exit, phase="initialize"))
    assert type(error) is NodeInitializeError
    assert isinstance(error.__cause__, SystemExit)


async def test_while_it_is_loaded(place: Place) -> None:
    error = await failure(FaultyOnLoad(sys_exit))
    assert type(error) is NodeNotLoadable
    assert isinstance(error.__cause__, SystemExit)


async def test_in_cleanup(place: Place) -> None:
    async with WorkerPool([Faulty(sys_exit, phase="cleanup")]) as pool:
        assert await pool.process(1) == 1
    (error,) = pool.cleanup_errors
    assert error.node == "faulty"
    assert "SystemExit" in str(error)
