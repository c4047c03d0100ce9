"""A node raises: the caller gets NodeProcessError with the exception as cause, whatever that exception is like."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from fault_nodes import (
    Faulty,
    FaultyAsyncGenerator,
    FaultyCoroutine,
    FaultyGenerator,
    FaultyStreaming,
    Pass,
    value_error,
)
from fault_tools import Place, chain, check_fields, collect

from remotemedia.core.exceptions import NodeProcessError, RemoteExceptionText
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool

STYLES = [Faulty, FaultyCoroutine, FaultyGenerator, FaultyAsyncGenerator, FaultyStreaming]


async def failure(node: Node, inputs: int = 5) -> NodeProcessError:
    async with WorkerPool([node]) as pool:
        with pytest.raises(NodeProcessError) as caught:
            [output async for output in pool.stream(range(inputs))]
    assert pool.cleanup_errors == []
    return caught.value


# -- where -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STYLES)
async def test_in_every_style_of_process(kind: type[Faulty], place: Place) -> None:
    error = await failure(kind(value_error, at=2))
    assert type(error.__cause__) is ValueError
    assert error.__cause__.args == ("not this one",)
    assert error.frame == 2
    assert "in value_error" in error.remote_traceback
    assert 'raise ValueError("not this one")' in str(error)


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_in_every_place(position: int, place: Place, loop_kind: str) -> None:
    outputs: list[Any] = []
    async with WorkerPool(chain(Faulty(value_error, at=3), position)) as pool:
        pids = [worker.pid or 0 for worker in pool.snapshot().workers]
        with pytest.raises(NodeProcessError) as caught:
            await collect(pool.stream(range(50)), outputs)
        check_fields(caught.value, "faulty", position, pids)
        assert await pool.process(1) == 1
    assert outputs == [0, 1, 2]


@pytest.mark.parametrize("kind", STYLES)
async def test_in_an_inline_stage_it_is_the_very_exception(kind: type[Faulty], place: Place) -> None:
    async with WorkerPool([Pass(), kind(value_error, at=2)], places=("multiprocess", "inline")) as pool:
        with pytest.raises(NodeProcessError) as caught:
            [output async for output in pool.stream(range(5))]
    assert type(caught.value.__cause__) is ValueError
    assert caught.value.__cause__.__traceback__ is not None
    assert caught.value.frame == 2


async def test_in_flush_after_all_outputs(place: Place) -> None:
    outputs: list[Any] = []
    async with WorkerPool([Faulty(value_error, phase="flush")]) as pool:
        with pytest.raises(NodeProcessError) as caught:
            await collect(pool.stream(range(3)), outputs)
    assert outputs == [0, 1, 2]
    assert caught.value.frame == 3
    assert "flush() raised ValueError" in str(caught.value)


async def test_what_a_generator_gave_before_it_raised_is_delivered(place: Place) -> None:
    outputs: list[Any] = []
    async with WorkerPool([FaultyGenerator(value_error, at=2)]) as pool:
        with pytest.raises(NodeProcessError):
            await collect(pool.stream(range(5)), outputs)
    assert outputs == [0, 1, 2]


async def test_a_source_that_raises(place: Place) -> None:
    outputs: list[Any] = []
    async with WorkerPool([Counts(), Pass()]) as pool:
        with pytest.raises(NodeProcessError) as caught:
            await collect(pool.stream(), outputs)
    assert outputs == [0, 1, 2][: len(outputs)]
    assert caught.value.frame == 3


class Counts(Node):
    def process(self) -> Any:
        yield from range(3)
        value_error()


# -- what --------------------------------------------------------------------------------------------------------------


class OwnError(Exception):
    """Importable by the coordinator, and made from its arguments."""


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("has a lock")
        self.lock = threading.Lock()


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class MoreSpeechlessError(Exception):
    def __str__(self) -> str:
        raise SystemExit(9)


class OddNotesError(Exception):
    def __init__(self) -> None:
        super().__init__("has odd notes")
        self.__notes__ = 5


class PickyError(Exception):
    """Ends whoever makes it again from its arguments."""

    made = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        type(self).made += 1
        import multiprocessing

        if multiprocessing.current_process().name == "MainProcess" and type(self).made > 1:
            raise SystemExit(text)


def raising(make: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def action() -> NoReturn:
        raise make()

    return action


PLAIN: list[tuple[Callable[[], BaseException], type[BaseException]]] = [
    (lambda: KeyError("k"), KeyError),
    (lambda: OwnError("a", 1), OwnError),
    (lambda: KeyboardInterrupt("not Ctrl-C"), KeyboardInterrupt),
    (lambda: GeneratorExit("odd"), GeneratorExit),
    (lambda: asyncio.CancelledError("odd"), asyncio.CancelledError),
    (lambda: StopAsyncIteration("odd"), StopAsyncIteration),
    (lambda: BaseException("bare"), BaseException),
    (lambda: TimeoutError("late"), TimeoutError),
    (lambda: OSError(2, "No such file", "x"), FileNotFoundError),
]


@pytest.mark.parametrize(("make", "kind"), PLAIN)
async def test_the_exception_is_rebuilt(
    make: Callable[[], BaseException], kind: type[BaseException], place: Place
) -> None:
    error = await failure(Faulty(raising(make)))
    assert type(error.__cause__) is kind
    assert error.__cause__.args == make().args
    assert error.frame == 2
    assert kind.__name__ in error.reason
    assert "in action" in error.remote_traceback


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, BaseException])
@pytest.mark.parametrize("style", [FaultyCoroutine, FaultyGenerator, FaultyAsyncGenerator, FaultyStreaming])
async def test_what_is_no_exception_subclass(
    kind: type[BaseException], style: type[Faulty], place: Place
) -> None:
    error = await failure(style(raising(lambda: kind("odd"))))
    assert kind.__name__ in error.remote_traceback
    assert error.frame == 2


@pytest.mark.parametrize("style", [Faulty, FaultyCoroutine, FaultyGenerator, FaultyAsyncGenerator, FaultyStreaming])
async def test_stop_iteration_does_not_end_anything_silently(style: type[Faulty], place: Place) -> None:
    error = await failure(style(raising(lambda: StopIteration("odd"))))
    assert "StopIteration" in error.remote_traceback
    assert isinstance(error.__cause__, StopIteration if style is Faulty else RuntimeError)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (UnpicklableError, "has a lock"),
        (SpeechlessError, "str() of this exception raised RuntimeError"),
        (MoreSpeechlessError, "str() of this exception raised SystemExit"),
        (OddNotesError, "has odd notes"),
        (lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]), "several"),
        (lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"), "bad byte"),
        (lambda: OwnError("\udcff in a file name"), "in a file name"),
        (lambda: OwnError("x" * 5_000_000), "characters left out"),
        (lambda: OwnError(list(range(10))), "[0, 1, 2"),
        (lambda: OwnError(2**100), str(2**100)),
        (lambda: PickyError("cannot be made here"), "cannot be made here"),
    ],
)
async def test_exceptions_that_travel_badly_keep_their_text(
    make: Callable[[], BaseException], said: str, place: Place
) -> None:
    error = await failure(Faulty(raising(make)))
    assert error.__cause__ is not None
    assert said in str(error)
    assert len(str(error)) < 200_000
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)


async def test_an_exception_group_shows_all_of_its_members(place: Place) -> None:
    error = await failure(Faulty(raising(lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]))))
    assert "ValueError: one" in error.remote_traceback
    assert "KeyError: 'two'" in error.remote_traceback


async def test_a_class_that_the_coordinator_cannot_import_stays_readable(place: Place) -> None:
    class HiddenError(Exception):
        pass

    error = await failure(Faulty(raising(lambda: HiddenError("seen"))))
    assert isinstance(error.__cause__, RemoteExceptionText)
    assert error.__cause__.type_name.endswith("HiddenError")
    assert error.__cause__.text == "seen"


async def test_notes_and_causes_travel(place: Place) -> None:
    def action() -> NoReturn:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            outer = ValueError("outer")
            outer.add_note("a note")
            raise outer from inner

    error = await failure(Faulty(action))
    assert type(error.__cause__) is ValueError
    assert error.__cause__.__notes__ == ["a note"]
    assert "KeyError: 'inner'" in error.remote_traceback
    assert "direct cause" in error.remote_traceback


async def test_endless_recursion(place: Place) -> None:
    def action() -> None:
        action()

    error = await failure(Faulty(action))
    assert type(error.__cause__) is RecursionError


async def test_memory_error(place: Place) -> None:
    error = await failure(Faulty(lambda: bytearray(2**62) and None))
    assert type(error.__cause__) is MemoryError


# -- what cannot be sent -----------------------------------------------------------------------------------------------


class SendsAnything(Node):
    def process(self, data: Any) -> Any:
        return threading.Lock() if data == 2 else data


async def test_an_output_that_cannot_travel_names_node_and_frame(place: Place) -> None:
    error = await failure(SendsAnything())
    assert error.frame == 2
    assert "lock" in str(error)


async def test_an_input_that_cannot_travel_is_the_callers_error_alone(place: Place) -> None:
    async with WorkerPool([Pass()]) as pool:
        with pytest.raises(Exception, match="lock"):
            await pool.process(threading.Lock())
        with pytest.raises(Exception, match="lock"):
            [output async for output in pool.stream([threading.Lock()])]
        assert await pool.process(3) == 3
