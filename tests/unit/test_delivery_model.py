"""Exactly once, in order, in bounded memory and without a standstill: the whole pool of tests.unit.delivery_model under
schedules that stop and kill its workers anywhere, and the proof that breaking the protocol breaks a schedule.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from remotemedia.ipc import references, replay, shm_receiver
from remotemedia.ipc.acceptance import Acceptance
from remotemedia.ipc.channel import FAILED, LAST
from remotemedia.ipc.credit import Credit
from remotemedia.ipc.doorbell import Doorbell
from remotemedia.ipc.lane import AGAIN, Lane, Position
from remotemedia.ipc.references import Origin
from remotemedia.ipc.shm_sender import ShmSender
from remotemedia.workers.delivery import Merge, Unacknowledged
from remotemedia.workers.inbox import Inbox
from remotemedia.workers.snapshots import Snapshots
from tests.unit.delivery_model import (
    SETUPS,
    Pool,
    Setup,
    Split,
    finish,
    judged,
    killed_at,
    random_schedule,
    undisturbed,
)
from tests.unit.model_machine import Violation


def test_an_undisturbed_pool_gives_what_its_nodes_make() -> None:
    def chain(value: int) -> list[int]:
        return [((value * 3 + 1) * 3 + 1) * 3 + 1]

    numbers = [(0, 1, chain(1)), (1, 1, chain(2)), (2, 1, chain(3)), (3, 1, chain(4)), (4, 1, chain(5)), (5, 3, None)]
    numbers += [(6, 1, chain(6)), (7, 1, chain(7)), (8, 3, None)]
    frames = undisturbed(SETUPS["chain"]).frames
    assert [(number, flags, data) for number, _, flags, data in frames] == numbers


@pytest.mark.parametrize("name", SETUPS)
def test_random_schedules(name: str) -> None:
    setup = SETUPS[name]
    expected = undisturbed(setup)
    for seed in range(30):
        random_schedule(setup, expected, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SETUPS)
def test_many_random_schedules(name: str) -> None:
    setup = SETUPS[name]
    expected = undisturbed(setup)
    for seed in range(1000, 1250):
        random_schedule(setup, expected, seed, most_kills=6)


def _steps(**how: Any) -> int:
    setup = SETUPS["two"]
    return killed_at(setup, undisturbed(setup), [], **how)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("victim", [0, 1])
def test_one_kill_at_every_step(victim: int, late: bool) -> None:
    setup = SETUPS["two"]
    expected = undisturbed(setup)
    for step in range(_steps(late=late)):
        killed_at(setup, expected, [(step, victim)], late=late)


@pytest.mark.parametrize("victim", [0, 1])
def test_one_kill_while_all_go_step_by_step(victim: int) -> None:
    setup = SETUPS["two"]
    expected = undisturbed(setup)
    for step in range(victim, _steps(burst=1, late=False), 3):
        killed_at(setup, expected, [(step, victim)], burst=1, late=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victims", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_two_kills_at_any_two_steps(victims: tuple[int, int]) -> None:
    setup = SETUPS["two"]
    expected = undisturbed(setup)
    for first in range(_steps(late=False)):
        steps = killed_at(setup, expected, [(first, victims[0])], late=False)
        for second in range(first + first % 5, steps, 5):
            kills = [(first, victims[0]), (second, victims[1])]
            killed_at(setup, expected, kills, late=False)


@pytest.mark.slow
def test_a_frame_that_is_given_up_completes_whatever_was_made_of_it_before() -> None:
    setup = Setup((Split,), (), (4,), given_up=1, slot_bytes=1024)
    expected = undisturbed(setup)
    others = [frame for frame in expected.frames if frame[0] != 1]
    seen = set()
    for step in range(1000):
        with judged(setup, None, lambda n: n - 1, f"{step=}") as pool:
            while not pool.is_done and pool.machine.steps < step:
                pool.advance(pool.can_run()[0], 1)
            if pool.is_done:
                break
            pool.kill(pool.seats)
        assert [frame for frame in pool.result.frames if frame[0] != 1] == others
        flags = [flags for number, _, flags, _ in pool.result.frames if number == 1]
        assert [bool(each & LAST) for each in flags] == [False] * (len(flags) - 1) + [True]
        seen.add((len(flags), bool(flags[-1] & FAILED)))
    assert {(1, True), (2, True)} < seen


class Schedules(RuleBasedStateMachine):
    """The same, with hypothesis looking for the schedule."""

    @initialize(name=st.sampled_from(sorted(SETUPS)), choices=st.integers(0, 2**32 - 1).map(random.Random))
    def start(self, name: str, choices: Any) -> None:
        self.expected = undisturbed(SETUPS[name])
        self.pool = Pool(SETUPS[name], choices.randrange)

    @rule(which=st.integers(0, 5), steps=st.sampled_from([1, 2, 3, 5, 8, 20, 100]))
    def advance(self, which: int, steps: int) -> None:
        able = self.pool.can_run()
        if able:
            self.pool.advance(able[which % len(able)], steps)

    @rule(which=st.sets(st.integers(0, 4), min_size=1, max_size=3))
    def kill(self, which: set[int]) -> None:
        self.pool.kill([seat for seat in self.pool.alive if seat.index in which])

    @rule(which=st.integers(0, 4))
    def restart(self, which: int) -> None:
        dead = self.pool.dead
        if dead:
            self.pool.restart(dead[which % len(dead)])

    def teardown(self) -> None:
        pool = getattr(self, "pool", None)
        if pool is None:
            return
        try:
            finish(pool)
            assert pool.result == self.expected
            pool.check()
        finally:
            pool.close()


def test_schedules_that_hypothesis_finds() -> None:
    run_state_machine_as_test(
        Schedules,
        settings=settings(
            max_examples=40,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


# -- each of these breaks the protocol, and must break a schedule ------------------------------------------------------


def _remade_at_once() -> Any:
    def keep(self: Acceptance, sequence: int, _key: tuple[int, int]) -> None:
        self.acknowledged = sequence

    return mock.patch.object(Acceptance, "_keep", keep)


def _remade_late() -> Any:
    """Remade frames are finished with only when the newest of those that they stand for is."""
    real = Acceptance.acknowledge

    def acknowledge(self: Acceptance, sequence: int, key: tuple[int, int]) -> int:
        waiting = list(self._remade)
        self._remade.clear()
        told = real(self, sequence, key)
        if waiting and waiting[-1][0] <= key:
            told = self.acknowledged = waiting[-1][1]
        else:
            self._remade.extend(waiting)
        return told

    return mock.patch.object(Acceptance, "acknowledge", acknowledge)


def _inputs_before_outputs() -> Any:
    real = Unacknowledged.due
    return mock.patch.object(
        Unacknowledged, "due", lambda self, _acknowledged, covered=None: real(self, 1 << 62, covered)
    )


def _lane_after_lane() -> Any:
    real = Unacknowledged.due

    def due(self: Unacknowledged, acknowledged: int, covered: int | None = None) -> list[tuple[int, Position]]:
        return list(dict(real(self, acknowledged, covered)).items())

    return mock.patch.object(Unacknowledged, "due", due)


def _merge_from_the_start() -> Any:
    return mock.patch.object(Merge, "resumed", lambda last, **_how: Merge(len(last)))


def _snapshot_at_once() -> Any:
    real = Snapshots.settle
    return mock.patch.object(Snapshots, "settle", lambda self, _acknowledged: real(self, 1 << 62))


def _forget_nothing() -> Any:
    return mock.patch.object(ShmSender, "welcome", lambda self, _lane, _generation: self._slots.connect())


def _tickets_of_the_predecessor() -> Any:
    return mock.patch.object(Lane, "release_none", return_value=None)


def _tickets_of_repetitions() -> Any:
    return mock.patch.object(shm_receiver, "_NOT_TO_RELEASE", frozenset())


def _repetitions_stay() -> Any:
    return mock.patch.object(Inbox, "shed", return_value=None)


def _no_ring_after_a_death() -> Any:
    return mock.patch.object(Doorbell, "ring", return_value=None)


def _position_after_acknowledging() -> Any:
    real = shm_receiver.ShmReceiver.acknowledge

    def acknowledge(
        self: shm_receiver.ShmReceiver, sequence: int, key: tuple[int, int], position: Position | None = None
    ) -> None:
        real(self, sequence, key)
        if position is not None:
            self._lane.stand_at(position)

    return mock.patch.object(shm_receiver.ShmReceiver, "acknowledge", acknowledge)


def _completion_at_any_time() -> Any:
    """What is complete is forgotten also while a receiver's next generation has not been noticed."""

    def known_completed(self: Credit) -> int:
        if self._completion is not None:
            self._completed = self._completion[0]
        return self._completed

    return mock.patch.object(Credit, "_known_completed", known_completed)


def _no_first() -> Any:
    real = Acceptance.judge
    return mock.patch.object(Acceptance, "judge", lambda self, sequence, key, _first=None: real(self, sequence, key))


def _complete_views_stay() -> Any:
    """The tickets of complete frames that a dead receiver held are not given back."""
    real = Credit.forget

    def forget(self: Credit, lane: int) -> int:
        completed, self._completed = self._completed, 0
        first = real(self, lane)
        self._completed = completed
        return first

    return mock.patch.object(Credit, "forget", forget)


def _inputs_pass_each_other() -> Any:
    def is_passed_by(self: Merge, number: int) -> bool:
        self._present = number
        return False

    return mock.patch.object(Merge, "is_passed_by", is_passed_by)


def _no_pins() -> Any:
    return mock.patch.object(Origin, "pin", return_value=None)


def _pins_of_the_predecessor() -> Any:
    real = Origin.__init__

    def init(self: Origin, spec: Any, lane: int, ledger: Any, bell: Doorbell, _generation: int = 0) -> None:
        real(self, spec, lane, ledger, bell)

    return mock.patch.object(Origin, "__init__", init)


def _copies_by_reference() -> Any:
    """Also frames that were sent again."""
    return mock.patch.object(references, "REPEATED_AT", references.KIND_AT + 2)  # which is 0 for every array


def _nothing_is_sent_again_on_request() -> Any:
    return mock.patch.object(replay, "AGAIN", AGAIN + 1)  # a word that nobody writes


def _at_random(name: str, schedules: int, most_kills: int = 4) -> Iterator[Callable[[], int]]:
    setup = SETUPS[name]
    expected = undisturbed(setup)
    for seed in range(schedules):
        yield functools.partial(random_schedule, setup, expected, seed, most_kills)


def _at_every(steps: int, name: str, victim: int, *, times: int = 1, gap: int = 0) -> Iterator[Callable[[], int]]:
    """One stage dies at some step, and as many steps later again."""
    setup = SETUPS[name]
    expected = undisturbed(setup)
    for step in range(0, killed_at(setup, expected, [], late=False), steps):
        kills = [(step + gap * time, victim) for time in range(times)]
        yield functools.partial(killed_at, setup, expected, kills, late=False)


MUTATIONS: dict[Callable[[], contextlib.AbstractContextManager[Any]], Callable[[], Iterator[Callable[[], int]]]] = {
    _remade_at_once: lambda: _at_random("filter", 1500, 8),
    _remade_late: lambda: _at_random("deep diamond", 600, 8),
    _inputs_before_outputs: lambda: _at_random("filter", 600, 8),
    _lane_after_lane: lambda: _at_every(4, "diamond", 3),
    _merge_from_the_start: lambda: _at_random("diamond", 200),
    _snapshot_at_once: lambda: _at_random("state", 600, 8),
    _forget_nothing: lambda: _at_random("chain", 300),
    _tickets_of_the_predecessor: lambda: _at_random("two", 2000),
    _tickets_of_repetitions: lambda: _at_random("fan-out", 1000, 8),
    _repetitions_stay: lambda: _at_every(7, "skip", 1, times=4, gap=60),
    _no_ring_after_a_death: lambda: _at_random("two", 100),
    _completion_at_any_time: lambda: _at_random("diamond", 3000, 8),
    _no_first: lambda: _at_random("chain", 300),
    _complete_views_stay: lambda: _at_random("chain", 1500, 8),
    _inputs_pass_each_other: lambda: _at_random("diamond", 3000, 8),
    _position_after_acknowledging: lambda: _at_random("diamond", 1500),
    _no_pins: lambda: _at_random("pass", 300),
    _pins_of_the_predecessor: lambda: _at_random("pass", 300),
    _copies_by_reference: lambda: _at_random("cache", 1500, 8),
    _nothing_is_sent_again_on_request: lambda: _at_random("pass", 1500, 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__.strip("_"))
def test_a_broken_protocol_is_found(mutation: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
    def run_all() -> None:
        for schedule in MUTATIONS[mutation]():
            schedule()

    with mutation(), pytest.raises(Violation):
        run_all()
