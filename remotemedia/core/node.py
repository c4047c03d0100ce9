"""Node: a user's processing stage."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from remotemedia.core.placement import Placement
from remotemedia.core.state import StateManager

NO_SESSION = "default"
"""Under this name the state of all frames that belong to no session is kept."""


class Outlet(Protocol):
    """What gives out arrays that already lie in the outgoing channel's memory."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]: ...


class _Given:
    """An attribute that a node has before, or without, its `__init__`: what `make(node)` gives at its first use.

    No `__new__` does this: its `(*args, **kwargs)` would be what help(), inspect.signature() and editors show for every
    node, instead of the arguments of its `__init__`. The class itself has no such attribute, so nothing takes this
    object for a default (dataclasses do).
    """

    def __init__(self, make: Callable[[Node], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, node: Node | None, owner: type[Any]) -> Any:
        if node is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        return node.__dict__.setdefault(self._name, self._make(node))  # at once, whatever other threads do


class Node:
    """One processing stage of a pipeline.

    Subclasses implement `process` and, if they hold resources, `initialize` and `cleanup`. Each may be a plain function
    or a coroutine function; `process` may also be a generator or an async generator.

    `executor` (class attribute or argument): "multiprocess" runs the node in a worker process of its own, "inline"
    keeps it in the calling process, None leaves it to the call.

    `is_streaming = True`: `process` takes an async iterator over all the inputs and yields the outputs.

    `on_error`: what an exception of `process` does in a worker pool, "raise", "skip" or "restart"; None leaves it to
    PoolConfig.on_error.
    """

    executor: str | None = None
    is_streaming: bool = False
    on_error: str | None = None
    capabilities: dict[str, Any] | None = None
    worker_limits: Any = None
    """A remotemedia.WorkerLimits for the worker process of this node (class attribute or instance attribute)."""
    placement: Placement | None = None
    """Where the node wants to run, for executors that have several machines (class attribute, or the arguments
    `resources` and `host`)."""

    # Set by the library while the node runs; class-level defaults serve subclasses that forget super().__init__().
    _is_initialized: bool = False
    _outlet: Outlet | None = None
    _session_id: str = NO_SESSION
    restart_count: int = 0
    """How many times the worker of this node was restarted before this instance was made."""
    traceparent: str | None = None
    """The W3C trace context of the frame that `process` works on, in a pool with `PoolConfig(tracing=)`; None for a
    frame that is not traced."""

    name: str = _Given(lambda node: type(node).__name__)  # type: ignore[assignment]
    config: dict[str, Any] = _Given(lambda _node: {})  # type: ignore[assignment]
    state: StateManager | None = _Given(lambda _node: None)  # type: ignore[assignment]

    def __init__(
        self,
        name: str | None = None,
        *,
        executor: str | None = None,
        enable_state: bool = True,
        state_ttl: float | None = None,
        max_sessions: int | None = None,
        resources: Mapping[str, float] | None = None,
        host: str | None = None,
        **config: Any,
    ) -> None:
        """Name the node (default: its class name); further keyword arguments become `config` and manifest params.

        `state_ttl`: seconds after which an unused session state is forgotten (None: never); `max_sessions`: how many
        are kept, the least recently used goes first (None: no limit).

        `resources` ({"num_gpus": 1}), `host` ("gpu-box"): where `executor="ray"` is to run the node; see Placement.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name of a {type(self).__name__} must be a str or None, not {type(name).__name__}")
        self.name = name or type(self).__name__
        if executor is not None:
            self.executor = executor
        if resources is not None or host is not None:
            self.placement = Placement(resources=dict(resources or {}), host=host)
        self.config = config
        if enable_state:
            self.state = StateManager(ttl_s=state_ttl, max_sessions=max_sessions)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # So that the library knows whether a node is initialized even if a subclass, or a mixin before it, forgets
        # super().initialize().
        for method, value_after in (("initialize", True), ("cleanup", False)):
            function = inspect.getattr_static(cls, method)
            if inspect.isfunction(function) and function is not Node.__dict__[method] and not _remembers(function):
                setattr(cls, method, _remembering(function, value_after))

    # -- life --------------------------------------------------------------------------------------------------------

    def initialize(self) -> Any:
        """Acquire what `process` needs (files, models); runs once, in the process that will run `process`."""
        self._is_initialized = True

    def process(self, data: Any) -> Any:
        """Turn one input into one output, several (generator) or none (None).

        Arrays that arrive in a worker are read-only views of shared memory; they stay valid as long as they are held.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement process()")

    def flush(self) -> Any:
        """End of the stream: the last output(s), or None. Same forms as `process`."""
        return None

    def on_control(self, message: Any) -> Any:
        """A message of `WorkerPool.send_control` for this node: plain data. Called between two frames; may be async."""

    def cleanup(self) -> Any:
        """Release what `initialize` acquired. May be called twice, and without a preceding `initialize`."""
        self._is_initialized = False

    # -- surviving a restart -----------------------------------------------------------------------------------------

    def snapshot_state(self) -> Any:
        """The state that a successor needs to go on from here, as bytes or another buffer; a coroutine may give it.

        Only for nodes that override it. It is asked for now and then, between two frames. When the worker dies, the
        next generation gets the last state through `restore_state`, and then every frame that came after it.
        """
        return b""

    def restore_state(self, state: memoryview) -> Any:
        """Take over what `snapshot_state` of the previous generation gave; called after `initialize`."""

    # -- zero-copy outputs -------------------------------------------------------------------------------------------

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """An uninitialized C-contiguous output array; in a worker it already lies in the outgoing shared memory.

        Fill it and return it (or a contiguous view of it): it is sent without a copy. It becomes read-only when it is
        sent. Outside a worker this is `numpy.empty`.
        """
        dims = (shape,) if isinstance(shape, int) else tuple(shape)
        if self._outlet is None:
            return np.empty(dims, dtype)
        return self._outlet.empty(dims, np.dtype(dtype))

    def empty_like(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`self.empty(array.shape, array.dtype)`."""
        if self._outlet is None:
            return np.empty(array.shape, array.dtype)
        return self._outlet.empty(array.shape, array.dtype)

    # -- facts -------------------------------------------------------------------------------------------------------

    @property
    def is_initialized(self) -> bool:
        return self._is_initialized

    @property
    def logger(self) -> logging.Logger:
        """`remotemedia.node.<name>`; records made in a worker arrive in the coordinator's logging."""
        return logging.getLogger(f"remotemedia.node.{self.name}")

    def get_capabilities(self) -> dict[str, Any] | None:
        """What the node needs to run ({"gpu": ..., "memory_gb": ...}); None = nothing special."""
        return self.capabilities

    def get_session_state(self, session_id: str | None = None) -> dict[str, Any] | None:
        """The mutable state dict of one session, made on first use; None if the node was made with enable_state=False.

        Default: of the session that `process` or `flush` is running for; it is forgotten at the end of that session.
        """
        return None if self.state is None else self.state.get(self._session_id if session_id is None else session_id)

    def to_manifest(self) -> dict[str, Any]:
        """This node as an entry of a manifest: id, node_type, params and, if marked, executor, is_streaming,
        capabilities, resources, host.
        """
        entry: dict[str, Any] = {"id": self.name, "node_type": type(self).__name__, "params": dict(self.config)}
        if self.executor is not None:
            entry["executor"] = self.executor
        if self.is_streaming:
            entry["is_streaming"] = True
        capabilities = self.get_capabilities()
        if capabilities is not None:
            entry["capabilities"] = capabilities
        if self.placement is not None:
            entry.update(self.placement.as_entry())
        return entry

    # -- pickling ----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to this process. Subclasses that override this call super().__getstate__()."""
        state = self.__dict__.copy()
        state.pop("_outlet", None)
        state.pop("_session_id", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        mark = f", executor={self.executor!r}" if self.executor else ""
        return f"{type(self).__name__}(name={self.name!r}{mark})"


_WRAPPED_MARK = "_remembers_initialized"


def _remembers(function: Callable[..., Any]) -> bool:
    return hasattr(function, _WRAPPED_MARK)


def _remembering(function: Callable[..., Any], value_after: bool) -> Callable[..., Any]:
    """`function` (initialize or cleanup of a subclass), keeping `_is_initialized` right."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(self: Node) -> Any:
            with _remembered(self, value_after):
                return await function(self)

    else:

        @functools.wraps(function)
        def wrapper(self: Node) -> Any:
            with _remembered(self, value_after):
                return function(self)

    setattr(wrapper, _WRAPPED_MARK, True)
    return wrapper


@contextlib.contextmanager
def _remembered(node: Node, value_after: bool) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if value_after:
            node._is_initialized = False  # super().initialize() may have set it before the failure
        raise
    node._is_initialized = value_after
