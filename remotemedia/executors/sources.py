"""Where a pipeline's inputs come from. Shared by the executors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from typing import Any

from remotemedia.core.calling import takes_input
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.executors.base import Source

_SINGLE_ITEMS = (str, bytes, bytearray, memoryview, Mapping)


def check_source(source: Source) -> None:
    """Raise TypeError for what is no series of items; None (no input) passes."""
    if source is None:
        return
    if isinstance(source, _SINGLE_ITEMS) or not isinstance(source, (Iterable, AsyncIterable)):
        raise TypeError(
            f"the input must be an iterable or async iterable of items, not {type(source).__name__}; "
            "put a single item into a list: [item]"
        )


def has_own_sources(graph: Graph, source: Source) -> bool:
    """Whether the graph's first nodes make the items (generators that take nothing) and not `source`.

    Raises ConfigurationError if there is an input that nobody takes, or if only some of the first nodes take one.
    """
    heads = [(graph.ids[i], takes_input(graph.nodes[i])) for i in graph.sources]
    makers = [node_id for node_id, takes in heads if not takes]
    takers = [node_id for node_id, takes in heads if takes]
    if makers and source is not None:
        raise ConfigurationError(
            f"the pipeline was given an input, but its first node {makers[0]!r} makes its own items (process takes "
            "no argument): call it without an input, or let process take one"
        )
    if makers and takers:
        raise ConfigurationError(
            f"of the first nodes, {makers[0]!r} makes its own items but {takers[0]!r} waits for an input: "
            "connect it to another node, or let both be sources"
        )
    return bool(makers)


async def items_of(source: Source) -> AsyncGenerator[Any, None]:
    """The items of `source`; a single None if there is none. Raises TypeError as `check_source` does."""
    check_source(source)
    if source is None:
        yield None
    elif isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item
