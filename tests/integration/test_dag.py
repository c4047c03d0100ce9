"""Any graph of any nodes gives the same outputs inline, in a pool without workers, and with nodes in workers.

That is where order can go wrong and where bounded channels can block each other for ever.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.core.graph import Graph
from remotemedia.executors.base import Execution, RunOptions
from remotemedia.executors.inline import InlineExecution
from remotemedia.executors.multiprocess import MultiprocessExecution
from tests.integration.stages import (
    INNER,
    SOURCES,
    AsyncCounter,
    Burst,
    Counter,
    Delay,
    Mixer,
    Pairs,
    Sieve,
    Sum,
)

_BLOCKED_S = 30.0
"""When a run takes as long as this, it is taken to be blocked for ever."""


@dataclass(frozen=True)
class Recipe:
    """A graph that can be made again and again with fresh nodes."""

    kinds: tuple[type[Mixer], ...]
    edges: tuple[tuple[int, int], ...]
    inputs: tuple[int, ...]
    queue_frames: int = 2
    remote: tuple[bool, ...] = ()
    streams: int = 1

    def graph(self) -> Graph:
        nodes = tuple(kind(index + 3) for index, kind in enumerate(self.kinds))
        return Graph(nodes, tuple(node.name for node in nodes), self.edges)

    @property
    def makes_its_own(self) -> bool:
        return self.kinds[0] in SOURCES

    def places(self) -> tuple[str, ...]:
        wanted = (*self.remote, *(False for _ in self.kinds))
        return tuple("multiprocess" if remote else "inline" for _, remote in zip(self.kinds, wanted, strict=False))


@st.composite
def recipes(draw: st.DrawFn, *, most_nodes: int = 6, most_remote: int = 0, own_sources: bool = False) -> Recipe:
    """Random graphs: every node but the first ones has some of the earlier nodes as inputs, in any order."""
    count = draw(st.integers(1, most_nodes))
    first = draw(st.integers(1, min(2, count)))
    heads = draw(st.lists(st.sampled_from(SOURCES if own_sources else INNER), min_size=first, max_size=first))
    rest = draw(st.lists(st.sampled_from(INNER), min_size=count - first, max_size=count - first))
    edges = [
        (source, target)
        for target in range(first, count)
        for source in draw(st.lists(st.integers(0, target - 1), min_size=1, max_size=3, unique=True))
    ]
    remote = draw(st.permutations([i < most_remote for i in range(count)]))
    return Recipe(
        kinds=(*heads, *rest),
        edges=tuple(draw(st.permutations(edges))),
        inputs=() if own_sources else tuple(draw(st.lists(st.integers(0, 1000), max_size=6))),
        queue_frames=draw(st.sampled_from([2, 3, 16])),
        remote=tuple(remote),
        streams=draw(st.integers(1, 2)),
    )


async def outputs(execution: Execution, recipe: Recipe) -> list[list[tuple[int, Any]]]:
    """What each stream gives."""
    async with execution:
        return [
            [
                (number, value)
                async for number, value in execution.stream(None if recipe.makes_its_own else list(recipe.inputs))
            ]
            for _ in range(recipe.streams)
        ]


async def check(recipe: Recipe) -> None:
    options = RunOptions(
        config=PoolConfig(channel=ChannelConfig(queue_frames=recipe.queue_frames, window_bytes=100_000))
    )
    graph = recipe.graph()
    expected = await outputs(InlineExecution(graph, graph.with_executor("inline"), options), recipe)
    pool = MultiprocessExecution(recipe.graph(), recipe.places(), options)
    async with asyncio.timeout(_BLOCKED_S):
        got = await outputs(pool, recipe)
    assert got == expected


def run_check(recipe: Recipe) -> None:
    asyncio.run(check(recipe))


DIAMOND = ((0, 1), (0, 2), (1, 3), (2, 3))
SHORTCUT = ((0, 1), (1, 2), (0, 2))
LATE_SHORTCUT = ((0, 2), (0, 1), (1, 2))

quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(recipe=recipes())
@example(Recipe((Burst, Mixer, Mixer), SHORTCUT, (5, 11, 17)))
@example(Recipe((Burst, Sieve, Mixer), LATE_SHORTCUT, (5, 11, 17)))
@example(Recipe((Burst, Burst, Sum, Mixer), DIAMOND, (5, 11, 17)))
@example(Recipe((Pairs,), (), (), streams=2))
def test_in_a_pool_without_workers(recipe: Recipe) -> None:
    run_check(recipe)


@quick
@given(recipe=recipes(own_sources=True))
@example(Recipe((Counter, AsyncCounter, Mixer), ((0, 2), (1, 2)), (), streams=2))
def test_in_a_pool_without_workers_from_own_sources(recipe: Recipe) -> None:
    run_check(recipe)


slow = settings(quick, max_examples=8)


@slow
@given(recipe=recipes(most_nodes=4, most_remote=2))
@example(Recipe((Burst, Mixer, Mixer), SHORTCUT, (5, 11, 17), remote=(True, True, True)))
@example(Recipe((Burst, Burst, Sum, Mixer), DIAMOND, (5, 11, 17), remote=(False, True, False, True), streams=2))
@example(Recipe((Mixer, Delay, Pairs), LATE_SHORTCUT, tuple(range(40)), remote=(True, True, True), streams=2))
def test_with_workers(recipe: Recipe) -> None:
    run_check(recipe)


@slow
@given(recipe=recipes(most_nodes=4, most_remote=2, own_sources=True))
@example(Recipe((Counter, AsyncCounter, Mixer), ((1, 2), (0, 2)), (), remote=(True, False, True), streams=2))
def test_with_workers_from_own_sources(recipe: Recipe) -> None:
    run_check(recipe)
