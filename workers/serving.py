"""The pool's door to its status page, which is no part of it: a page looks at a pool from outside, as any observer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from remotemedia.workers.running import PoolPlace


class StatusPage(Protocol):
    """A status page that is being served; see remotemedia.status.StatusServer."""

    port: int

    @property
    def url(self) -> str: ...

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


def serve_status(pool_id: str, path: Path, port: int, host: str, allowed_hosts: Sequence[str]) -> StatusPage:
    """Raises ConfigurationError if the port cannot be had."""
    from remotemedia.status import StatusServer

    return StatusServer(PoolPlace(pool_id, path, alive=True), port, host, allowed_hosts=allowed_hosts)
