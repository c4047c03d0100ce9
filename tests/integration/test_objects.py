"""Every kind of value passes through a worker, inside a graph with stages in this process, unchanged."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from remotemedia.core.exceptions import NodeProcessError, SerializationError
from remotemedia.core.node import Node
from remotemedia.nodes import PassThroughNode
from remotemedia.workers.pool import WorkerPool
from tests.conformance.values import DTYPES, array_of, arrays, objects, same


def everything() -> dict[str, Any]:
    return {**arrays(), **objects(), **{f"dtype {dtype}": array_of(dtype) for dtype in DTYPES}}


@pytest.mark.parametrize("places", [["multiprocess"], ["multiprocess", "inline", "multiprocess"]])
async def test_values_come_back_as_they_went(places: list[str]) -> None:
    nodes = [PassThroughNode(name=f"n{index}") for index in range(len(places))]
    async with WorkerPool(nodes, places=places) as pool:
        for kind, value in everything().items():
            if kind in {"mark", "none"}:  # no output, for a node
                continue
            assert same(await pool.process(value), value), kind


async def test_what_cannot_travel_is_refused_where_it_was_given() -> None:
    async with WorkerPool([PassThroughNode()]) as pool:
        with pytest.raises(SerializationError, match="cannot be pickled"):
            await pool.process(x for x in range(3))
        assert await pool.process(1) == 1


async def test_what_a_node_gives_and_cannot_travel_is_an_error_of_that_node() -> None:
    class Bad(Node):
        def process(self, data: Any) -> Any:
            return {"lock": threading.Lock(), "data": data}

    async with WorkerPool([Bad(), PassThroughNode()]) as pool:
        with pytest.raises(NodeProcessError, match="cannot be pickled") as caught:
            await pool.process(b"x")
        assert caught.value.node == "Bad"
