"""Node types by name, for manifests. Light: a built-in node's module is imported when its name is asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from typing import TypeVar, overload

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.node import Node

N = TypeVar("N", bound=type[Node])

_BUILT_IN: dict[str, tuple[str, ...]] = {
    "audio": ("Chunk", "EnergyVad", "Gain", "Resample", "ToMono"),
    "basic": ("BatchNode", "CalculatorNode", "FunctionNode", "PassThroughNode"),
    "endpoints": ("CollectSink", "IterableSource", "PrintSink"),
    "filters": ("FilterGraph", "LoudnessMeter"),
    "loudness": ("Loudness",),
    "media_io": (
        "AudioFileSink", "AudioFileSource", "MediaFileSink", "MediaFileSource", "VideoFileSink", "VideoFileSource",
    ),
    "media_sink": ("MediaSink",),
    "media_source": ("MediaSource",),
    "mixing": ("Mix",),
    "raw_pipes": ("RawAudioSource", "RawVideoSource"),
    "raw_sinks": ("RawAudioSink", "RawVideoSink"),
    "scaling": ("ConvertPixelFormat", "Resize"),
    "stacking": ("TensorStack",),
    "sync": ("Interleave", "Label", "Sync"),
    "tensors": ("TensorCast", "TensorNormalize", "TensorReshape", "ToTensor"),
    "text": (
        "TextChunkNode", "TextReplaceNode", "TextSplitNode", "TextTemplateNode", "TextTransformNode", "UppercaseNode",
    ),
    "video": ("Denoise", "EdgeFilter", "MotionDetector"),
}
BUILT_IN_MODULES = {name: f"remotemedia.nodes.{module}" for module, names in _BUILT_IN.items() for name in names}
"""Name of each built-in node → the module that defines it."""
_registered: dict[str, type[Node]] = {}


@overload
def register_node(cls: N) -> N: ...


@overload
def register_node(*, name: str | None = None) -> Callable[[N], N]: ...


def register_node(cls: N | None = None, *, name: str | None = None) -> N | Callable[[N], N]:
    """Class decorator: the class becomes a `node_type` of manifests, under its own name or `name`.

        @register_node
        class Detector(Node): ...

    Registering a name again with a class of the same module and name replaces it (a notebook cell run twice). Raises
    ConfigurationError if the name belongs to another class, TypeError if it is no Node subclass.
    """

    def register(node_class: N) -> N:
        if not (isinstance(node_class, type) and issubclass(node_class, Node)):
            raise TypeError(f"register_node takes a subclass of Node, not {node_class!r}")
        key = name or node_class.__name__
        _check_free(key, node_class)
        _registered[key] = node_class
        return node_class

    return register if cls is None else register(cls)


def _check_free(name: str, node_class: type[Node]) -> None:
    holder = _registered.get(name)
    taken_by = f"{holder.__module__}.{holder.__qualname__}" if holder else None
    if holder is None and name in BUILT_IN_MODULES:
        taken_by = f"{BUILT_IN_MODULES[name]}.{name}"
    own_name = f"{node_class.__module__}.{node_class.__qualname__}"
    if taken_by is not None and taken_by != own_name:
        raise ConfigurationError(
            f"node_type {name!r} is taken by {taken_by}; register {own_name} with register_node(name=...)"
        )


def find_node_class(name: str) -> type[Node] | None:
    """The class registered under `name`, or the built-in node of that name; None if there is none."""
    node_class = _registered.get(name)
    if node_class is None and name in BUILT_IN_MODULES:
        node_class = getattr(importlib.import_module(BUILT_IN_MODULES[name]), name)
    return node_class


def get_node_class(name: str) -> type[Node]:
    """The same; raises ConfigurationError with the closest names if there is none."""
    node_class = find_node_class(name)
    if node_class is None:
        near = close_matches(name, registered_nodes())
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "registered_nodes() lists the names"
        raise ConfigurationError(f"no node type {name!r}; {hint}")
    return node_class


def registered_nodes() -> tuple[str, ...]:
    """All names, built-in and registered, sorted."""
    return tuple(sorted({*BUILT_IN_MODULES, *_registered}))


def close_matches(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """At most three of `names` that look like `name`, whatever the case of the letters."""
    by_folded = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    return tuple(by_folded[folded] for folded in near)
