"""`remotemedia validate`: everything that can be known of a pipeline without running it."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remotemedia.cli import output
from remotemedia.cli.loading import add_pipeline_arguments, load_graph
from remotemedia.core.exceptions import ConfigurationError, SerializationError
from remotemedia.core.graph import Graph

if TYPE_CHECKING:
    from remotemedia.workers.plan import Plan

HELP = "check a pipeline, draw it, say what memory it needs; without running it"
DESCRIPTION = (
    "Check a pipeline without running it: the manifest's structure, that its node classes can be imported and made, "
    "that the nodes for worker processes travel there (pickle), and that there is shared memory for their channels. "
    "No node is initialized."
)
EPILOG = """\
examples:
  remotemedia validate pipeline.json --executor multiprocess
  remotemedia validate pipeline.json --graph dot | dot -Tsvg > pipeline.svg
  remotemedia validate pipeline.json --budget 6.2MB         with frames of up to 6.2 MB (1080p RGB)
"""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DEFAULT_FRAME = "1MB"


def configure(parser: argparse.ArgumentParser) -> None:
    add_pipeline_arguments(parser)
    parser.add_argument("--executor", metavar="NAME", help="where unmarked nodes are going to run, as for `run`")
    parser.add_argument("--graph", choices=["mermaid", "dot"], help="print the graph, and nothing else")
    parser.add_argument(
        "--budget", nargs="?", const=_DEFAULT_FRAME, metavar="FRAME_SIZE", type=_size,
        help="the shared memory that the channels take, with frames of up to this size (default: 1MB)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if match is None or match[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 640KB, 6.2MB or 1GiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


@dataclass(frozen=True)
class _Budget:
    """Shared memory in bytes. `least`: taken at the start; `most`: with frames of `frame` bytes, in the worst case."""

    channels: int
    least: int
    most: int
    frame: int
    free: int


def run(arguments: argparse.Namespace) -> int:
    graph = load_graph(arguments)
    if arguments.graph:
        output.say(output.mermaid(graph) if arguments.graph == "mermaid" else output.dot(graph))
        return output.OK
    places = _places(graph, arguments.executor)
    sizes, problems = _pickled_sizes(graph, places)
    budget = _budget(graph, places, arguments.budget) if "multiprocess" in places else None
    if arguments.json:
        nodes = [_node_facts(graph, i, places[i], sizes.get(i)) for i in range(len(graph.nodes))]
        output.print_json({"ok": not problems, "nodes": nodes, "problems": problems, "shared_memory": budget})
    else:
        _tell(graph, places, sizes, budget if arguments.budget is not None else None)
    for problem in problems:
        output.complain(problem)
    if problems:
        return output.USAGE
    if not arguments.json:
        output.say(f"ok: {len(graph.nodes)} nodes, {len(graph.edges)} connections")
    return _verdict(budget, asked=arguments.budget is not None)


def _places(graph: Graph, executor: str | None) -> tuple[str, ...]:
    from remotemedia.executors import resolve

    places = graph.with_executor(executor)
    for place in {*places, executor or "inline"}:
        resolve(place)  # raises for a name that does not exist
    return places


def _pickled_sizes(graph: Graph, places: tuple[str, ...]) -> tuple[dict[int, int], list[str]]:
    """Bytes of each node that goes to a worker, by index, and what is wrong with the others."""
    from remotemedia.core.node_serialization import serialize_node_for_ipc

    sizes: dict[int, int] = {}
    problems = []
    for index, node in enumerate(graph.nodes):
        if places[index] != "inline":
            try:
                sizes[index] = len(serialize_node_for_ipc(node))
            except SerializationError as error:
                problems.append(output.error_text(error))
    return sizes, problems


def _node_facts(graph: Graph, index: int, place: str, size: int | None) -> dict[str, Any]:
    node = graph.nodes[index]
    kind = f"{type(node).__module__}:{type(node).__qualname__}"
    return {"id": graph.ids[index], "class": kind, "executor": place, "pickled_bytes": size}


def _tell(graph: Graph, places: tuple[str, ...], sizes: dict[int, int], budget: _Budget | None) -> None:
    width = max(map(len, graph.ids))
    for index in graph.order:
        travels = f", {output.size_text(sizes[index])} pickled" if index in sizes else ""
        kind = type(graph.nodes[index]).__name__
        output.say(f"{graph.ids[index].ljust(width)}  {kind}, {places[index]}{travels}")
    if budget is not None:
        text = output.size_text
        output.say(
            f"shared memory of {budget.channels} channels: {text(budget.least)} at the start, up to "
            f"{text(budget.most)} with frames of {text(budget.frame)}; {text(budget.free)} are free in /dev/shm"
        )


# -- shared memory -----------------------------------------------------------------------------------------------------


def _budget(graph: Graph, places: tuple[str, ...], frame_bytes: int | None) -> _Budget:
    """As a WorkerPool plans it: with restarts, so that frames are kept to be sent again."""
    from remotemedia.config import ChannelConfig
    from remotemedia.ipc.budget import least_bytes, most_bytes
    from remotemedia.ipc.shm_memory import free_shared_memory
    from remotemedia.workers.plan import make_plan

    config = ChannelConfig()
    plan: Plan = make_plan(graph, places, config, retain=True)
    receivers = [route.shared.receivers for route in plan.routes.values() if route.shared is not None]
    frame = _size(_DEFAULT_FRAME) if frame_bytes is None else frame_bytes
    return _Budget(
        channels=len(receivers),
        least=least_bytes(config, receivers, retain=True),
        most=most_bytes(config, receivers, frame, retain=True),
        frame=frame,
        free=free_shared_memory(),
    )


def _verdict(budget: _Budget | None, *, asked: bool) -> int:
    remedy = "enlarge /dev/shm (docker run --shm-size=1g), or remove leftovers: remotemedia clean"
    if budget is None:
        if asked:
            raise ConfigurationError("--budget: no node runs in a worker process; add --executor multiprocess")
        return output.OK
    if budget.least > budget.free:
        need, free = output.size_text(budget.least), output.size_text(budget.free)
        output.complain(f"error: the channels need {need} of shared memory at the start, {free} are free")
        output.complain(f"  Try: {remedy}")
        return output.ENVIRONMENT
    if asked and budget.most > budget.free:
        output.complain(
            "warning: in the worst case it does not fit: frames of that size in every slot at once. What is really in "
            f"flight is bounded by window_bytes\n  Try: {remedy}"
        )
    return output.OK
