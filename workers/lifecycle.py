"""The life of one worker process as a pure state machine: no clock, no I/O.

    SPAWNED ─hello→ LOADING ─loaded→ INITIALIZING ─ready→ READY ─stop→ DRAINING ─drained→ STOPPING ─exit, swept→ EXITED
       └── exit / deadline / report of failure / condemned / unresponsive, anywhere ──► FAILED ─exit, swept→ EXITED
                                                                                     └─ cannot be killed → ABANDONED

`transition(state, event)` gives the next state and what the supervisor has to do now, in that order. A slot that
restarts its workers begins a new life, with its own state, once the old one has reached EXITED: the process is reaped
by then and what it left is swept, which iceoryx2 needs before a successor may create its ports. The wait in between
(BACKOFF) belongs to the slot, not to a process.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from remotemedia.config import Timeouts
from remotemedia.core.exceptions import ProtocolError
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

KILL_S = 5.0
"""A process that has not ended this long after SIGKILL sleeps in the kernel and is not waited for any longer."""

_STORY_EVENTS = 50


class Phase(enum.Enum):
    """Where a worker is in its life."""

    SPAWNED = "spawned"
    LOADING = "loading"
    INITIALIZING = "initializing"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"
    EXITED = "exited"
    ABANDONED = "abandoned"

    @property
    def is_final(self) -> bool:
        return self in {Phase.EXITED, Phase.ABANDONED}

    @property
    def is_starting(self) -> bool:
        return self in {Phase.SPAWNED, Phase.LOADING, Phase.INITIALIZING}


# -- state -------------------------------------------------------------------------------------------------------------


FailureKind: TypeAlias = Literal["start_failed", "died", "timed_out", "condemned", "unresponsive"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a life ended in FAILED: what happened first, and the phase it happened in."""

    kind: FailureKind
    phase: Phase
    reason: str


@dataclass(frozen=True, kw_only=True)
class LifeState:
    """One worker's life so far. `story`: the events, oldest first, for error texts."""

    timeouts: Timeouts
    phase: Phase = Phase.SPAWNED
    failure: Failure | None = None
    connected: bool = False
    said_goodbye: bool = False
    kill_sent: bool = False
    exited: bool = False
    story: tuple[str, ...] = ("spawned",)


Step: TypeAlias = tuple[LifeState, list[Instruction]]


class IllegalTransition(ProtocolError):  # noqa: N818 - named like its siblings in core.exceptions
    """An event that cannot happen in that state. Attributes: `phase`, `event`, `story`."""

    def __init__(self, state: LifeState, event: Event) -> None:
        self.phase, self.event, self.story = state.phase, event, state.story
        super().__init__(f"{_told(event)} while {state.phase.value}; story: {' → '.join(state.story)}")


def begin(timeouts: Timeouts) -> Step:
    """The life of a process that has just been spawned."""
    return LifeState(timeouts=timeouts), [SetDeadline(timeouts.hello_s)]


def transition(state: LifeState, event: Event) -> Step:
    """The state after `event`, and what to do. Raises IllegalTransition for an event that has no place in the story."""
    step = _handlers[type(event)](state, event)
    if step is None:
        raise IllegalTransition(state, event)
    after, instructions = step
    return replace(after, story=(*after.story, _told(event))[-_STORY_EVENTS:]), instructions


def _told(event: Event) -> str:
    match event:
        case StartFailed(detail) | Condemned(detail) | Unresponsive(detail) | Exited(detail):
            return f"{_words(event)} ({detail})"
        case _:
            return _words(event)


def _words(event: Event) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__).lower()


# -- what the worker says ----------------------------------------------------------------------------------------------


def _on_hello(state: LifeState, _: SaidHello) -> Step | None:
    if state.connected or state.exited:
        return None
    state = replace(state, connected=True)
    if state.phase is Phase.SPAWNED:
        load_s = state.timeouts.load_s
        return replace(state, phase=Phase.LOADING), [SendWelcome(), SetDeadline(load_s)]
    if state.phase is Phase.DRAINING:  # it was asked to stop before it could be reached
        return state, [SendStop(state.timeouts.stop_s)]
    return state, []


def _on_loaded(state: LifeState, _: SaidLoaded) -> Step | None:
    if state.phase is Phase.LOADING:
        return replace(state, phase=Phase.INITIALIZING), [SetDeadline(state.timeouts.initialize_s)]
    return _crossed(state)


def _on_ready(state: LifeState, _: SaidReady) -> Step | None:
    if state.phase is Phase.INITIALIZING:
        return replace(state, phase=Phase.READY), [SetDeadline(None), AnnounceReady()]
    return _crossed(state)


def _on_drained(state: LifeState, _: SaidDrained) -> Step | None:
    if state.phase is Phase.DRAINING:
        return replace(state, phase=Phase.STOPPING), []
    return (state, []) if state.phase is Phase.FAILED and not state.exited else None


def _on_goodbye(state: LifeState, _: SaidGoodbye) -> Step | None:
    if state.said_goodbye or state.exited or not state.connected:
        return None
    if state.phase in {Phase.DRAINING, Phase.STOPPING}:
        return replace(state, phase=Phase.STOPPING, said_goodbye=True), []
    return (replace(state, said_goodbye=True), []) if state.phase is Phase.FAILED else None


def _crossed(state: LifeState) -> Step | None:
    """News of the start that crossed with our wish to stop or to kill the worker."""
    return (state, []) if state.phase in {Phase.DRAINING, Phase.FAILED} and not state.exited else None


def _on_start_failed(state: LifeState, event: StartFailed) -> Step | None:
    if not state.phase.is_starting:
        return _crossed(state)
    if not state.connected:  # no message comes before the hello
        return None
    stop_s = state.timeouts.stop_s
    failed = _failed(state, "start_failed", f"could not {event.step}")
    return failed, [AnnounceFailure(), SendStop(stop_s), SetDeadline(stop_s)]


# -- what we want ------------------------------------------------------------------------------------------------------


def _on_stop_requested(state: LifeState, _: StopRequested) -> Step | None:
    if not (state.phase.is_starting or state.phase is Phase.READY):
        return state, []  # on its way out, or gone
    stop_s = state.timeouts.stop_s
    ask: list[Instruction] = [SendStop(stop_s)] if state.connected else []
    return replace(state, phase=Phase.DRAINING), [*ask, SetDeadline(stop_s)]


def _on_condemned(state: LifeState, event: Condemned) -> Step | None:
    if state.exited or state.kill_sent:
        return state, []
    return _kill(state, "condemned", event.reason, dump_stacks=False)


# -- what time and the kernel say --------------------------------------------------------------------------------------


def _on_deadline_passed(state: LifeState, _: DeadlinePassed) -> Step | None:
    if state.exited or state.phase in {Phase.READY, Phase.ABANDONED}:
        return None
    if state.kill_sent:
        return replace(state, phase=Phase.ABANDONED), [AnnounceEnd()]
    return _kill(state, "timed_out", f"was still {state.phase.value} when its time was up", dump_stacks=True)


def _on_unresponsive(state: LifeState, event: Unresponsive) -> Step | None:
    if state.phase is Phase.READY:
        return _kill(state, "unresponsive", event.reason, dump_stacks=True)
    # Before it is ready it owes no sign of life; afterwards its end is on the way, with a deadline of its own.
    return None if state.phase.is_starting else (state, [])


def _on_exited(state: LifeState, event: Exited) -> Step | None:
    if state.exited:
        return None
    after = replace(state, exited=True)
    if state.phase is Phase.ABANDONED:
        return after, [Sweep()]
    if state.phase is Phase.FAILED or (state.phase is Phase.STOPPING and state.said_goodbye):
        return after, [SetDeadline(None), Sweep()]
    # Whatever its exit code: without a goodbye, nobody knows what it left undone.
    died = _failed(after, "died", f"ended without a goodbye ({event.how})")
    return died, [SetDeadline(None), AnnounceFailure(), Sweep()]


def _on_swept(state: LifeState, _: Swept) -> Step | None:
    if not state.exited or state.phase is Phase.EXITED:
        return None
    if state.phase is Phase.ABANDONED:
        return state, []
    return replace(state, phase=Phase.EXITED), [AnnounceEnd()]


def _kill(state: LifeState, kind: FailureKind, reason: str, *, dump_stacks: bool) -> Step:
    announce: list[Instruction] = [AnnounceFailure()] if state.failure is None else []
    failed = replace(_failed(state, kind, reason), kill_sent=True)
    return failed, [*announce, Kill(dump_stacks), SetDeadline(KILL_S)]


def _failed(state: LifeState, kind: FailureKind, reason: str) -> LifeState:
    failure = state.failure or Failure(kind=kind, phase=state.phase, reason=reason)
    return replace(state, phase=Phase.FAILED, failure=failure)


_handlers: dict[type[Any], Callable[[LifeState, Any], Step | None]] = {
    SaidHello: _on_hello,
    SaidLoaded: _on_loaded,
    SaidReady: _on_ready,
    SaidDrained: _on_drained,
    SaidGoodbye: _on_goodbye,
    StartFailed: _on_start_failed,
    StopRequested: _on_stop_requested,
    Condemned: _on_condemned,
    Unresponsive: _on_unresponsive,
    DeadlinePassed: _on_deadline_passed,
    Exited: _on_exited,
    Swept: _on_swept,
}
