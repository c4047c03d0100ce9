"""Nodes as bytes and back: cleanup first, a cap on the size, and a precise report of what does not travel.

    header   magic, version of this format, Python version, length of the name      (see _HEADER)
    name     of the node, UTF-8, so that a node that fails to load can still be named
    pickle   cloudpickle, protocol 5

The cap holds while writing: what is pickled is kept as references until all of it is known to fit, then joined, which
is the one copy there is (see node_pickler).
"""

from __future__ import annotations

import heapq
import inspect
import logging
import pickle
import struct
import sys
from collections.abc import Iterator
from time import monotonic
from typing import Any

from remotemedia.core import node_cleanup, pickle_report
from remotemedia.core.exceptions import SerializationError, SizeLimitError
from remotemedia.core.node import Node
from remotemedia.core.node_pickler import Chunks, Counter, Meter, Pickler, StopPickling, Tracer, try_pickle

__all__ = [
    "MAX_SERIALIZED_SIZE_BYTES",
    "SerializationError",
    "SizeLimitError",
    "deserialize_node_from_ipc",
    "dump_node",
    "load_node",
    "serialize_node_async",
    "serialize_node_for_ipc",
    "validate_node_serializable",
]

MAX_SERIALIZED_SIZE_BYTES = 100 * 2**20
"""The largest result of `serialize_node_for_ipc`, in bytes. May be set; read at each call."""

_HEADER = struct.Struct("<6sBBBH")
_MAGIC, _FORMAT = b"RMNODE", 1
_MAX_NAME_BYTES = 1024
_REPORT_BUDGET_S = 0.8  # for each of at most two searches after a failure

_logger = logging.getLogger("remotemedia.serialization")


# -- to bytes --------------------------------------------------------------------------------------------------------


def serialize_node_for_ipc(node: Node) -> bytes:
    """Clean the node up and pickle it, for `deserialize_node_from_ipc` in another process.

    `cleanup()` runs first, always; if the node was still initialized, a warning is logged. A coroutine `cleanup` runs
    to its end in a loop of its own, in another thread: inside a running loop prefer `serialize_node_async`.

    Raises SerializationError (node, attribute path, reason, suggestion) if `cleanup()` or pickling fails,
    SizeLimitError if the result would be larger than MAX_SERIALIZED_SIZE_BYTES, TypeError if `node` is no Node.
    """
    _require_node(node)
    was_initialized = node_cleanup.announce(node)
    try:
        result = node.cleanup()
        if result is not None and inspect.isawaitable(result):
            node_cleanup.run_to_end(result)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code; judge() raises what matters
        node_cleanup.judge(node, was_initialized, error)
    return dump_node(node)


async def serialize_node_async(node: Node) -> bytes:
    """`serialize_node_for_ipc` without blocking the loop: a coroutine `cleanup` runs in it, pickling in a thread."""
    import asyncio

    _require_node(node)
    was_initialized = node_cleanup.announce(node)
    try:
        result = node.cleanup()
        if inspect.isawaitable(result):
            await result
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code; judge() raises what matters
        node_cleanup.judge(node, was_initialized, error)
    if _is_importing():
        return dump_node(node)  # a thread would wait for the import that waits for us
    return await asyncio.to_thread(dump_node, node)


def _is_importing() -> bool:
    """Whether a module is being imported now: a pipeline may be run at the top level of one, and pickling its classes
    by name takes the lock of its import.
    """
    specs = (getattr(module, "__spec__", None) for module in list(sys.modules.values()))
    return any(getattr(spec, "_initializing", False) for spec in specs)


def dump_node(node: Node) -> bytes:
    """Pickle the node as it is, without `cleanup()`. Raises as `serialize_node_for_ipc` does."""
    _require_node(node)
    name = str(node.name).encode(errors="replace")[:_MAX_NAME_BYTES]
    header = _HEADER.pack(_MAGIC, _FORMAT, sys.version_info.major, sys.version_info.minor, len(name))
    chunks = Chunks(MAX_SERIALIZED_SIZE_BYTES, header + name)
    error = try_pickle(Pickler(chunks), node)
    if error is None:
        return b"".join(chunks.parts)
    chunks.parts.clear()  # or the frames of the traceback would keep the whole pickle
    if chunks.size_bytes > chunks.limit:
        raise SizeLimitError(str(node.name), chunks.size_bytes, chunks.limit, _largest_attributes(node))
    raise _unpicklable(node, error) from error


def validate_node_serializable(node: Any) -> bool:
    """Whether `dump_node` would accept the node as it is now; if not, the reason is logged (DEBUG).

    The node stays as it is: `cleanup()` is not called.
    """
    try:
        dump_node(node)
    except (SerializationError, TypeError) as error:
        _logger.debug("not serializable: %s", error)
        return False
    return True


# -- and back --------------------------------------------------------------------------------------------------------


def load_node(data: bytes | bytearray | memoryview) -> Node:
    """The node in `data` (any buffer; it is not copied), not yet initialized. Raises SerializationError."""
    with memoryview(data) as view, view.cast("B") as octets:
        name, start = _read_header(octets)
        try:
            with octets[start:] as body:
                node = pickle.loads(body)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            reason, suggestion = pickle_report.explain_load(error)
            raise SerializationError(name, reason, suggestion) from error
    if not isinstance(node, Node):
        raise SerializationError(name, f"the data holds a {type(node).__name__}, which is no Node")
    node._is_initialized = False  # in this process nobody called initialize() yet, whatever the sender's node was
    return node


def deserialize_node_from_ipc(data: bytes | bytearray | memoryview) -> Node:
    """The node in `data`, initialized.

    A coroutine `initialize` runs to its end in a loop of its own, in another thread; inside a running loop use
    `load_node` and await `initialize()` there. Raises SerializationError if loading or `initialize()` fails.
    """
    node = load_node(data)
    try:
        result = node.initialize()
        if inspect.isawaitable(result):
            _refuse_running_loop(node, result)
            node_cleanup.run_to_end(result)
    except SerializationError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"its initialize() raised {pickle_report.describe(error)}"
        suggestion = "see the cause; what initialize() needs must be there in the process that runs the node"
        raise SerializationError(node.name, reason, suggestion) from error
    node._is_initialized = True
    return node


def _read_header(octets: memoryview) -> tuple[str, int]:
    """(name, where the pickle starts). Raises SerializationError if these bytes are no node of this Python."""
    if len(octets) < _HEADER.size or octets[: len(_MAGIC)] != _MAGIC:
        raise SerializationError(
            "?", "these bytes are not a serialized node", "pass the unchanged result of serialize_node_for_ipc()"
        )
    _, version, major, minor, length = _HEADER.unpack_from(octets)
    name = bytes(octets[_HEADER.size : _HEADER.size + length]).decode(errors="replace")
    if version != _FORMAT:
        raise SerializationError(
            name, f"format version {version}; this is version {_FORMAT}", "use one version of remotemedia on both sides"
        )
    if (major, minor) != sys.version_info[:2]:  # functions travel as bytecode, which another Python may crash on
        here = "{}.{}".format(*sys.version_info[:2])
        raise SerializationError(
            name, f"written by Python {major}.{minor}, read by Python {here}", "use the same Python on both sides"
        )
    return name, _HEADER.size + length


def _refuse_running_loop(node: Node, result: Any) -> None:
    """What a coroutine `initialize` makes belongs to the loop it ran in, so it must not run in another one."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if inspect.iscoroutine(result):
        result.close()
    raise SerializationError(
        node.name,
        "its initialize() is a coroutine and an event loop is running in this thread",
        "node = load_node(data); await node.initialize()",
    )


def _require_node(node: Any) -> None:
    if not isinstance(node, Node):
        hint = "; pass an instance, not the class" if isinstance(node, type) and issubclass(node, Node) else ""
        raise TypeError(f"expected a Node, got {type(node).__name__}{hint}")


# -- reports ---------------------------------------------------------------------------------------------------------


def _unpicklable(node: Node, error: BaseException) -> SerializationError:
    """The error that says which part of the node failed: pickles it once more, with a record, for a limited time."""
    deadline_s = monotonic() + _REPORT_BUDGET_S
    path, culprit, failure = "", None, None
    if not pickle_report.is_recursion(error):  # too deep to be followed, but one attribute leads there
        tracer = Tracer(Counter(MAX_SERIALIZED_SIZE_BYTES, deadline_s))
        failure = try_pickle(tracer, node)
    if failure is None or isinstance(failure, StopPickling):
        path = _failing_attribute(node)
    else:
        culprit = tracer.last
        path = pickle_report.attribute_path(node, node.name, culprit, tracer.reductions, deadline_s)
    reason, suggestion = pickle_report.explain_dump(error, culprit)
    return SerializationError(node.name, reason, suggestion, path)


def _failing_attribute(node: Node) -> str:
    """The first attribute that cannot be pickled on its own, "" if none fails in a limited time."""
    for name, value, deadline_s in _attributes_in_time(node):
        failure = try_pickle(Pickler(Counter(MAX_SERIALIZED_SIZE_BYTES, deadline_s)), value)
        if failure is not None and not isinstance(failure, StopPickling):
            return f"{node.name}.{name}"
    return ""


def _largest_attributes(node: Node) -> list[tuple[str, int]]:
    """The five attributes with the largest pickles: lower bounds where time or the cap ended the counting."""
    sizes: list[tuple[str, int]] = []
    for name, value, deadline_s in _attributes_in_time(node):
        counter = Counter(MAX_SERIALIZED_SIZE_BYTES, deadline_s)
        try_pickle(Meter(counter), value)
        sizes.append((name, counter.size_bytes))
    return heapq.nlargest(5, sizes, key=lambda item: item[1])


def _attributes_in_time(node: Node) -> Iterator[tuple[str, Any, float]]:
    """(name, value, deadline) of each attribute: each gets an equal share of the time that is left."""
    attributes = list(pickle_report.attributes(node).items())
    end_s = monotonic() + _REPORT_BUDGET_S
    for index, (name, value) in enumerate(attributes):
        now = monotonic()
        yield str(name), value, now + (end_s - now) / (len(attributes) - index)
