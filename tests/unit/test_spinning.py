"""Looking for a frame before sleeping: for how long, and that nothing is missed by it. The clock is the test's."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.node import Node
from remotemedia.ipc.doorbell import DATA
from remotemedia.workers import exchange as exchange_module
from remotemedia.workers.exchange import Exchange
from remotemedia.workers.spinning import SpinBudget, has_one_each, why_not
from tests.nodes import Add
from tests.unit.local_stage import RunningStage, running
from tests.unit.test_exchange import Held, echo

FULL = 50_000
"""The longest look, in nanoseconds, of a budget of 50 µs."""
LONG, SOON = 10 * FULL, FULL + 40_000
"""Waits that no look could have ended, and that one might have."""

WAITS = st.lists(st.tuples(st.sampled_from([0, 5_000, SOON, LONG, 10**10]), st.booleans()))


# -- the budget --------------------------------------------------------------------------------------------------------


@given(WAITS, st.integers(1, 1000))
def test_a_look_never_takes_longer_than_it_may(waits: list[tuple[int, bool]], most_us: int) -> None:
    spin = SpinBudget(most_us)
    for ns, found in waits:
        spin.waited(ns, found=found and spin.ns > 0)
        assert 0 <= spin.ns <= most_us * 1000


@given(WAITS)
def test_long_waits_end_the_looking_whatever_was_before(waits: list[tuple[int, bool]]) -> None:
    spin = SpinBudget(50)
    for ns, found in waits:
        spin.waited(ns, found=found and spin.ns > 0)
    for _ in range(4):
        spin.waited(LONG, found=False)
    assert spin.ns == 0
    for _ in range(100):
        spin.waited(LONG, found=False)
        assert spin.ns == 0


@given(WAITS)
def test_a_frame_that_is_found_makes_the_next_look_as_long_as_it_may_be(waits: list[tuple[int, bool]]) -> None:
    spin = SpinBudget(50)
    for ns, found in waits:
        spin.waited(ns, found=found and spin.ns > 0)
    spin.waited(5_000, found=True)
    assert spin.ns == FULL


@given(WAITS)
def test_it_grows_again_when_frames_come_soon(waits: list[tuple[int, bool]]) -> None:
    spin = SpinBudget(50)
    for ns, found in waits:
        spin.waited(ns, found=found and spin.ns > 0)
    for _ in range(200):
        if spin.ns == FULL:
            break
        spin.waited(SOON, found=False)
    assert spin.ns == FULL


def test_looks_that_just_miss_their_frame_become_rare() -> None:
    """The worst that can happen: each frame comes a little later than the longest look takes."""
    spin = SpinBudget(50)
    spent = []
    for _ in range(2000):
        spent.append(spin.ns)
        spin.waited(SOON, found=False)
    assert sum(spent[:8]) == 8 * FULL  # at first it is persistent: the other end may be about to begin as well
    assert sum(spent[1000:]) <= 1000 * FULL * 0.05
    assert max(spent[1000:]) == FULL  # and never gives up for good


# -- whether at all ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ([{0}], True),
        ([{0, 1}, {0, 1}], True),
        ([{0, 1}, {0, 1}, {0, 1}], False),
        ([{0, 1}, {0}], True),
        ([{0}, {0, 1}, {1, 2}], True),
        ([{0, 1, 2, 3}, {3}, {3}], False),
        ([{0, 1}, {0}, {1}, {2}, {3}], False),
        ([{0}, {0}], False),
    ],
)
def test_each_process_needs_a_processor_of_its_own(allowed: list[set[int]], expected: bool) -> None:
    assert has_one_each(allowed) is expected


def test_the_reason_is_said() -> None:
    two = frozenset({0, 1})
    assert why_not(0, "same_core", [two] * 9) is None  # nobody wants to spin
    assert why_not(50, "free", [two] * 2) is None
    reason = why_not(50, "free", [two] * 3)
    assert reason == "its 2 workers and the coordinator have no processor each: they may use 2 together"
    assert "one processor" in str(why_not(50, "same_core", [two] * 2))


# -- a stage -----------------------------------------------------------------------------------------------------------


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.ns = 10**9

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter_ns", clock)
    monkeypatch.setattr(exchange_module, "perf_counter_ns", clock)
    return clock


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def one_frame(stage: RunningStage, number: int) -> None:
    await stage.send(number, number)
    frame = await stage.next()
    assert frame.value == number + 1
    await turns()


async def test_a_stage_looks_once_for_each_frame_and_not_when_it_is_idle(clock: Clock) -> None:
    async with running(Add(1), spin_us=50) as stage:
        spin, word = stage.stage.spin, stage.ground.bell.word
        assert spin is not None
        await turns()
        assert spin.looks == 0  # nothing has come yet
        for number in range(3):
            await one_frame(stage, number)
            assert spin.looks == number + 1
            assert not word[0] & DATA  # it looks, so nobody needs to ring
        clock.ns += 49_000
        await turns()
        assert not word[0] & DATA
        clock.ns += 2_000
        await turns()
        assert word[0] & DATA  # it sleeps
        for _ in range(10):
            stage.ground.bell.ring()  # even if it is woken for nothing
            await turns()
        assert spin.looks == 3
        await one_frame(stage, 3)
        assert spin.looks == 4


async def test_without_spinning_it_sleeps_at_once(clock: Clock) -> None:
    async with running(Add(1)) as stage:
        await one_frame(stage, 0)
        assert stage.stage.spin is None
        assert stage.ground.bell.word[0] & DATA


async def test_frames_that_come_late_are_not_looked_for(clock: Clock) -> None:
    async with running(Add(1), spin_us=50) as stage:
        spin = stage.stage.spin
        assert spin is not None
        for number in range(20):
            await one_frame(stage, number)
            clock.ns += LONG
            await turns()
        assert spin.looks == 4  # 50, 25, 12.5 and 6.25 µs, then none
        assert spin.ns == 0


class Told(Node):
    def process(self, data: int) -> int:
        return data + 1

    def on_control(self, message: object) -> None:
        self.message = message


async def test_messages_and_the_stop_do_not_wait_for_the_end_of_a_look(clock: Clock) -> None:
    """In a loop, whose turns between the looks take the rings away."""
    node = Told()
    async with running(node, spin_us=50) as stage:
        await one_frame(stage, 0)
        answers: asyncio.Queue[BaseException | None] = asyncio.Queue()
        stage.stage.post_control("now", answers.put_nowait)
        assert await answers.get() is None
        assert node.message == "now"
        await one_frame(stage, 1)
        assert not stage.ground.bell.word[0] & DATA
    assert stage.task.done()  # though the clock stands still


# -- a call ------------------------------------------------------------------------------------------------------------


async def waiting_call(exchange: Exchange, value: int) -> asyncio.Task[int]:
    call = asyncio.ensure_future(exchange.process(value))
    await turns()
    assert not call.done()
    return call


async def test_a_call_that_waits_alone_looks_for_its_output(clock: Clock) -> None:
    async with echo(spin_us=50) as exchange:
        spin, word = exchange.spin, exchange._bell.word
        assert spin is not None
        held = Held(exchange)
        call = await waiting_call(exchange, 1)
        assert not word[0] & DATA
        held._let = 1  # nobody rings
        assert await call == 1
        assert spin.looks == 1
        call = await waiting_call(exchange, 2)
        clock.ns += 51_000
        await turns()
        assert word[0] & DATA
        await held.let()
        assert await call == 2
        await turns()
        assert spin.looks == 2


async def test_calls_that_come_meanwhile_all_sleep(clock: Clock) -> None:
    async with echo(spin_us=50) as exchange:
        held = Held(exchange)
        first = await waiting_call(exchange, 1)
        second = await waiting_call(exchange, 2)
        await turns()
        assert exchange._bell.word[0] & DATA  # and the first has left the looking to them
        await held.let(2)
        assert [await first, await second] == [1, 2]


async def test_a_call_that_is_cancelled_while_it_looks_leaves_the_rest_as_it_is(clock: Clock) -> None:
    async with echo(spin_us=50) as exchange:
        held = Held(exchange)
        call = await waiting_call(exchange, 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert call.cancelled()
        call = await waiting_call(exchange, 2)
        held._let = 2
        assert await call == 2


async def test_a_failure_of_the_pool_ends_the_looking(clock: Clock) -> None:
    async with echo(spin_us=50) as exchange:
        Held(exchange)
        call = await waiting_call(exchange, 1)
        exchange.fail(ValueError("over"))
        with pytest.raises(ValueError, match="over"):
            await call
