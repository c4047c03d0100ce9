"""Log records of a worker travel to the coordinator."""

from __future__ import annotations

import logging
from collections.abc import Callable

from remotemedia.ipc.messages import Log, LogRecord

_MAX_TEXT = 64 * 1024


class ForwardingHandler(logging.Handler):
    """Hands every record on as a control message."""

    def __init__(self, post: Callable[[Log], object]) -> None:
        super().__init__()
        self._post = post
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()[:_MAX_TEXT]
            trace = self._formatter.formatException(record.exc_info)[:_MAX_TEXT] if record.exc_info else None
            self._post(Log(records=[LogRecord(record.name, record.levelno, text, record.created, trace)]))
        except Exception:  # noqa: BLE001 - a broken record must not break the node that logs it
            self.handleError(record)


def forward_logs(post: Callable[[Log], object], level: int) -> None:
    """Send every record of at least `level` to the coordinator."""
    root = logging.getLogger()
    root.addHandler(ForwardingHandler(post))
    root.setLevel(level)
