"""The worker's state machine: every path of the picture, and what hypothesis makes of it."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remotemedia.config import Timeouts
from remotemedia.workers.lifecycle import KILL_S, IllegalTransition, LifeState, Phase, begin, transition
from remotemedia.workers.lifecycle_events import (
    AnnounceEnd,
    AnnounceFailure,
    AnnounceReady,
    Condemned,
    DeadlinePassed,
    Event,
    Exited,
    Instruction,
    Kill,
    SaidDrained,
    SaidGoodbye,
    SaidHello,
    SaidLoaded,
    SaidReady,
    SendStop,
    SendWelcome,
    SetDeadline,
    StartFailed,
    StopRequested,
    Sweep,
    Swept,
    Unresponsive,
)

TIMEOUTS = Timeouts(hello_s=1.0, load_s=2.0, initialize_s=3.0, stop_s=4.0)
START = [SaidHello(), SaidLoaded(), SaidReady()]
END = [SaidDrained(), SaidGoodbye(), Exited("exit 0"), Swept()]


def live(*events: Event) -> tuple[LifeState, list[list[Instruction]]]:
    state, first = begin(TIMEOUTS)
    instructions = [first]
    for event in events:
        state, more = transition(state, event)
        instructions.append(more)
    return state, instructions


def test_a_good_life() -> None:
    state, instructions = live(*START, StopRequested(), *END)
    assert state.phase is Phase.EXITED
    assert state.failure is None
    assert instructions == [
        [SetDeadline(1.0)],
        [SendWelcome(), SetDeadline(2.0)],
        [SetDeadline(3.0)],
        [SetDeadline(None), AnnounceReady()],
        [SendStop(4.0), SetDeadline(4.0)],
        [],
        [],
        [SetDeadline(None), Sweep()],
        [AnnounceEnd()],
    ]
    assert " → ".join(state.story) == (
        "spawned → said hello → said loaded → said ready → stop requested → said drained → said goodbye → "
        "exited (exit 0) → swept"
    )


def test_drained_may_go_without_saying() -> None:
    state, _ = live(*START, StopRequested(), SaidGoodbye(), Exited("exit 0"), Swept())
    assert (state.phase, state.failure) == (Phase.EXITED, None)


@pytest.mark.parametrize("heard", range(4))
def test_a_worker_can_be_stopped_while_it_starts(heard: int) -> None:
    said = START[:heard]
    state, instructions = live(*said, StopRequested())
    assert state.phase is Phase.DRAINING
    assert instructions[-1] == ([SendStop(4.0)] if heard else []) + [SetDeadline(4.0)]
    for event in START[heard:]:  # crossed with the wish to stop
        state, more = transition(state, event)
        assert more == ([SendStop(4.0)] if isinstance(event, SaidHello) else [])
    for event in END:
        state, _ = transition(state, event)
    assert (state.phase, state.failure) == (Phase.EXITED, None)


@pytest.mark.parametrize("heard", range(4))
@pytest.mark.parametrize("how", ["exit 0", "SIGKILL"])
def test_an_exit_without_goodbye_is_a_crash(heard: int, how: str) -> None:
    state, instructions = live(*START[:heard], Exited(how))
    assert instructions[-1] == [SetDeadline(None), AnnounceFailure(), Sweep()]
    assert state.phase is Phase.FAILED
    assert state.failure is not None
    assert (state.failure.kind, how in state.failure.reason) == ("died", True)
    assert state.failure.phase is [Phase.SPAWNED, Phase.LOADING, Phase.INITIALIZING, Phase.READY][heard]
    state, instructions_ = transition(state, Swept())
    assert (state.phase, instructions_) == (Phase.EXITED, [AnnounceEnd()])


def test_drained_is_no_goodbye() -> None:
    state, _ = live(*START, StopRequested(), SaidDrained(), Exited("exit 0"))
    assert state.failure is not None
    assert state.failure.kind == "died"


@pytest.mark.parametrize(
    "events", [[], START[:1], START[:2], [*START, StopRequested()], [*START, StopRequested(), *END[:2]]]
)
def test_a_missed_deadline_kills_and_shows_where_it_hangs(events: list[Event]) -> None:
    state, instructions = live(*events, DeadlinePassed())
    assert instructions[-1] == [AnnounceFailure(), Kill(dump_stacks=True), SetDeadline(KILL_S)]
    assert state.failure is not None
    assert state.failure.kind == "timed_out"
    state, more = transition(state, Exited("SIGKILL"))
    assert more == [SetDeadline(None), Sweep()]
    state, _ = transition(state, Swept())
    assert state.phase is Phase.EXITED


def test_a_node_that_cannot_start_is_given_time_to_clean_up() -> None:
    state, instructions = live(*START[:2], StartFailed("initialize"))
    assert instructions[-1] == [AnnounceFailure(), SendStop(4.0), SetDeadline(4.0)]
    state, more = transition(state, SaidGoodbye())
    assert more == []
    for event in (Exited("exit 0"), Swept()):
        state, _ = transition(state, event)
    assert state.phase is Phase.EXITED
    assert state.failure is not None
    assert (state.failure.kind, state.failure.reason) == ("start_failed", "could not initialize")


def test_the_first_failure_is_the_one_that_counts() -> None:
    state, instructions = live(*START[:2], StartFailed("load"), DeadlinePassed())
    assert instructions[-1] == [Kill(dump_stacks=True), SetDeadline(KILL_S)]
    state, _ = transition(state, Exited("SIGKILL"))
    assert state.failure is not None
    assert state.failure.kind == "start_failed"


def test_a_condemned_worker_is_killed_once() -> None:
    state, instructions = live(*START, Condemned("sent junk"))
    assert instructions[-1] == [AnnounceFailure(), Kill(dump_stacks=False), SetDeadline(KILL_S)]
    assert transition(state, Condemned("again"))[1] == []
    assert transition(state, StopRequested())[1] == []
    assert state.story[-1] == "condemned (sent junk)"


def test_one_that_hangs_when_it_is_ready_is_killed_and_shows_where() -> None:
    state, instructions = live(*START, Unresponsive("silent for 30 s"))
    assert instructions[-1] == [AnnounceFailure(), Kill(dump_stacks=True), SetDeadline(KILL_S)]
    assert state.failure is not None
    assert (state.failure.kind, state.failure.phase) == ("unresponsive", Phase.READY)
    assert state.failure.reason == "silent for 30 s"
    assert state.story[-1] == "unresponsive (silent for 30 s)"
    assert transition(state, Unresponsive("still"))[1] == []
    state, more = transition(state, Exited("SIGKILL"))
    assert more == [SetDeadline(None), Sweep()]
    assert state.failure is not None
    assert state.failure.kind == "unresponsive"


@pytest.mark.parametrize("then", [[StopRequested()], [StopRequested(), SaidGoodbye()], [Condemned("junk")]])
def test_one_that_is_on_its_way_out_owes_no_sign_of_life(then: list[Event]) -> None:
    before, _ = live(*START, *then)
    after, instructions = transition(before, Unresponsive("silent"))
    assert (after.phase, after.failure, instructions) == (before.phase, before.failure, [])


def test_what_cannot_be_killed_is_abandoned_and_swept_should_it_ever_end() -> None:
    state, instructions = live(DeadlinePassed(), DeadlinePassed())
    assert (state.phase, instructions[-1]) == (Phase.ABANDONED, [AnnounceEnd()])
    state, more = transition(state, Exited("SIGKILL"))
    assert (state.phase, more) == (Phase.ABANDONED, [Sweep()])
    state, more = transition(state, Swept())
    assert (state.phase, more) == (Phase.ABANDONED, [])


@pytest.mark.parametrize(
    ("events", "illegal"),
    [
        ([], SaidLoaded()),
        ([], SaidGoodbye()),
        ([], Swept()),
        ([], Unresponsive("silent")),
        (START[:2], Unresponsive("silent")),
        (START[:1], SaidHello()),
        (START[:1], SaidReady()),
        (START, SaidReady()),
        (START, SaidDrained()),
        (START, SaidGoodbye()),
        (START, DeadlinePassed()),
        (START, StartFailed("load")),
        ([*START, StopRequested(), SaidGoodbye()], SaidGoodbye()),
        ([Exited("exit 1")], Exited("exit 1")),
        ([Exited("exit 1")], SaidHello()),
        ([Exited("exit 1")], DeadlinePassed()),
        ([Exited("exit 1"), Swept()], Swept()),
    ],
)
def test_an_event_out_of_place_raises_with_the_story(events: list[Event], illegal: Event) -> None:
    state, _ = live(*events)
    with pytest.raises(IllegalTransition) as caught:
        transition(state, illegal)
    assert caught.value.story == state.story
    assert caught.value.event == illegal
    assert f"while {state.phase.value}; story: spawned" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).story == state.story


def test_a_story_has_an_end() -> None:
    state, _ = live()
    for number in range(1_000):
        state, _ = transition(state, Condemned(str(number)))
    assert len(state.story) == 50


class Life(RuleBasedStateMachine):
    """A worker that may do anything at any time, and a world that keeps its own books."""

    def __init__(self) -> None:
        super().__init__()
        self.state, first = begin(TIMEOUTS)
        self.alive = True
        self.deadline: float | None = None
        self.kills = self.sweeps = self.ends = self.failures = self.readies = self.welcomes = 0
        self.swept = True  # nothing to sweep yet
        self.carry_out(first)

    def feed(self, event: Event) -> bool:
        before = self.state
        try:
            self.state, instructions = transition(self.state, event)
        except IllegalTransition:
            return False
        assert self.state.story[-1]
        assert not before.phase.is_final or self.state.phase is before.phase, "left a final phase"
        assert before.failure is None or self.state.failure is before.failure, "forgot the first failure"
        self.carry_out(instructions)
        return True

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SetDeadline(seconds):
                    self.deadline = seconds
                case Kill():
                    assert self.alive, "killed a process that is gone"
                    self.kills += 1
                case Sweep():
                    assert not self.alive, "swept before it was reaped"
                    self.sweeps += 1
                    self.swept = False
                case SendStop() | SendWelcome():
                    assert self.state.connected, "sent to a worker that has not said hello"
                    self.welcomes += isinstance(instruction, SendWelcome)
                case AnnounceEnd():
                    self.ends += 1
                case AnnounceFailure():
                    self.failures += 1
                case AnnounceReady():
                    self.readies += 1

    said = st.sampled_from([SaidHello(), SaidLoaded(), SaidReady(), SaidDrained(), SaidGoodbye(), StartFailed("load")])

    @precondition(lambda self: self.alive)
    @rule(event=said)
    def worker_speaks(self, event: Event) -> None:
        if not self.feed(event):
            assert self.feed(Condemned("broke the protocol"))  # what a supervisor does

    @precondition(lambda self: self.alive)
    @rule(how=st.sampled_from(["exit 0", "exit 1", "SIGKILL"]))
    def process_ends(self, how: str) -> None:
        self.alive = False
        assert self.feed(Exited(how))
        assert not self.feed(Exited(how))

    @rule()
    def we_stop_it(self) -> None:
        assert self.feed(StopRequested())

    @rule()
    def we_condemn_it(self) -> None:
        assert self.feed(Condemned("pool closes at once"))

    @precondition(lambda self: not self.state.phase.is_starting)
    @rule()
    def it_is_silent_for_too_long(self) -> None:
        ready = self.state.phase is Phase.READY
        assert self.feed(Unresponsive("silent"))
        assert not ready or self.state.failure is not None

    @precondition(lambda self: self.deadline is not None)
    @rule()
    def time_passes(self) -> None:
        self.deadline = None
        assert self.feed(DeadlinePassed())

    @precondition(lambda self: not self.swept)
    @rule()
    def sweeping_is_done(self) -> None:
        self.swept = True
        assert self.feed(Swept())

    @invariant()
    def books_agree(self) -> None:
        final = self.state.phase.is_final
        assert self.ends == (1 if final else 0)
        assert self.kills <= 1
        assert self.readies <= 1
        assert self.welcomes <= 1
        assert self.failures == (0 if self.state.failure is None else 1)
        assert self.sweeps == (0 if self.alive else 1)
        assert self.state.exited is not self.alive
        assert self.state.phase is not Phase.EXITED or self.swept

    @invariant()
    def nothing_is_waited_for_without_a_deadline(self) -> None:
        waits_for_ever = self.state.phase in {Phase.READY, Phase.EXITED, Phase.ABANDONED} or not self.alive
        assert (self.deadline is None) == waits_for_ever

    def teardown(self) -> None:
        """Whatever happened: wish it to end, let time pass, and it ends."""
        self.feed(StopRequested())
        while not self.state.phase.is_final:
            if not self.swept:
                self.sweeping_is_done()
            else:
                self.time_passes()
        assert self.ends == 1


TestLife = Life.TestCase
