"""Pipeline: a named graph of nodes that can be edited, run, kept warm and written to a manifest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from remotemedia.core.calling import as_list
from remotemedia.core.exceptions import PipelineError
from remotemedia.core.graph import Graph
from remotemedia.core.html import table
from remotemedia.core.node import Node

if TYPE_CHECKING:
    from remotemedia.executors.base import Execution


class Pipeline:
    """Nodes, each feeding the next; a pipeline made from a manifest may be any graph without cycles.

        pipeline = Pipeline([Decode(), Detect()], name="faces").add_node(Draw())
        outputs = await pipeline.run(frames)             # starts and stops the nodes for this run

        async with pipeline:                             # the nodes stay initialized between the runs
            await pipeline.run(frames)
            async for output in pipeline.process(camera()): ...

    Nodes are known by their ids: their names, made unique as `<name>_<index>`.
    """

    def __init__(
        self, nodes: Iterable[Node] | None = None, name: str | None = None, enable_metrics: bool = False
    ) -> None:
        """`enable_metrics`: measure each call, for `get_metrics`. Raises TypeError for what is no Node."""
        self.name = name or "pipeline"
        self.enable_metrics = enable_metrics
        self._nodes: dict[str, Node] = {}
        self._edges: list[tuple[str, str]] = []
        self._execution: Execution | None = None
        self._executor: str | None = None
        self._metrics: list[dict[str, Any]] = []
        for node in nodes or ():
            self.add_node(node)

    @classmethod
    def from_manifest(
        cls,
        manifest: str | dict[str, Any],
        *,
        enable_metrics: bool = False,
        allow_modules: Sequence[str] | None = None,
        source: str | None = None,
    ) -> Self:
        """The pipeline of a manifest, given as JSON text or as a dict. Raises ManifestError.

        `allow_modules`: modules, with their submodules, whose classes it may name (None: any); `source`: the name of
        its file, for errors.
        """
        from remotemedia.manifest import build_graph, parse_manifest

        parsed = parse_manifest(manifest, source=source)
        graph = build_graph(parsed, allow_modules=allow_modules, source=source)
        name = parsed.metadata.get("name")
        pipeline = cls(name=name if isinstance(name, str) else None, enable_metrics=enable_metrics)
        pipeline._nodes = dict(zip(graph.ids, graph.nodes, strict=True))
        pipeline._edges = [(graph.ids[a], graph.ids[b]) for a, b in graph.edges]
        return pipeline

    # -- the graph -----------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Node]:
        """The nodes, in the order in which they were added."""
        return list(self._nodes.values())

    @property
    def graph(self) -> Graph:
        """The present graph."""
        index = {node_id: i for i, node_id in enumerate(self._nodes)}
        edges = tuple((index[a], index[b]) for a, b in self._edges)
        return Graph(tuple(self._nodes.values()), tuple(self._nodes), edges)

    def add_node(self, node: Node) -> Self:
        """Append `node`, fed by the node added last; returns the pipeline. PipelineError while it is initialized."""
        if not isinstance(node, Node):
            raise TypeError(f"add_node takes a Node, not {type(node).__name__}")
        self._require_idle("add_node")
        node_id, index = node.name, len(self._nodes)
        while node_id in self._nodes:
            node_id, index = f"{node.name}_{index}", index + 1
        if self._nodes:
            self._edges.append((next(reversed(self._nodes)), node_id))
        self._nodes[node_id] = node
        return self

    def remove_node(self, node_id: str) -> bool:
        """Take a node out; those that fed it feed those it fed. False if there is no such node."""
        self._require_idle("remove_node")
        if self._nodes.pop(node_id, None) is None:
            return False
        before = [a for a, b in self._edges if b == node_id]
        edges: list[tuple[str, str]] = []
        for a, b in self._edges:  # the new connections take the places of those they replace
            if a == node_id:
                edges += [(earlier, b) for earlier in before]
            elif b != node_id:
                edges.append((a, b))
        self._edges = list(dict.fromkeys(edges))
        return True

    def get_node(self, node_id: str) -> Node | None:
        """The node of that id, or None."""
        return self._nodes.get(node_id)

    def serialize(self) -> str:
        """The manifest as JSON text. Raises ManifestError if a node's params are no JSON values."""
        from remotemedia.manifest import manifest_of, manifest_text

        return manifest_text(manifest_of(self.graph, name=self.name))

    def __len__(self) -> int:
        return len(self._nodes)

    def __bool__(self) -> bool:
        return True  # an empty pipeline is still one

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        state = ", initialized" if self.is_initialized else ""
        return f"Pipeline(name={self.name!r}, nodes=[{', '.join(self._nodes)}]{state})"

    def _repr_html_(self) -> str:
        """For notebooks: each node, where it is marked to run, and whom it feeds."""
        graph = self.graph
        feeds = [", ".join(graph.ids[n] for n in graph.successors(i)) for i in range(len(graph.nodes))]
        kinds = [(type(node).__name__, node.executor or "") for node in graph.nodes]
        rows = [(node_id, *kind, fed) for node_id, kind, fed in zip(graph.ids, kinds, feeds, strict=True)]
        return table(f"Pipeline {self.name}", ("node", "class", "executor", "feeds"), rows)

    # -- running -------------------------------------------------------------------------------------------------------

    @property
    def is_initialized(self) -> bool:
        """Whether the nodes are held ready between runs."""
        return self._execution is not None

    async def initialize(self, *, executor: str | None = None) -> None:
        """Start the nodes and keep them ready until `cleanup`. Nothing happens if they are.

        Raises ManifestError for a pipeline that cannot run, NodeInitializeError if a node fails.
        """
        if self._execution is None:
            execution = self._open(executor, own_outputs=True)
            await execution.__aenter__()
            self._execution, self._executor = execution, executor

    async def cleanup(self) -> None:
        """Stop the nodes. Nothing happens if they are not initialized."""
        await self._stop(None)

    async def _stop(self, error: BaseException | None) -> None:
        execution, self._execution = self._execution, None
        if execution is not None:
            self._metrics = execution.metrics()
            await execution.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop(error)

    async def run(self, input_data: Any = None, *, executor: str | None = None) -> Any:
        """All outputs for `input_data` (iterable or async iterable of items): a list.

        Without an input the first node makes the items; then the result is the output if there is one, a list if there
        are several, None if there is none. Raises NodeProcessError if a node raises.
        """
        outputs = [output async for output in self._outputs(input_data, executor, own_outputs=True)]
        return as_list(outputs) if input_data is None else outputs

    async def process(self, stream: AsyncIterable[Any] | Iterable[Any]) -> AsyncGenerator[Any, None]:
        """The outputs for `stream`, one by one as they come."""
        async with aclosing(self._outputs(stream, None, own_outputs=False)) as outputs:
            async for output in outputs:
                yield output

    def get_metrics(self) -> dict[str, Any]:
        """Of the present or last run: `node_metrics`, one dict per node, measured only with enable_metrics=True."""
        if self._execution is not None:
            self._metrics = self._execution.metrics()
        return {"pipeline": self.name, "node_metrics": self._metrics}

    async def _outputs(self, source: Any, executor: str | None, *, own_outputs: bool) -> AsyncGenerator[Any, None]:
        if self._execution is not None and executor not in (None, self._executor):
            raise PipelineError(
                f"{self!r} was initialized with executor={self._executor!r}, not {executor!r}: "
                "clean it up first, or leave executor out"
            )
        async with AsyncExitStack() as stack:
            execution = self._execution
            if execution is None:
                execution = await stack.enter_async_context(self._open(executor, own_outputs=own_outputs))
                stack.callback(self._keep_metrics, execution)
            outputs = await stack.enter_async_context(aclosing(execution.stream(source)))
            async for output in outputs:
                yield output.value

    def _open(self, executor: str | None, *, own_outputs: bool) -> Execution:
        from remotemedia.executors import RunOptions, open_execution
        from remotemedia.manifest import to_graph

        options = RunOptions(enable_metrics=self.enable_metrics, own_outputs=own_outputs)
        return open_execution(to_graph(self), executor, options)

    def _keep_metrics(self, execution: Execution) -> None:
        self._metrics = execution.metrics()

    def _require_idle(self, action: str) -> None:
        if self._execution is not None:
            raise PipelineError(f"{action}: {self!r} is running on these nodes; call cleanup() first")
