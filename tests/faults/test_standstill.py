"""Branches that wait for each other for ever: an error that says so, instead of silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from remotemedia import ChannelConfig, Node, PipelineStalled, PoolConfig, RestartPolicy, Timeouts, WorkerPool
from remotemedia.core.graph import Graph

_OUTPUTS = 40
_SMALL, _LARGE = ChannelConfig(queue_frames=4), ChannelConfig(queue_frames=_OUTPUTS + 2)


class Spray(Node):
    def process(self, value: int) -> Iterator[int]:
        yield from range(value, value + _OUTPUTS)


class Plus(Node):
    def process(self, value: int) -> int:
        return value + 1


async def _run(config: PoolConfig) -> list[Any]:
    """Both branches get all outputs of one input; the join takes those of `left` before those of `right`."""
    names = ("spray", "left", "right", "join")
    nodes = (Spray(name="spray"), *(Plus(name=name) for name in names[1:]))
    graph = Graph(nodes, names, ((0, 1), (0, 2), (1, 3), (2, 3)))
    async with WorkerPool(graph, config=config) as pool:
        return [output async for output in pool.stream([100])]


async def test_branches_whose_channels_are_too_small_for_one_input() -> None:
    with pytest.raises(PipelineStalled, match="queue_frames=4") as caught:
        await _run(PoolConfig(channel=_SMALL, timeouts=Timeouts(heartbeat_s=0.2)))
    assert "spray" in caught.value.waiting


@pytest.mark.parametrize(
    "config", [PoolConfig(channel=_LARGE), PoolConfig(channel=_SMALL, restart=RestartPolicy.never())]
)
async def test_large_channels_or_nothing_that_is_kept(config: PoolConfig) -> None:
    outputs = await _run(config)
    once = [value + 2 for value in range(100, 100 + _OUTPUTS)]
    assert outputs == once + once
