"""What workers log and print, handed to the coordinator's logging with node, worker, pid and generation."""

from __future__ import annotations

import logging
import sys
from typing import Literal

from remotemedia.core.exceptions import WorkerIdentity
from remotemedia.ipc.messages import LogRecord


def pass_on_record(record: LogRecord, worker: WorkerIdentity) -> None:
    """A log record of a worker, with its original time, as if it had been logged here."""
    logger = logging.getLogger(record.logger)
    if not logger.isEnabledFor(record.level):
        return
    ours = _record(logger, record.level, record.text, worker)
    ours.created = record.time
    ours.msecs = record.time % 1 * 1000
    ours.exc_text = record.exc_text
    logger.handle(ours)


def pass_on_line(stream: Literal["stdout", "stderr"], text: str, worker: WorkerIdentity) -> None:
    """A line that a worker printed: a record of the node's logger; on our own stdout or stderr if nobody configured
    logging.
    """
    logger = logging.getLogger(f"remotemedia.node.{worker.node}")
    if not _is_listened_to(logger):
        print(f"[{worker.node}] {text}", file=sys.stdout if stream == "stdout" else sys.stderr, flush=True)
        return
    level = logging.INFO if stream == "stdout" else logging.WARNING
    if logger.isEnabledFor(level):
        logger.handle(_record(logger, level, text, worker))


def pass_on_stacks(stacks: str, worker: WorkerIdentity) -> None:
    """The stacks of a worker that is slow: one record of the node's logger, and nothing where that goes nowhere."""
    logger = logging.getLogger(f"remotemedia.node.{worker.node}")
    if logger.isEnabledFor(logging.WARNING):
        logger.handle(_record(logger, logging.WARNING, f"stacks of {worker}:\n{stacks}", worker))


def _is_listened_to(logger: logging.Logger) -> bool:
    """Whether somebody configured logging; the NullHandler that libraries put on their own logger does not count."""
    at: logging.Logger | None = logger
    while at is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in at.handlers):
            return True
        at = at.parent if at.propagate else None
    return False


def _record(logger: logging.Logger, level: int, text: str, worker: WorkerIdentity) -> logging.LogRecord:
    facts = {
        "node": worker.node,
        "worker_id": worker.worker_id,
        "worker_pid": worker.pid,
        "generation": worker.generation,
    }
    return logger.makeRecord(logger.name, level, f"<worker {worker.worker_id}>", 0, text, (), None, extra=facts)
