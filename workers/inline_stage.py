"""Stages that stay in the coordinator: run as tasks of its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from remotemedia.core.exceptions import RemoteMediaError, WorkerIdentity
from remotemedia.workers.frame_errors import inline_error
from remotemedia.workers.stage import NodeFailure, Stage


async def run_inline(stage: Stage, identity: WorkerIdentity, fail: Callable[[RemoteMediaError], None]) -> None:
    """An inline stage as a task. Holds no reference to the pool."""
    try:
        await stage.run()
    except NodeFailure as failure:
        fail(inline_error(identity, failure.phase, failure.__cause__ or failure, failure.number))
    except RemoteMediaError as error:
        fail(error)
    except BaseException as error:
        task = asyncio.current_task()
        if task is None or not task.cancelling():  # else the pool closes; a node may also cancel itself, though
            fail(inline_error(identity, "process", error, stage.board.frame))
        raise
