"""The inline executor: order, numbers, the end of the stream, life, errors."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.exceptions import (
    ConfigurationError,
    NodeError,
    NodeInitializeError,
    NodeProcessError,
    PipelineError,
)
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.executors import RunOptions, available, open_execution, resolve
from remotemedia.executors.inline import InlineExecution
from remotemedia.nodes import FunctionNode
from tests.nodes import (
    Add,
    AsyncAdd,
    AsyncCount,
    AsyncRepeat,
    Count,
    FailAt,
    Hold,
    Journal,
    Keep,
    Repeat,
    RunningPairs,
    Tag,
    TakeFirst,
)


async def outputs_of(graph: Graph | list[Node], source: Any, *, enable_metrics: bool = False) -> list[tuple[int, Any]]:
    if isinstance(graph, list):
        graph = Graph.chain(graph)
    async with (
        open_execution(graph, None, RunOptions(enable_metrics=enable_metrics)) as execution,
        aclosing(execution.stream(source)) as outputs,
    ):
        return [tuple(output) async for output in outputs]


def make_graph(edges: list[tuple[str, str]], **nodes: Node) -> Graph:
    ids = list(nodes)
    for node_id, node in nodes.items():
        node.name = node_id
    return Graph(tuple(nodes.values()), tuple(ids), tuple((ids.index(a), ids.index(b)) for a, b in edges))


async def letters(text: str) -> AsyncIterator[str]:
    for letter in text:
        await asyncio.sleep(0)
        yield letter


# -- chains ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enable_metrics", [False, True])
async def test_every_form_of_process_gives_its_outputs_with_the_number_of_the_input(enable_metrics: bool) -> None:
    chain = [Add(), AsyncAdd(), Repeat(2), AsyncRepeat(1), Tag("t")]
    found = await outputs_of(chain, [10, 20], enable_metrics=enable_metrics)
    assert found == [
        (0, ("t", ((12, 0), 0))),
        (0, ("t", ((12, 1), 0))),
        (1, ("t", ((22, 0), 0))),
        (1, ("t", ((22, 1), 0))),
    ]


async def test_none_is_no_output_wherever_it_appears() -> None:
    assert await outputs_of([Keep(2), Add(), Keep(3)], range(10)) == [(2, 3), (8, 9)]
    assert await outputs_of([FunctionNode(lambda x: (y for y in (None, x, None))), Add()], [1]) == [(0, 2)]


async def test_a_list_a_tuple_and_false_are_outputs_like_any_other() -> None:
    values = [[], [1, 2], (), 0, False, ""]
    assert await outputs_of([FunctionNode(lambda x: x)], values) == list(enumerate(values))


async def test_an_async_source_is_read_as_it_goes() -> None:
    assert await outputs_of([Tag("t")], letters("ab")) == [(0, ("t", "a")), (1, ("t", "b"))]


async def test_an_output_leaves_before_the_next_input_is_read() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for i in range(3):
            read.append(i)
            yield i

    async with InlineExecution(Graph.chain([Add()]), ("inline",), RunOptions()) as execution:
        seen = [(output.value, len(read)) async for output in execution.stream(source())]
    assert seen == [(1, 1), (2, 2), (3, 3)]


async def test_a_long_generator_streams_through_the_chain() -> None:
    made: list[int] = []

    class Endless(Node):
        def process(self, data: Any) -> Iterator[int]:
            while True:
                made.append(len(made))
                yield made[-1]

    async with (
        InlineExecution(Graph.chain([Endless(), Add(), Repeat(1)]), ("inline",) * 3, RunOptions()) as execution,
        aclosing(execution.stream([None])) as outputs,
    ):
        async for number, (value, _) in outputs:
            assert (number, value) == (0, made[-1] + 1)
            if value == 50:
                break
    assert len(made) == 50


async def test_the_same_instance_runs_and_keeps_its_state() -> None:
    node = Hold()
    await outputs_of([node, Tag()], [1, 2])
    seen: list[Any] = []
    node.process = seen.append  # type: ignore[method-assign,assignment]
    await outputs_of([node], [3])
    assert seen == [3]


# -- sources -----------------------------------------------------------------------------------------------------------


async def test_source_nodes_number_their_items() -> None:
    assert await outputs_of([Count(3), Add()], None) == [(0, 1), (1, 2), (2, 3)]
    assert await outputs_of([AsyncCount(2)], None) == [(0, 0), (1, 1)]
    assert await outputs_of([Count(0)], None) == []


async def test_of_several_sources_the_shorter_just_ends() -> None:
    graph = make_graph([("long", "join"), ("short", "join")], long=Count(3), short=AsyncCount(1), join=Tag())
    assert [(n, value) for n, (_, value) in await outputs_of(graph, None)] == [(0, 0), (0, 0), (1, 1), (2, 2)]


async def test_without_input_a_node_that_takes_one_gets_none_once() -> None:
    assert await outputs_of([Tag("t")], None) == [(0, ("t", None))]


async def test_an_input_for_a_pipeline_that_makes_its_own_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'Count' makes its own items"):
        await outputs_of([Count(3)], [1])


async def test_first_nodes_must_agree_on_where_the_items_come_from() -> None:
    graph = make_graph([("made", "join"), ("taken", "join")], made=Count(1), taken=Tag(), join=Tag())
    with pytest.raises(ConfigurationError, match="'made' makes its own items but 'taken' waits"):
        await outputs_of(graph, None)


@pytest.mark.parametrize("source", ["text", b"bytes", {"a": 1}, 7])
async def test_a_single_item_as_source_is_refused_with_the_way_out(source: Any) -> None:
    with pytest.raises(TypeError, match=rf"not {type(source).__name__}; put a single item into a list"):
        await outputs_of([Tag()], source)


async def test_an_error_of_the_source_passes_unchanged() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more tape")

    with pytest.raises(LookupError, match="no more tape"):
        await outputs_of([Add()], broken())


# -- graphs ------------------------------------------------------------------------------------------------------------


async def test_a_join_takes_all_of_the_first_connection_then_of_the_second() -> None:
    graph = make_graph(
        [("start", "left"), ("start", "right"), ("right", "join"), ("left", "join")],
        start=Repeat(2),
        left=Tag(),
        right=Tag(),
        join=FunctionNode(lambda x: x),
    )
    found = await outputs_of(graph, list("ab"))
    assert found == [
        (n, (side, (letter, i))) for n, letter in enumerate("ab") for side in ("right", "left") for i in (0, 1)
    ]


async def test_behind_the_last_join_a_long_generator_streams() -> None:
    made: list[int] = []

    def endless(_: Any) -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    graph = make_graph([("a", "join"), ("b", "join")], a=Tag(), b=Tag(), join=FunctionNode(endless))
    async with InlineExecution(graph, ("inline",) * 3, RunOptions()) as execution:
        async with aclosing(execution.stream([None])) as outputs:
            assert [(await anext(outputs)).value for _ in range(3)] == [0, 1, 2]
        assert made == [0, 1, 2]


async def test_results_come_by_number_then_by_sink() -> None:
    graph = make_graph([("start", "x"), ("start", "y")], start=Add(), x=Repeat(2), y=Tag())
    found = await outputs_of(graph, [0, 5])
    assert found == [(0, (1, 0)), (0, (1, 1)), (0, ("y", 1)), (1, (6, 0)), (1, (6, 1)), (1, ("y", 6))]


async def test_an_input_goes_to_every_first_node() -> None:
    graph = make_graph([], a=Tag(), b=Tag())
    assert await outputs_of(graph, [1]) == [(0, ("a", 1)), (0, ("b", 1))]


async def test_a_diamond_of_sources_and_streaming_nodes() -> None:
    graph = make_graph(
        [("start", "pairs"), ("start", "direct"), ("pairs", "join"), ("direct", "join")],
        start=Count(3),
        pairs=RunningPairs(),
        direct=Tag(),
        join=FunctionNode(lambda x: x),
    )
    assert await outputs_of(graph, None) == [
        (0, ("direct", 0)),
        (1, ("pair", 0, 1)),
        (1, ("direct", 1)),
        (2, ("direct", 2)),
        (3, ("rest", 2)),
    ]


@given(
    inputs=st.lists(st.integers(0, 20), max_size=8),
    kinds=st.lists(st.sampled_from(["add", "async", "keep", "repeat", "arepeat"]), min_size=1, max_size=4),
)
def test_a_chain_is_the_composition_of_its_nodes(inputs: list[int], kinds: list[str]) -> None:
    """Against a model of three lines: each node maps the list of (number, value) to the next."""
    makers: dict[str, Any] = {
        "add": (Add, lambda x: [x + 1]),
        "async": (AsyncAdd, lambda x: [x + 1]),
        "keep": (lambda: Keep(2), lambda x: [x] if x % 2 == 0 else []),
        "repeat": (lambda: FunctionNode(lambda x: (x + i for i in range(2))), lambda x: [x, x + 1]),
        "arepeat": (lambda: FunctionNode(_three), lambda x: [x, x + 1, x + 2]),
    }
    expected = list(enumerate(inputs))
    for kind in kinds:
        expected = [(n, y) for n, x in expected for y in makers[kind][1](x)]
    assert asyncio.run(outputs_of([makers[kind][0]() for kind in kinds], inputs)) == expected


async def _three(x: int) -> AsyncIterator[int]:
    for i in range(3):
        yield x + i


# -- the end of the stream ---------------------------------------------------------------------------------------------


async def test_what_flush_gives_travels_on_before_the_next_node_flushes() -> None:
    assert await outputs_of([Hold(), Repeat(2), Hold("last")], [1, 2]) == [(2, [([1, 2], 0), ([1, 2], 1)])]


async def test_flush_outputs_carry_the_number_after_the_last_input() -> None:
    class Tail(Node):
        def process(self, data: Any) -> Any:
            return data

        def flush(self) -> Iterator[str]:
            yield "a"
            yield "b"

    assert await outputs_of([Tail(), Tag("t")], [7]) == [(0, ("t", 7)), (1, ("t", "a")), (1, ("t", "b"))]
    assert await outputs_of([Tail()], []) == [(0, "a"), (0, "b")]


async def test_at_the_end_a_join_takes_its_connections_in_order_too() -> None:
    graph = make_graph(
        [("start", "first"), ("start", "second"), ("second", "join"), ("first", "join")],
        start=FunctionNode(lambda x: x),
        first=Hold(),
        second=Hold(),
        join=Hold(),
    )
    graph.nodes[1].flush = lambda: "of first"  # type: ignore[method-assign]
    graph.nodes[2].flush = lambda: "of second"  # type: ignore[method-assign]
    assert await outputs_of(graph, [1]) == [(1, ["of second", "of first"])]


async def test_async_initialize_flush_and_cleanup_are_awaited() -> None:
    seen: list[str] = []

    class Slow(Node):
        async def initialize(self) -> None:
            await asyncio.sleep(0)
            seen.append("initialize")

        def process(self, data: Any) -> Any:
            return data

        async def flush(self) -> str:
            await asyncio.sleep(0)
            return "flushed"

        async def cleanup(self) -> None:
            await asyncio.sleep(0)
            seen.append("cleanup")

    node = Slow()
    assert await outputs_of([node], [1]) == [(0, 1), (1, "flushed")]
    assert seen == ["initialize", "cleanup"]
    assert not node.is_initialized


# -- streaming nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enable_metrics", [False, True])
async def test_a_streaming_output_carries_the_number_of_the_last_input_taken(enable_metrics: bool) -> None:
    found = await outputs_of([RunningPairs(), Tag("t")], range(5), enable_metrics=enable_metrics)
    assert found == [(1, ("t", ("pair", 0, 1))), (3, ("t", ("pair", 2, 3))), (5, ("t", ("rest", 4)))]


async def test_streaming_nodes_feed_each_other() -> None:
    found = await outputs_of([RunningPairs(), RunningPairs()], range(6))
    assert found == [(3, ("pair", ("pair", 0, 1), ("pair", 2, 3))), (6, ("rest", ("pair", 4, 5)))]


async def test_what_a_streaming_node_leaves_unread_is_dropped() -> None:
    assert await outputs_of([TakeFirst(2), Add()], range(6)) == [(0, 1), (1, 2)]


async def test_a_streaming_node_without_any_input_still_ends() -> None:
    class Summary(Node):
        is_streaming = True

        async def process(self, inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
            yield "header"
            async for _ in inputs:
                pass
            yield "footer"

    assert await outputs_of([Summary()], []) == [(0, "header"), (0, "footer")]


async def test_a_streaming_node_is_one_input_ahead_of_nobody() -> None:
    pulled: list[int] = []

    class Echo(Node):
        is_streaming = True

        async def process(self, inputs: AsyncIterator[int]) -> AsyncIterator[int]:
            async for value in inputs:
                pulled.append(value)
                yield value

    async with InlineExecution(Graph.chain([Echo()]), ("inline",), RunOptions()) as execution:
        async for number, value in execution.stream(range(4)):
            assert pulled == list(range(number + 1))
            assert value == number
    assert pulled == [0, 1, 2, 3]


async def test_a_streaming_node_may_stop_waiting_for_an_input_and_ask_again() -> None:
    class Impatient(Node):
        is_streaming = True

        async def process(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
            asking = asyncio.ensure_future(anext(inputs))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            async for value in inputs:
                yield ("got", value)

    assert await outputs_of([Impatient()], list("ab")) == [(0, ("got", "a")), (1, ("got", "b"))]


async def test_an_error_in_a_streaming_node_names_the_frame() -> None:
    class Fragile(Node):
        is_streaming = True

        async def process(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for value in inputs:
                yield 1 / value

    with pytest.raises(NodeProcessError) as caught:
        await outputs_of([Fragile()], [1, 0])
    assert caught.value.frame == 1
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_leaving_early_closes_generators_and_streaming_nodes_before_cleanup() -> None:
    seen: list[str] = []

    class Source(Node):
        def process(self) -> Iterator[int]:  # type: ignore[override]
            try:
                while True:
                    yield 1
            finally:
                seen.append("source closed")

        def cleanup(self) -> None:
            seen.append("source cleanup")

    class Streaming(Node):
        is_streaming = True

        async def process(self, inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
            try:
                async for value in inputs:
                    yield value
            finally:
                seen.append("streaming closed")

    class Expand(Node):
        def process(self, data: Any) -> Iterator[Any]:
            try:
                while True:
                    yield data
            finally:
                seen.append("generator closed")

    class AsyncExpand(Node):
        async def process(self, data: Any) -> AsyncIterator[Any]:
            try:
                while True:
                    yield data
            finally:
                seen.append("async generator closed")

    chain = Graph.chain([Source(), Streaming(), Expand(), AsyncExpand(), Add(0)])
    async with InlineExecution(chain, ("inline",) * 5, RunOptions()) as execution:
        async for _ in execution.stream(None):
            break
    assert sorted(seen[:4]) == ["async generator closed", "generator closed", "source closed", "streaming closed"]
    assert seen[4:] == ["source cleanup"]


async def test_an_async_generator_is_closed_at_once_not_by_the_garbage_collector() -> None:
    seen: list[str] = []

    class AsyncExpand(Node):
        async def process(self, data: Any) -> AsyncIterator[Any]:
            try:
                while True:
                    yield data
            finally:
                seen.append("closed")

        def cleanup(self) -> None:
            seen.append("cleanup")

    async with InlineExecution(Graph.chain([AsyncExpand(), Add()]), ("inline",) * 2, RunOptions()) as execution:
        async for _ in execution.stream([1]):
            break
    assert seen == ["closed", "cleanup"]


# -- life --------------------------------------------------------------------------------------------------------------


async def test_initialize_runs_once_in_order_and_cleanup_in_reverse() -> None:
    journal: list[str] = []
    await outputs_of([Journal("a", journal), Journal("b", journal)], [1])
    assert journal == [
        "initialize a",
        "initialize b",
        "process a",
        "process b",
        "flush a",
        "flush b",
        "cleanup b",
        "cleanup a",
    ]


async def test_an_instance_in_two_places_lives_once() -> None:
    journal: list[str] = []
    node = Journal("a", journal)
    assert await outputs_of([node, node], [1]) == [(0, 1)]
    assert journal.count("initialize a") == journal.count("cleanup a") == 1
    assert journal.count("process a") == 2


async def test_an_initialized_node_is_not_initialized_again() -> None:
    journal: list[str] = []
    node = Journal("a", journal)
    node.initialize()
    await outputs_of([node], [1])
    assert journal == ["initialize a", "process a", "flush a", "cleanup a"]


async def test_a_failing_initialize_cleans_up_what_was_begun() -> None:
    journal: list[str] = []
    nodes: list[Node] = [Journal("a", journal), Journal("b", journal, fails_in="initialize"), Journal("c", journal)]
    with pytest.raises(NodeInitializeError, match=r"node 'b'.*ValueError: broken on purpose") as caught:
        await outputs_of(nodes, [1])
    assert (caught.value.node, caught.value.pid) == ("b", os.getpid())
    assert isinstance(caught.value.__cause__, ValueError)
    assert journal == ["initialize a", "initialize b", "cleanup b", "cleanup a"]


@pytest.mark.parametrize("method", ["process", "flush"])
async def test_an_error_of_a_node_is_the_cause_and_everything_is_cleaned_up(method: str) -> None:
    journal: list[str] = []
    broken = Journal("b", journal, fails_in=method)
    with pytest.raises(NodeProcessError, match=rf"'b' .*\) {method}\(\) raised ValueError: broken on") as caught:
        await outputs_of([Journal("a", journal), broken, Journal("c", journal)], [1])
    assert caught.value.__cause__ is broken.error
    assert caught.value.frame == (0 if method == "process" else 1)
    assert journal[-3:] == ["cleanup c", "cleanup b", "cleanup a"]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        *((form, KeyError("k")) for form in ("plain", "coroutine", "generator")),
        *((form, UnprintableError()) for form in ("plain", "coroutine", "generator")),
        *((form, SystemExit(3)) for form in ("plain", "coroutine", "generator")),
        ("plain", StopIteration()),  # in the other forms Python itself turns these two into RuntimeError
        ("plain", StopAsyncIteration()),
    ],
)
async def test_whatever_a_node_raises_names_node_and_frame(form: str, error: BaseException) -> None:
    def plain(x: int) -> int:
        return FailAt(2, error).process(x)  # type: ignore[no-any-return]

    async def coroutine(x: int) -> int:
        return plain(x)

    def generator(x: int) -> Iterator[int]:
        yield plain(x)

    node = FunctionNode({"plain": plain, "coroutine": coroutine, "generator": generator}[form], name="fragile")
    with pytest.raises(NodeProcessError, match=rf"node 'fragile' .*{type(error).__name__}.* \(frame 2\)") as caught:
        await outputs_of([Add(0), node], range(4))
    assert caught.value.__cause__ is error
    assert caught.value.frame == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
async def test_interrupts_pass_unchanged_and_cleanup_runs(error: BaseException) -> None:
    journal: list[str] = []
    caught: BaseException | None = None
    try:
        await outputs_of([Journal("a", journal, fails_in="process", error=error)], [1])
    except BaseException as raised:
        caught = raised
    assert caught is error
    assert journal[-1] == "cleanup a"


async def test_cancelling_a_running_pipeline_cleans_up() -> None:
    journal: list[str] = []
    waiting = asyncio.Event()

    async def forever(_: Any) -> None:
        waiting.set()
        await asyncio.Event().wait()

    nodes: list[Node] = [Journal("a", journal), FunctionNode(forever), Journal("b", journal)]
    task = asyncio.create_task(outputs_of(nodes, [1]))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal[-2:] == ["cleanup b", "cleanup a"]


async def test_cancelling_during_initialize_cleans_up() -> None:
    journal: list[str] = []
    waiting = asyncio.Event()

    class Slow(Tag):
        async def initialize(self) -> None:
            waiting.set()
            await asyncio.Event().wait()

        def cleanup(self) -> None:
            journal.append("cleanup slow")

    task = asyncio.create_task(outputs_of([Journal("a", journal), Slow()], [1]))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal == ["initialize a", "cleanup slow", "cleanup a"]


async def test_a_failing_cleanup_is_raised_after_all_others() -> None:
    journal: list[str] = []
    broken = Journal("b", journal, fails_in="cleanup")
    with pytest.raises(NodeError, match=r"node 'b': cleanup\(\) raised ValueError: broken on purpose") as caught:
        await outputs_of([Journal("a", journal), broken], [1])
    assert caught.value.__cause__ is broken.error
    assert journal[-2:] == ["cleanup b", "cleanup a"]


async def test_a_failing_cleanup_never_hides_an_earlier_error(caplog: pytest.LogCaptureFixture) -> None:
    journal: list[str] = []
    nodes: list[Node] = [Journal("a", journal, fails_in="process"), Journal("b", journal, fails_in="cleanup")]
    with caplog.at_level(logging.ERROR, "remotemedia"), pytest.raises(NodeProcessError):
        await outputs_of(nodes, [1])
    assert journal[-2:] == ["cleanup b", "cleanup a"]
    assert "cleanup failed node='b'" in caplog.text


async def test_an_interrupt_in_cleanup_does_not_stop_the_others() -> None:
    journal: list[str] = []
    interrupt = asyncio.CancelledError()
    nodes: list[Node] = [Journal("a", journal), Journal("b", journal, fails_in="cleanup", error=interrupt)]
    with pytest.raises(asyncio.CancelledError):
        await outputs_of(nodes, [1])
    assert journal[-2:] == ["cleanup b", "cleanup a"]


# -- several streams, metrics, other tasks -----------------------------------------------------------------------------


async def test_streams_one_after_the_other_run_on_the_same_nodes() -> None:
    journal: list[str] = []
    async with InlineExecution(Graph.chain([Journal("a", journal)]), ("inline",), RunOptions()) as execution:
        assert [tuple(o) async for o in execution.stream([5])] == [(0, 5)]
        async for _ in execution.stream([1, 2, 3]):
            break
        assert [tuple(o) async for o in execution.stream([6])] == [(0, 6)]
    assert journal.count("initialize a") == journal.count("cleanup a") == 1


async def test_two_streams_at_a_time_are_refused(loop_kind: str) -> None:
    release, waiting = asyncio.Event(), asyncio.Event()

    async def hold(x: Any) -> Any:
        waiting.set()
        await release.wait()
        return x

    async def collect(stream: Any) -> list[Any]:
        return [output.value async for output in stream]

    async with InlineExecution(Graph.chain([FunctionNode(hold)]), ("inline",), RunOptions()) as execution:
        first = asyncio.create_task(collect(execution.stream([1])))
        await waiting.wait()
        with pytest.raises(PipelineError, match="one stream at a time"):
            await collect(execution.stream([2]))
        release.set()
        assert await first == [1]


async def test_metrics_count_calls_outputs_and_errors() -> None:
    graph = Graph.chain([Count(4), Repeat(2), FunctionNode(lambda x: x, name="last")])
    async with InlineExecution(graph, ("inline",) * 3, RunOptions(enable_metrics=True)) as execution:
        assert len([o async for o in execution.stream(None)]) == 8
        metrics = execution.metrics()
    assert [(m["node_id"], m["calls"], m["errors"]) for m in metrics] == [
        ("Count", 4, 0),
        ("Repeat", 4, 0),
        ("last", 8, 0),
    ]
    assert all(m["p99_us"] >= m["p50_us"] > 0 for m in metrics)


@pytest.mark.parametrize("make", [lambda error: FailAt(1, error), lambda error: FunctionNode(lambda x: fail(x, error))])
async def test_metrics_count_errors(make: Any) -> None:
    def run(error: Exception) -> Graph:
        return Graph.chain([make(error)])

    execution = InlineExecution(run(ValueError()), ("inline",), RunOptions(enable_metrics=True))
    async with execution:
        with pytest.raises(NodeProcessError):
            _ = [o async for o in execution.stream([0, 1])]
    assert execution.metrics()[0]["errors"] == 1


def fail(x: int, error: Exception) -> Iterator[int]:
    if x == 1:
        raise error
    yield x


async def test_other_tasks_live_while_nodes_never_await() -> None:
    ticks = 0
    done = False

    async def ticker() -> None:
        nonlocal ticks
        while not done:
            ticks += 1
            await asyncio.sleep(0)

    def source() -> Iterator[int]:
        i = 0
        while ticks < 5:  # ends only if the ticker gets its turns
            yield i
            i += 1

    task = asyncio.create_task(ticker())
    await outputs_of([Add(), Keep(10**9)], source())

    def generate(_: Any) -> Iterator[int]:
        while ticks < 10:
            yield 1

    await outputs_of([FunctionNode(generate), Keep(2)], [None])
    done = True
    await task


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_executors_are_found_by_name() -> None:
    assert resolve("inline") is InlineExecution
    assert {"inline", "multiprocess"} <= set(available())


@pytest.mark.parametrize("name", ["thread", "ray"])
def test_an_unknown_executor_lists_those_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remotemedia.executors._has_ray", lambda: False)
    with pytest.raises(ConfigurationError, match=rf"{name}.*'inline', 'multiprocess'.*remotemedia\[ray\]"):
        open_execution(Graph.chain([Add()]), name, RunOptions())


def test_ray_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remotemedia.executors._has_ray", lambda: False)
    assert "ray" not in available()
    for executor, node in (("ray", Add()), (None, Add(executor="ray"))):
        with pytest.raises(ConfigurationError, match=r"pip install 'remotemedia\[ray\]'"):
            open_execution(Graph.chain([node]), executor, RunOptions())


def test_marks_of_unknown_executors_and_of_two_executors_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no executor 'gpu'"):
        open_execution(Graph.chain([Add(executor="gpu")]), None, RunOptions())
    with pytest.raises(ConfigurationError, match="'gpu' and 'multiprocess'"):
        open_execution(Graph.chain([Add(executor="gpu"), Add(executor="multiprocess")]), None, RunOptions())


def test_inline_overrides_every_mark() -> None:
    execution = open_execution(Graph.chain([Add(executor="multiprocess")]), "inline", RunOptions())
    assert isinstance(execution, InlineExecution)


def test_an_executor_of_an_entry_point_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    point = metadata.EntryPoint("thread", "remotemedia.executors.inline:InlineExecution", "remotemedia.executors")
    found = metadata.EntryPoints([point])
    monkeypatch.setattr(metadata, "entry_points", found.select)
    assert resolve("thread") is InlineExecution
    assert "thread" in available()


def test_nodes_placed_elsewhere_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot run 'Add' elsewhere"):
        InlineExecution(Graph.chain([Add()]), ("multiprocess",), RunOptions())
