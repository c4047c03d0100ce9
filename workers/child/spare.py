"""A process that waits to become a worker, with everything imported that a worker needs."""

from __future__ import annotations

import marshal
import os
from typing import Any

from remotemedia.workers.child import worker as _imported_beforehand  # noqa: F401


def orders(orders_fd: int) -> dict[str, Any] | None:
    """The boot data of the worker that this process is to be; None: it is not needed any more."""
    with os.fdopen(orders_fd, "rb") as pipe:
        data = pipe.read()
    return marshal.loads(data) if data else None  # noqa: S302 - from the coordinator alone
