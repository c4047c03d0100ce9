"""Initializing nodes in order and cleaning them up in reverse, whatever fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remotemedia.core.calling import maybe_await
from remotemedia.core.exceptions import NodeError, NodeInitializeError, WorkerIdentity
from remotemedia.core.node import Node
from remotemedia.core.remote_errors import described, raised
from remotemedia.executors.segment import FAILURES
from remotemedia.log import get_logger

_log = get_logger("remotemedia.executors")


class NodeLives:
    """The nodes whose initialization was begun. Each instance counts once, in however many places it stands."""

    def __init__(self) -> None:
        self._begun: list[tuple[str, Node]] = []

    async def initialize(self, identity: WorkerIdentity, node: Node) -> None:
        """Initialize the node unless it already is. Raises NodeInitializeError, which speaks of `identity`."""
        if any(begun is node for _, begun in self._begun):
            return
        self._begun.append((identity.node, node))
        if node.is_initialized:
            return
        _log.debug("initialize node", node=identity.node)
        try:
            await maybe_await(node.initialize())
        except FAILURES as error:
            raise NodeInitializeError(identity, raised("initialize", described(error))) from error
        node._is_initialized = True

    async def end(self, earlier: BaseException | None, first: Callable[[], Any] | None = None) -> None:
        """`first()`, then cleanup() of every node in reverse order.

        A failure is logged, and raised after all others were cleaned up (as NodeError) if there was no `earlier` error.
        An interrupt (cancellation, Ctrl-C) does not stop the clean-up either and is raised after it.
        """
        failure: BaseException | None = None
        interrupt: BaseException | None = None
        nodes, self._begun = self._begun[::-1], []
        steps: list[tuple[str, Callable[[], Any]]] = [(node_id, node.cleanup) for node_id, node in nodes]
        if first is not None:
            steps.insert(0, ("", first))
        for node_id, step in steps:
            try:
                await maybe_await(step())
            except FAILURES as error:
                failure = failure or _cleanup_error(node_id, error)
                _log.error("cleanup failed", node=node_id, error=described(error), exc_info=error)
            except BaseException as error:  # noqa: BLE001 - raised below, when every node has been cleaned up
                interrupt = error
        for _, node in nodes:
            node._is_initialized = False
        if interrupt is not None:
            raise interrupt
        if failure is not None and earlier is None:
            raise failure


def _cleanup_error(node_id: str, error: BaseException) -> BaseException:
    if not node_id:
        return error  # of the step before the clean-up: it is what it is
    told = NodeError(node_id, raised("cleanup", described(error)))
    told.__cause__ = error
    return told
