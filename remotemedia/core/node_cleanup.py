"""Cleaning a node up before it is sent: the rules around its `cleanup()`, and coroutines in a place without a loop."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

from remotemedia.core import pickle_report
from remotemedia.core.exceptions import SerializationError
from remotemedia.core.node import Node

_logger = logging.getLogger("remotemedia.serialization")


def announce(node: Node) -> bool:
    """To be called before `node.cleanup()`: warns if the node is initialized. Returns whether it is."""
    if node.is_initialized:
        _logger.warning("node %r is initialized: cleanup() runs now, initialize() again where it is sent", node.name)
        return True
    return False


def judge(node: Node, was_initialized: bool, error: Exception | SystemExit) -> None:
    """What an exception of `node.cleanup()` means: raises SerializationError, or lets it pass."""
    if isinstance(error, AttributeError) and not was_initialized:
        # cleanup() releases what initialize() would have made; that it is not there is no reason to refuse the node.
        _logger.debug("cleanup() of node %r, never initialized: %s", node.name, error)
        return
    raise SerializationError(
        node.name,
        f"its cleanup() raised {pickle_report.describe(error)}",
        "let cleanup() succeed whenever it is called, also twice and without initialize()",
    ) from error


def run_to_end(awaitable: Awaitable[Any]) -> None:
    """Await in a loop of its own, in a thread of its own: works whether or not this thread runs a loop."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    async def wait() -> None:
        await awaitable

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="remotemedia-await") as executor:
        executor.submit(copy_context().run, asyncio.run, wait()).result()
