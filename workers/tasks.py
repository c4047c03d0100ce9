"""Waiting for tasks that must come to their end."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def finish(task: asyncio.Future[T]) -> T:
    """Wait until `task` has ended, however often we are cancelled meanwhile; only then the cancellation goes on.

    Gives its result, raises its error; that is the cause of the cancellation where there are both. Several may wait for
    one task.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError from task.exception()
    return task.result()
