"""The library's own log: structlog events that leave through stdlib logging, so nothing shows unless logging shows it.

Nothing is configured on import, and structlog is imported by the first event that somebody listens to. Where the
program has configured structlog, events run through its processors; else they are rendered as `event key=value ...`,
with the fields in `record.fields` for formatters that want them apart.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any


class EventLogger:
    """`logger.debug("pipeline started", nodes=3)` and the like; each method takes an event and its fields."""

    def __init__(self, name: str) -> None:
        self._stdlib = logging.getLogger(name)
        self._bound: Any = None

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """`exc_info=error` adds the traceback."""
        self._log(logging.ERROR, event, fields)

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if not self._stdlib.isEnabledFor(level):
            return
        if self._bound is None:
            self._bound = _wrap(self._stdlib)
        self._bound.log(level, event, **fields)


def get_logger(name: str) -> EventLogger:
    """The event logger over `logging.getLogger(name)`; names start with "remotemedia."."""
    return EventLogger(name)


def _wrap(logger: logging.Logger) -> Any:
    import structlog

    processors = None if structlog.is_configured() else [_render]
    return structlog.wrap_logger(logger, processors=processors, wrapper_class=structlog.stdlib.BoundLogger)


def _render(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> tuple[Any, ...]:
    """The last processor: positional and keyword arguments of the stdlib logger's method."""
    fields = {key: value for key, value in event_dict.items() if key not in ("event", "exc_info")}
    text = " ".join([str(event_dict["event"]), *(f"{key}={value!r}" for key, value in fields.items())])
    return (text,), {"exc_info": event_dict.get("exc_info"), "extra": {"fields": fields}}
