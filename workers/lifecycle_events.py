"""What can happen to a worker, and what its supervisor can be told to do: the words of lifecycle.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# -- events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SaidHello:
    """The worker's process speaks our protocol and has proved which worker it is."""


@dataclass(frozen=True)
class SaidLoaded:
    """The node is unpickled."""


@dataclass(frozen=True)
class SaidReady:
    """The node is initialized."""


@dataclass(frozen=True)
class SaidDrained:
    """Asked to stop, it has finished what it had."""


@dataclass(frozen=True)
class SaidGoodbye:
    """Its last words: it exits now."""


@dataclass(frozen=True)
class StartFailed:
    """It reported that it cannot start (`step`: "load", "initialize", ...); it cleans up and waits to be stopped."""

    step: str


@dataclass(frozen=True)
class StopRequested:
    """We want it to end in an orderly way."""


@dataclass(frozen=True)
class Condemned:
    """We want it killed: it broke the protocol, did not answer, or the pool is closing at once."""

    reason: str


@dataclass(frozen=True)
class Unresponsive:
    """It was ready, and then gave no sign of life, or worked on one frame, for too long."""

    reason: str


@dataclass(frozen=True)
class DeadlinePassed:
    """The deadline set last has passed."""


@dataclass(frozen=True)
class Exited:
    """The process has ended and is reaped. `how`: "exit 3", "SIGSEGV"."""

    how: str


@dataclass(frozen=True)
class Swept:
    """What the process left in shared memory is removed."""


Event: TypeAlias = (
    SaidHello
    | SaidLoaded
    | SaidReady
    | SaidDrained
    | SaidGoodbye
    | StartFailed
    | StopRequested
    | Condemned
    | Unresponsive
    | DeadlinePassed
    | Exited
    | Swept
)


# -- instructions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SendWelcome:
    """Answer the hello."""


@dataclass(frozen=True)
class SendStop:
    """Ask it to stop within `deadline_s` seconds."""

    deadline_s: float


@dataclass(frozen=True)
class SetDeadline:
    """Feed DeadlinePassed in `seconds`, instead of any deadline set before; None: no deadline."""

    seconds: float | None


@dataclass(frozen=True)
class AnnounceReady:
    """It may get frames."""


@dataclass(frozen=True)
class AnnounceFailure:
    """It is lost; `state.failure` says why."""


@dataclass(frozen=True)
class Kill:
    """Kill it and its process group; `dump_stacks`: have it write its stacks first, to show where it hangs."""

    dump_stacks: bool


@dataclass(frozen=True)
class Sweep:
    """Remove what the process left in shared memory, then feed Swept."""


@dataclass(frozen=True)
class AnnounceEnd:
    """This life is over: `state.phase` is final."""


Instruction: TypeAlias = (
    SendWelcome | SendStop | SetDeadline | AnnounceReady | AnnounceFailure | Kill | Sweep | AnnounceEnd
)
