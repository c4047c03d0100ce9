"""A live page about a running pool, for a browser on this machine: see WorkerPool.serve_status and docs/status.md."""

from __future__ import annotations

from remotemedia.status.server import StatusServer

__all__ = ["StatusServer"]
