"""Executors by name: where the nodes of a pipeline run."""

from __future__ import annotations

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.executors.base import Execution, ExecutorFactory, Output, RunOptions, Source

__all__ = ["Execution", "ExecutorFactory", "Output", "RunOptions", "Source", "available", "open_execution", "resolve"]

ENTRY_POINT_GROUP = "remotemedia.executors"


def resolve(name: str) -> ExecutorFactory:
    """The factory of the executor called `name`. Raises ConfigurationError, listing the names there are."""
    if name == "inline":
        from remotemedia.executors.inline import InlineExecution

        return InlineExecution
    if name == "multiprocess":
        from remotemedia.executors.multiprocess import MultiprocessExecution

        return MultiprocessExecution
    if name == "ray" and _has_ray():
        from remotemedia.executors.ray.execution import RayExecution

        return RayExecution
    return _from_entry_points(name)


def _from_entry_points(name: str) -> ExecutorFactory:
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        factory: ExecutorFactory = entry_point.load()
        return factory
    known = ", ".join(map(repr, available()))
    if name == "ray":
        reason = (
            "the executor 'ray' (more than one machine) comes with the extra [ray], which is not installed: "
            "pip install 'remotemedia[ray]'"
        )
    else:
        reason = f"there is no executor {name!r}; a package can add one through the entry points {ENTRY_POINT_GROUP!r}"
    raise ConfigurationError(f"{reason}. Available: {known}; with the extra remotemedia[ray] also 'ray'")


def _has_ray() -> bool:
    """Whether the extra [ray] is installed; without importing it."""
    from importlib.util import find_spec

    return find_spec("ray") is not None


def available() -> tuple[str, ...]:
    """Names of the executors that can be used here."""
    from importlib.metadata import entry_points

    ours = ("inline", "multiprocess", "ray") if _has_ray() else ("inline", "multiprocess")
    return (*ours, *sorted(entry_points(group=ENTRY_POINT_GROUP).names))


def open_execution(graph: Graph, executor: str | None, options: RunOptions) -> Execution:
    """An execution of `graph`, not yet entered: inline if every node is, else by the executor its marks name.

    `executor`: where the nodes without a mark run ("inline": all of them); None: inline. Raises ConfigurationError for
    an unknown name or if the marks name two executors beside "inline".
    """
    if executor is not None:
        resolve(executor)
    places = graph.with_executor(executor)
    if "ray" in places:  # there, too, a node that is not inline has a process of its own
        places = tuple("ray" if place == "multiprocess" else place for place in places)
    others = sorted(set(places) - {"inline"})
    if len(others) > 1:
        raise ConfigurationError(
            f"the nodes are marked for {' and '.join(map(repr, others))}: a pipeline runs on one, beside 'inline'"
        )
    factory = resolve(others[0] if others else "inline")
    return factory(graph, places, options)
