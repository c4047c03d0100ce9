"""Failpoints: named places in the life of a pool where a process can be made to die, hang or raise, for tests.

Nothing of this is even imported unless the environment variable REMOTEMEDIA_FAULTS is set. It holds faults, separated
by commas, which workers inherit:

    loop.half_written:kill@3
    loop.processing:sleep:0.5@2 node=detector generation=0, parent.reaping:raise worker=1

Each is `point:action[:argument][@n]` and any of `node=`, `worker=`, `generation=` to choose whose process it happens
in. It happens once in each such process, when the point is reached for the n-th time (default: the first). The points
of the coordinator, `parent.*`, are counted for each worker by itself.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from remotemedia.core.exceptions import ConfigurationError

VARIABLE = "REMOTEMEDIA_FAULTS"

POINTS = {
    "child.boot": "the worker has read its boot data",
    "child.loaded": "the node is unpickled",
    "child.initialized": "initialize() has returned; the coordinator does not know yet",
    "loop.received": "a frame is taken from the channel",
    "loop.borrowed": "the node's process() is entered with the frame, which lies in the memory of its sender",
    "loop.processing": "process() has returned, its result is not packed yet",
    "loop.loaned": "a slot is loaned for an output, nothing is written",
    "loop.half_written": "half of the loaned slot is overwritten",
    "loop.sent": "an output is sent, its input not yet acknowledged",
    "loop.acknowledged": "an input has just been acknowledged",
    "loop.snapshot": "the node has given its state, which is not kept yet",
    "loop.draining": "the end of the stream has come, flush() is to be called",
    "child.cleanup": "the node's cleanup() is to be called",
    "parent.spawned": "the worker's process has just been started",
    "parent.reaping": "the worker's process has ended and is reaped",
    "parent.sweeping": "what a dead worker left is to be removed",
}
"""Every failpoint, and where a process that reaches it stands."""

_FORM = "point:action[:argument][@n] [node=NAME] [worker=NUMBER] [generation=NUMBER]"
_SPEC = re.compile(r"(?P<point>[^:@\s]+):(?P<action>[^:@\s]+)(:(?P<argument>[^@\s]+))?(@(?P<nth>\S+))?")


class FaultInjected(Exception):  # noqa: N818 - named for what happened
    """Raised at a failpoint whose action is `raise`."""


# -- what can happen ---------------------------------------------------------------------------------------------------


def _signal_itself(number: signal.Signals) -> Callable[[float], None]:
    return lambda _: os.kill(os.getpid(), number)


def _segv(_: float) -> None:
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def _abort(_: float) -> NoReturn:
    os.abort()


def _exit(code: float) -> NoReturn:
    os._exit(int(code))


def _raise(_: float) -> NoReturn:
    raise FaultInjected("as asked for by " + VARIABLE)


def _hang_gil(_: float) -> None:
    """Lock a mutex twice, in C and without giving back the GIL: no Python code of this process runs any more."""
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(64)  # zeros: a default mutex, on every platform with glibc or musl
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


ACTIONS: dict[str, Callable[[float], None]] = {
    "kill": _signal_itself(signal.SIGKILL),
    "stop": _signal_itself(signal.SIGSTOP),
    "segv": _segv,
    "abort": _abort,
    "exit": _exit,
    "raise": _raise,
    "sleep": time.sleep,
    "hang_gil": _hang_gil,
}
_ARGUMENTS = {"exit": "an exit code from 0 to 255, as in exit:3", "sleep": "seconds, as in sleep:0.5"}
_MOST_EXIT_CODE = 255


# -- the faults --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: what happens at which point, the how manieth time, and in whose process (None: in anybody's)."""

    point: str
    action: str
    argument: float = 0.0
    nth: int = 1
    node: str | None = None
    worker: int | None = None
    generation: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one fault (see the module's text). Raises ConfigurationError."""
        spec, *filters = text.split()
        match = _SPEC.fullmatch(spec)
        if match is None:
            _refuse(text, f"expected {_FORM}")
        point, action = match["point"], match["action"]
        if point not in POINTS:
            _refuse(text, f"no point {point!r}; the points are {', '.join(POINTS)}")
        if action not in ACTIONS:
            _refuse(text, f"no action {action!r}; the actions are {', '.join(ACTIONS)}")
        nth = _whole(text, "n, the number after @,", match["nth"] or "1", least=1)
        return cls(
            point=point, action=action, argument=_argument(text, action, match["argument"]), nth=nth,
            **_filters(text, filters),
        )  # fmt: skip

    def concerns(self, node: str, worker: int, generation: int) -> bool:
        """Whether it is to happen in the process of this worker (or, for `parent.*`, to this worker's coordinator)."""
        wanted = ((self.node, node), (self.worker, worker), (self.generation, generation))
        return all(want is None or want == actual for want, actual in wanted)

    def act(self) -> None:
        """Let it happen, in this process and now."""
        ACTIONS[self.action](self.argument)


def parse(text: str) -> tuple[Fault, ...]:
    """All faults of the environment variable's value. Raises ConfigurationError."""
    return tuple(Fault.parse(part) for part in text.split(",") if part.strip())


def _refuse(text: str, why: str) -> NoReturn:
    raise ConfigurationError(f"{VARIABLE}: {text.strip()!r}: {why}")


def _whole(text: str, what: str, value: str, *, least: int = 0) -> int:
    if not value.isdecimal() or int(value) < least:
        _refuse(text, f"{what} must be a whole number from {least}, not {value!r}")
    return int(value)


def _argument(text: str, action: str, value: str | None) -> float:
    expected = _ARGUMENTS.get(action)
    if expected is None:
        if value is not None:
            _refuse(text, f"{action} takes no argument")
        return 0.0
    try:
        number = float(value or "")
    except ValueError:
        _refuse(text, f"{action} needs {expected}")
    if not 0 <= number < float("inf") or (action == "exit" and number not in range(_MOST_EXIT_CODE + 1)):
        _refuse(text, f"{action} needs {expected}")
    return number


def _filters(text: str, words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in {"node", "worker", "generation"} or not equals or not value or name in found:
            _refuse(text, f"{word!r} is no filter, or is there twice: expected node=, worker= or generation=")
        found[name] = value if name == "node" else _whole(text, f"{name}=", value)
    return found


class Faults:
    """The faults that may happen in one process, or around one worker, and how often each point was reached there."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        self._reached: Counter[str] = Counter()

    @property
    def points(self) -> frozenset[str]:
        """The points at which something is to happen."""
        return frozenset(fault.point for fault in self._faults)

    def due(self, point: str) -> list[Fault]:
        """Count that `point` is reached: the faults that are to happen now."""
        self._reached[point] += 1
        return [fault for fault in self._faults if fault.point == point and fault.nth == self._reached[point]]

    def reach(self, point: str) -> None:
        """The process is at `point`: what is to happen there happens now, or nothing."""
        for fault in self.due(point):
            fault.act()


def of_worker(node: str, worker: int, generation: int) -> Faults | None:
    """The faults that the environment asks for in, or around, this worker; None if there are none.

    Raises ConfigurationError for a text that cannot be understood.
    """
    wanted = parse(os.environ.get(VARIABLE, ""))
    chosen = tuple(fault for fault in wanted if fault.concerns(node, worker, generation))
    return Faults(chosen) if chosen else None
