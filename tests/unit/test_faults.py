"""Failpoints: what the text means, what is refused, when a fault happens and what it does to a process."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.node import Node
from remotemedia.testing import faults
from remotemedia.testing.faults import Fault, FaultInjected, Faults, parse
from remotemedia.testing.faulty_stage import instrument


def test_every_form_of_a_fault() -> None:
    assert parse("loop.half_written:kill@3") == (Fault(point="loop.half_written", action="kill", nth=3),)
    assert parse(" child.boot:sleep:0.25 , child.cleanup:exit:7@2 node=a worker=1 generation=0,") == (
        Fault(point="child.boot", action="sleep", argument=0.25),
        Fault(point="child.cleanup", action="exit", argument=7, nth=2, node="a", worker=1, generation=0),
    )
    assert parse("") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("loop.sent", "expected point:action"),
        ("loop.sent:", "expected point:action"),
        ("loop.nowhere:kill", "no point 'loop.nowhere'; the points are child.boot"),
        ("loop.sent:explode", "no action 'explode'; the actions are kill"),
        ("loop.sent:kill@0", "must be a whole number from 1, not '0'"),
        ("loop.sent:kill@x", "must be a whole number from 1, not 'x'"),
        ("loop.sent:kill:9", "kill takes no argument"),
        ("loop.sent:sleep", "sleep needs seconds"),
        ("loop.sent:sleep:soon", "sleep needs seconds"),
        ("loop.sent:sleep:-1", "sleep needs seconds"),
        ("loop.sent:sleep:inf", "sleep needs seconds"),
        ("loop.sent:exit", "exit needs an exit code"),
        ("loop.sent:exit:256", "exit needs an exit code"),
        ("loop.sent:exit:1.5", "exit needs an exit code"),
        ("loop.sent:kill colour=red", "'colour=red' is no filter"),
        ("loop.sent:kill node=a node=b", "'node=b' is no filter, or is there twice"),
        ("loop.sent:kill worker=first", "worker= must be a whole number from 0"),
        ("loop.sent:kill,loop.sent:kill generation=-1", "generation= must be a whole number"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert complaint in str(caught.value)
    assert faults.VARIABLE in str(caught.value)


def test_faults_are_chosen_by_the_environment_and_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    assert faults.of_worker("a", 0, 0) is None
    monkeypatch.setenv(faults.VARIABLE, "loop.sent:raise node=a generation=1, child.boot:raise worker=2")
    assert faults.of_worker("a", 0, 0) is None
    chosen = faults.of_worker("a", 0, 1)
    assert chosen is not None
    assert chosen.points == {"loop.sent"}
    both = faults.of_worker("a", 2, 1)
    assert both is not None
    assert both.points == {"loop.sent", "child.boot"}


def test_a_fault_happens_once_when_its_turn_comes() -> None:
    chosen = Faults(parse("loop.sent:raise@3, loop.received:raise"))
    for _ in range(2):
        chosen.reach("loop.sent")
    with pytest.raises(FaultInjected):
        chosen.reach("loop.sent")
    for _ in range(5):
        chosen.reach("loop.sent")
    with pytest.raises(FaultInjected):
        chosen.reach("loop.received")


DIE = """
import sys
from remotemedia.testing.faults import of_worker
of_worker("a", 0, 0).reach("loop.sent")
print("alive")
"""


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("kill", -signal.SIGKILL),
        ("segv", -signal.SIGSEGV),
        ("abort", -signal.SIGABRT),
        ("exit:0", 0),
        ("exit:5", 5),
        ("raise", 1),
    ],
)
def test_what_the_actions_do_to_a_process(action: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, f"loop.sent:{action}")
    ended = subprocess.run([sys.executable, "-c", DIE], check=False, capture_output=True, timeout=50)
    assert ended.returncode == code
    assert ended.stdout == b""


def test_a_process_that_sleeps_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, "loop.sent:sleep:0.01")
    ended = subprocess.run([sys.executable, "-c", DIE], check=False, capture_output=True, timeout=50)
    assert (ended.returncode, ended.stdout) == (0, b"alive\n")


class Memory(Node):
    """A node with state."""

    def process(self, data: Any) -> Any:
        return data

    def snapshot_state(self) -> bytes:
        return b"state"


class FakeEnds:
    """An inbox with one receiver, and a sender: what the loop calls, in memory."""

    def __init__(self) -> None:
        self.receivers, self.packer = [self], self
        self.sent: list[Any] = []
        self.slot = (ctypes.c_uint8 * 8)()

    def take(self) -> Any:
        return SimpleNamespace(value=1)

    def acknowledge(self, position: Any) -> None:
        self.sent.append(("acknowledge", position))

    def pack(self, value: Any) -> Any:
        self.loan(8)
        return value

    def send(self, parcel: Any, number: int) -> None:
        self.sent.append((parcel, number))

    def loan(self, nbytes: int) -> Any:
        return SimpleNamespace(payload_ptr=ctypes.addressof(self.slot))


def one_turn(stage: Any) -> None:
    frame = stage.inbox.take()
    parcel = stage.sender.pack(stage.node.process(frame.value))
    stage.sender.send(parcel, 0)
    stage.inbox.receivers[0].acknowledge((1,))
    stage.node.snapshot_state()
    stage.node.flush()


@pytest.mark.parametrize("point", [point for point in faults.POINTS if point.startswith("loop.")])
def test_the_points_of_the_loop_are_reached_once_in_each_turn(point: str) -> None:
    ends = FakeEnds()
    stage = SimpleNamespace(inbox=ends, sender=ends, node=Memory())
    instrument(stage, Faults(parse(f"{point}:raise@3")))
    for _ in range(2):
        one_turn(stage)
    assert ends.sent == [(1, 0), ("acknowledge", (1,))] * 2
    with pytest.raises(FaultInjected):
        one_turn(stage)
    half = 4 if point == "loop.half_written" else 0
    assert bytes(ends.slot) == b"\xa5" * half + bytes(8 - half)


def test_what_nobody_asks_for_is_left_alone() -> None:
    ends = FakeEnds()
    stage = SimpleNamespace(inbox=ends, sender=ends, node=Memory())
    instrument(stage, Faults(parse("child.boot:raise")))
    assert "process" not in vars(stage.node)
    assert vars(ends).keys() == {"packer", "receivers", "sent", "slot"}
