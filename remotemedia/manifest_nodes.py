"""From one entry of a manifest to its node."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remotemedia.core.exceptions import ManifestError
from remotemedia.core.node import Node
from remotemedia.core.placement import Placement
from remotemedia.manifest_types import NodeEntry
from remotemedia.nodes.registry import close_matches, find_node_class, registered_nodes

_OF_EVERY_NODE = frozenset(inspect.signature(Node.__init__).parameters)
_ALIKE = 0.8
"""Of difflib's ratio: "heigth" and "height" have 0.83, "rate" and "range" 0.67."""


class NodeBuilder:
    """Makes and checks nodes; raises ManifestError with the JSON pointer of what is wrong.

    `allow_modules`: the modules, with their submodules, that `package.module:Class` may name (None: any); `source`:
    what the errors call the manifest.
    """

    def __init__(self, allow_modules: Sequence[str] | None, source: str | None) -> None:
        self.allow_modules, self.source = allow_modules, source

    def build(self, entry: NodeEntry, pointer: str) -> Node:
        """The node of an entry, with the entry's name and marks."""
        node_class = self._find_class(entry.node_type, f"{pointer}/node_type")
        for name, meant in _misspelt(node_class, entry.params):
            reason = f"{node_class.__name__} has no parameter {name!r}"
            raise self.error(reason, f"{pointer}/params/{name}", _signature(node_class), [meant])
        try:
            node = node_class(**entry.params)
        except (TypeError, ValueError) as error:
            reason = f"{node_class.__name__} does not take these params: {error}"
            raise self.error(reason, f"{pointer}/params", _signature(node_class)) from error
        except Exception as error:
            error.add_note(f"raised by {node_class.__name__}(...), {self.source or 'manifest'} at {pointer}")
            raise
        if "name" not in entry.params:
            node.name = entry.id
        marks = {"executor": entry.executor, "is_streaming": entry.is_streaming, "capabilities": entry.capabilities}
        vars(node).update({mark: value for mark, value in marks.items() if value is not None})
        if entry.resources is not None or entry.host is not None:
            node.placement = Placement(resources=entry.resources or {}, host=entry.host)
        return node

    def check(self, node: Node, node_id: str, pointer: str) -> None:
        """Raise ManifestError if a method of the node cannot be called."""
        who = f"node {node_id!r} ({type(node).__name__})"
        for method in ("process", "initialize", "flush", "cleanup"):
            if not callable(getattr(node, method, None)):
                raise self.error(f"{method} of {who} cannot be called", pointer, f"a method {method}()")
        if getattr(node.process, "__func__", None) is Node.process:
            raise self.error(f"{who} does not implement process()", pointer, "a method process(self, data)")

    def error(self, reason: str, pointer: str, expected: str | None, near: Sequence[str] = ()) -> ManifestError:
        """An error at `pointer` of this manifest."""
        return ManifestError(reason, pointer=pointer, expected=expected, close_matches=near, source=self.source)

    def _find_class(self, name: str, pointer: str) -> type[Node]:
        found = find_node_class(name)
        if found is not None:
            return found
        module_name, colon, class_name = name.partition(":")
        if not colon:
            near = close_matches(name, registered_nodes())
            raise self.error(f"unknown node_type {name!r}", pointer, "a registered type or package.module:Class", near)
        if not self._allows(module_name):
            allowed = ", ".join(self.allow_modules or ())
            expected = "a registered type" + (f", or a class of {allowed}" if allowed else "")
            raise self.error(f"classes of the module {module_name!r} are not allowed", pointer, expected)
        return self._import_class(module_name, class_name, pointer)

    def _allows(self, module_name: str) -> bool:
        return self.allow_modules is None or any(
            module_name == allowed or module_name.startswith(f"{allowed}.") for allowed in self.allow_modules
        )

    def _import_class(self, module_name: str, class_name: str, pointer: str) -> type[Node]:
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError, TypeError) as error:
            reason = f"the module {module_name!r} cannot be imported: {error}"
            raise self.error(reason, pointer, "package.module:Class") from error
        found: Any = module
        for part in class_name.split("."):
            found = getattr(found, part, None)
        if _is_node_class(found):
            return found  # type: ignore[no-any-return]
        near = close_matches(class_name, [name for name, value in vars(module).items() if _is_node_class(value)])
        reason = f"the module {module_name!r} has no Node class {class_name!r}"
        raise self.error(reason, pointer, "package.module:Class, a subclass of remotemedia.Node", near)


def _is_node_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Node)


def _misspelt(node_class: type[Node], params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Params that the class does not name but nearly does, and which name they look like.

    A class that takes any further params for its `config` would take a misspelt one as well, and never look at it.
    """
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = list(inspect.signature(node_class.__init__).parameters.values())[1:]
    named = {parameter.name for parameter in parameters if parameter.kind not in variable}
    for name in params.keys() - named - _OF_EVERY_NODE:
        for meant in difflib.get_close_matches(name, named - _OF_EVERY_NODE - params.keys(), n=1, cutoff=_ALIKE):
            yield name, meant


def _signature(node_class: type[Node]) -> str:
    """How the class is called, for an error text."""
    parameters = list(inspect.signature(node_class.__init__).parameters.values())[1:]
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return f"{node_class.__name__}{inspect.Signature(plain)}"
