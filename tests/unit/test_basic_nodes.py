"""The built-in nodes for any kind of data."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pytest

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.nodes import (
    BatchNode,
    CalculatorNode,
    CollectSink,
    FunctionNode,
    IterableSource,
    PassThroughNode,
    PrintSink,
    node,
)
from remotemedia.runtime import execute_pipeline


async def test_pass_through_gives_the_very_object() -> None:
    item = object()
    assert (await execute_pipeline([PassThroughNode()], [item]))[0] is item


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("add", 10), ("subtract", 6), ("multiply", 16), ("divide", 4.0), ("power", 64), ("modulo", 0)],
)
def test_the_calculator_computes_with_its_operand(operation: str, expected: float) -> None:
    calculator = CalculatorNode(operation=operation, operand=2)
    assert calculator.process(8) == expected
    np.testing.assert_array_equal(calculator.process(np.array([8, 8])), [expected, expected])


def test_the_calculator_takes_requests() -> None:
    calculator = CalculatorNode(operation="multiply", operand=100)
    assert calculator.process({"operation": "add", "args": [1, 2]}) == 3
    assert calculator.process({"operation": "subtract", "args": [10, 2, 3]}) == 5
    assert calculator.process({"args": (2, 3)}) == 6


def test_the_calculator_refuses_what_it_cannot_compute() -> None:
    with pytest.raises(ConfigurationError, match="unknown operation 'root'; expected one of add, subtract"):
        CalculatorNode(operation="root")
    with pytest.raises(ConfigurationError, match="unknown operation 'root'"):
        CalculatorNode().process({"operation": "root", "args": [1, 2]})
    with pytest.raises(ConfigurationError, match=r"unknown operation \['add'\]"):
        CalculatorNode().process({"operation": ["add"], "args": [1, 2]})
    with pytest.raises(TypeError, match="has no operand for 3"):
        CalculatorNode().process(3)
    for wrong in ({}, {"args": 5}, {"args": [1]}):
        with pytest.raises(TypeError, match=r"takes \{\"operation\": \"add\", \"args\": \[a, b\]\}"):
            CalculatorNode().process(wrong)
    with pytest.raises(ZeroDivisionError):
        CalculatorNode("divide", 0).process(1)


async def test_batches_are_full_but_for_the_last() -> None:
    assert await execute_pipeline([BatchNode(size=2)], range(5)) == [[0, 1], [2, 3], [4]]
    assert await execute_pipeline([BatchNode(size=2)], range(4)) == [[0, 1], [2, 3]]
    assert await execute_pipeline([BatchNode(size=2)], []) == []


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2"])
def test_a_batch_size_must_be_a_positive_number(size: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"size=.*1 or more"):
        BatchNode(size)


def test_a_cleaned_batch_forgets_what_it_held() -> None:
    batch = BatchNode(3)
    batch.process(1)
    batch.cleanup()
    assert batch.flush() is None


# -- functions ---------------------------------------------------------------------------------------------------------


@node
def double(x: int) -> int:
    return 2 * x


@node(name="shout", executor="inline")
def upper(text: str) -> str:
    return text.upper()


async def test_functions_of_every_form_are_nodes() -> None:
    async def coroutine(x: int) -> int:
        return x + 1

    def generator(x: int) -> Iterator[int]:
        yield x
        yield -x

    async def async_generator(x: int) -> AsyncIterator[int]:
        yield x * 10

    chain = [double, FunctionNode(coroutine), FunctionNode(generator), FunctionNode(async_generator)]
    assert await execute_pipeline(chain, [1, 2]) == [30, -30, 50, -50]


async def test_a_function_without_parameters_is_a_source() -> None:
    assert await execute_pipeline([FunctionNode(lambda: iter_of(3)), double]) == [0, 2, 4]


def iter_of(n: int) -> Iterator[int]:
    yield from range(n)


def test_a_decorated_function_is_still_called_like_one() -> None:
    assert double(4) == 8
    assert upper(text="a") == "A"
    assert (double.name, upper.name, upper.executor) == ("double", "shout", "inline")


def test_a_decorated_function_travels_to_another_process() -> None:
    assert pickle.loads(cloudpickle.dumps(double)).process(21) == 42


def test_what_cannot_be_called_is_no_function_node() -> None:
    with pytest.raises(TypeError, match="takes a function, not int"):
        FunctionNode(3)  # type: ignore[arg-type]


# -- sources and sinks -------------------------------------------------------------------------------------------------


async def test_an_iterable_source_gives_its_items_each_time_it_runs() -> None:
    source = IterableSource([1, None, 2])
    assert await execute_pipeline([source, double]) == [2, 4]
    assert await execute_pipeline([source, double]) == [2, 4]
    assert await execute_pipeline([{"node_type": "IterableSource", "params": {"items": ["only"]}}]) == "only"
    with pytest.raises(TypeError, match="takes an iterable, not int"):
        IterableSource(3)  # type: ignore[arg-type]


async def test_a_collecting_sink_gives_one_list_and_keeps_it() -> None:
    sink = CollectSink()
    assert await execute_pipeline([double, sink], [1, 2]) == [[2, 4]]
    assert sink.items == [2, 4]
    assert await execute_pipeline([double, sink], [3]) == [[6]]
    assert await execute_pipeline([double, sink], []) == [[]]


async def test_a_printing_sink_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert await execute_pipeline([PrintSink("<{}>")], [1, "a"]) == []
    assert capsys.readouterr().out == "<1>\n<a>\n"
