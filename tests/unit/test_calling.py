"""How process() wants to be called, and what its results give."""

import functools
import weakref

import pytest

from remotemedia.core.calling import (
    CallStyle,
    as_list,
    call_style,
    maybe_await,
    needs_event_loop,
    outputs_of,
    takes_input,
)
from remotemedia.core.node import Node


class Plain(Node):
    def process(self, data):
        return data


class Generator(Node):
    def process(self, data):
        yield data


class Coroutine(Node):
    async def process(self, data):
        return data


class AsyncGenerator(Node):
    async def process(self, data):
        yield data


class Streaming(Node):
    is_streaming = True

    async def process(self, items):
        async for item in items:
            yield item


class Source(Node):
    def process(self):
        yield 1


@pytest.mark.parametrize(
    ("kind", "style", "loop"),
    [
        (Plain, CallStyle.PLAIN, False),
        (Generator, CallStyle.GENERATOR, False),
        (Coroutine, CallStyle.COROUTINE, True),
        (AsyncGenerator, CallStyle.ASYNC_GENERATOR, True),
        (Streaming, CallStyle.STREAMING, True),
    ],
)
def test_call_style(kind, style, loop):
    assert call_style(kind()) is style
    assert needs_event_loop(kind()) is loop


@pytest.mark.parametrize("method", ["initialize", "cleanup", "flush"])
def test_one_coroutine_method_is_enough_to_need_a_loop(method):
    async def coroutine(self):
        pass

    assert needs_event_loop(type("Mixed", (Plain,), {method: coroutine})())


def test_a_source_takes_no_input():
    assert not takes_input(Source())
    for kind in (Plain, Streaming):
        assert takes_input(kind())


@pytest.mark.parametrize(
    ("process", "takes"),
    [
        (lambda: 1, False),
        (lambda *, option=1: 1, False),
        (lambda data=None: 1, True),
        (lambda *data: 1, True),
        (functools.partial(lambda a: 1, 1), False),
        (print, True),
    ],
)
def test_takes_input_follows_the_signature(process, takes):
    node = Plain()
    node.process = process
    assert takes_input(node) is takes


async def collect(result):
    return [output async for output in outputs_of(result)]


async def coroutine(value):
    return value


def generator(*values):
    yield from values


async def async_generator(*values):
    for value in values:
        yield value


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (lambda: 5, [5]),
        (lambda: None, []),
        (lambda: [1, 2], [[1, 2]]),
        (lambda: 0, [0]),
        (lambda: coroutine(5), [5]),
        (lambda: coroutine(None), []),
        (lambda: coroutine(generator(1, 2)), [1, 2]),
        (lambda: generator(1, None, 2), [1, 2]),
        (generator, []),
        (lambda: async_generator(None, 1, None, 2, None), [1, 2]),
    ],
)
async def test_outputs(make, outputs):
    assert await collect(make()) == outputs


async def test_errors_of_generators_come_through():
    def breaks():
        yield 1
        raise OSError("broken")

    outputs = outputs_of(breaks())
    assert await anext(outputs) == 1
    with pytest.raises(OSError, match="broken"):
        await anext(outputs)


async def test_outputs_are_not_held():
    class Thing:
        pass

    async def fresh():
        for _ in range(2):
            yield Thing()

    for make in (fresh, lambda: (Thing() for _ in range(2)), Thing):
        outputs = outputs_of(make())
        seen = weakref.ref(await anext(outputs))
        assert seen() is None
        await outputs.aclose()


@pytest.mark.parametrize("kind", ["generator", "async generator", "coroutine"])
async def test_closing_runs_the_finally_of_the_node(kind):
    closed = []

    def sync():
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    async def asynchronous():
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    if kind == "coroutine":
        await outputs_of(coroutine(1)).aclose()  # never awaited: closing keeps Python from warning
        return
    outputs = outputs_of(sync() if kind == "generator" else asynchronous())
    assert await anext(outputs) == 1
    await outputs.aclose()
    assert closed == ["closed"]


async def test_maybe_await():
    assert await maybe_await(3) == 3
    assert await maybe_await(coroutine(3)) == 3


@pytest.mark.parametrize(("outputs", "value"), [([], None), ([1], 1), ([1, 2], [1, 2]), ([[1]], [1]), (iter("a"), "a")])
def test_as_list(outputs, value):
    assert as_list(outputs) == value
