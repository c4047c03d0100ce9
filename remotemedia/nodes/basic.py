"""Nodes for any kind of data: pass on, compute, batch, call a function."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, overload

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.node import Node

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "modulo": operator.mod,
}


class PassThroughNode(Node):
    """Gives every input on as it is.

    >>> run_pipeline([PassThroughNode()], [1, "two"])
    [1, 'two']
    """

    def process(self, data: Any) -> Any:
        return data


class CalculatorNode(Node):
    """Arithmetic: `input <operation> operand` for each input, a number or an array.

    `operation`: "add", "subtract", "multiply", "divide", "power" or "modulo"; `operand`: the right-hand number. An
    input of the form `{"operation": "add", "args": [a, b, ...]}` brings its own operation (default: the node's) and
    numbers, taken from left to right. Raises ConfigurationError for an unknown operation, when made or in an input;
    TypeError for a bare input while there is no operand and for an input without at least two args.

    >>> run_pipeline([CalculatorNode("multiply", 3)], [2, {"operation": "add", "args": [1, 2, 3]}])
    [6, 6]
    """

    def __init__(self, operation: str = "add", operand: Any = None, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, operation=operation, operand=operand, **options)
        self.operation, self.operand = operation, operand
        self._function = self._find(operation)

    def process(self, data: Any) -> Any:
        """The result: a number for numbers, an array for arrays."""
        if isinstance(data, Mapping):
            return self._compute(data)
        if self.operand is None:
            raise TypeError(f"{self.name} has no operand for {data!r}: CalculatorNode(operation=..., operand=...)")
        return self._function(data, self.operand)

    def _compute(self, request: Mapping[str, Any]) -> Any:
        args = request.get("args")
        if not isinstance(args, (list, tuple)) or len(args) < 2:  # noqa: PLR2004 - an operation takes two numbers
            raise TypeError(f'{self.name} takes {{"operation": "add", "args": [a, b]}}, not {dict(request)!r}')
        return functools.reduce(self._find(request.get("operation", self.operation)), args)

    def _find(self, operation: Any) -> Callable[[Any, Any], Any]:
        function = _OPERATIONS.get(operation) if isinstance(operation, str) else None
        if function is None:
            raise ConfigurationError(
                f"{type(self).__name__}: unknown operation {operation!r}; expected one of {', '.join(_OPERATIONS)}"
            )
        return function


class BatchNode(Node):
    """Collects `size` inputs into a list; the rest comes as a shorter list at the end of the stream.

    Raises ConfigurationError for a size that is no number, or less than 1.

    >>> run_pipeline([BatchNode(2)], [1, 2, 3])
    [[1, 2], [3]]
    """

    def __init__(self, size: int, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, size=size, **options)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigurationError(f"BatchNode(size={size!r}): expected a number of inputs, 1 or more")
        self.size = size
        self._batch: list[Any] = []

    def process(self, data: Any) -> list[Any] | None:
        self._batch.append(data)
        return self.flush() if len(self._batch) == self.size else None

    def flush(self) -> list[Any] | None:
        batch, self._batch = self._batch, []
        return batch or None

    def cleanup(self) -> None:
        self._batch = []


class FunctionNode(Node):
    """A function as a node: sync, async, generator or async generator; one without a parameter is a source.

    The node can still be called like the function. It cannot be written into a manifest: a manifest names classes, see
    `register_node`. Raises TypeError for what cannot be called.

    >>> run_pipeline([FunctionNode(len)], ["one", "three"])
    [3, 5]
    """

    def __init__(self, function: Callable[..., Any], *, name: str | None = None, **options: Any) -> None:
        if not callable(function):
            raise TypeError(f"FunctionNode takes a function, not {type(function).__name__}")
        super().__init__(name or getattr(function, "__name__", None), **options)
        self.process = function  # type: ignore[method-assign]  # no call in between: as fast as the function itself

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.process(*args, **kwargs)

    def to_manifest(self) -> dict[str, Any]:
        raise ConfigurationError(
            f"node {self.name!r} wraps a function, which a manifest cannot name; "
            "make it a Node subclass with @register_node"
        )


@overload
def node(function: Callable[..., Any], /) -> FunctionNode: ...


@overload
def node(*, name: str | None = None, executor: str | None = None) -> Callable[[Callable[..., Any]], FunctionNode]: ...


def node(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, executor: str | None = None
) -> FunctionNode | Callable[[Callable[..., Any]], FunctionNode]:
    """Decorator that makes a FunctionNode: `@node` or `@node(executor="multiprocess")`."""

    def make(wrapped: Callable[..., Any]) -> FunctionNode:
        return FunctionNode(wrapped, name=name, executor=executor)

    return make if function is None else make(function)
