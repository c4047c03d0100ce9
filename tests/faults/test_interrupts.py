"""Signals to a host that runs a pipeline: Ctrl-C once and twice, SIGTERM, and a terminal that goes away."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_tools import Place, Script, until

RunScript = Callable[..., Script]

HOST = """
import itertools, sys
from fault_nodes import *
import remotemedia.runtime

def frames():
    for number in itertools.count():
        if number == 50:
            print("loaded", flush=True)
        yield number

try:
    remotemedia.runtime.run_pipeline([{nodes}], frames(), executor="multiprocess", {options})
finally:
    print("left", flush=True)
"""


def host(nodes: str, options: str = "") -> str:
    return HOST.format(nodes=nodes, options=options)


def test_one_interrupt_stops_gracefully(place: Place, run_script: RunScript, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    script = run_script(host(f"Diary({str(diary)!r}, 'a'), AsyncPass(), Diary({str(diary)!r}, 'b')"))
    script.said("loaded")
    script.interrupt_group()
    assert script.wait() == -signal.SIGINT
    assert "KeyboardInterrupt" in script.stderr
    assert "ResourceWarning" not in script.stderr
    assert "WorkerDied" not in script.stderr
    assert sorted(diary.read_text().split("\n")[:-1]) == ["a cleanup", "a initialize", "b cleanup", "b initialize"]
    place.expect_nothing_left()


def test_one_interrupt_while_a_node_hangs(place: Place, run_script: RunScript) -> None:
    script = run_script(host("Pass(), Faulty(hang_for_ever, at=60)", "stop_s=0.5"))
    script.said("loaded")
    script.interrupt_group()
    assert script.wait() == -signal.SIGINT
    place.expect_nothing_left()


def test_the_second_interrupt_does_not_wait_for_anybody(place: Place, run_script: RunScript, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    source = f"""
    from pathlib import Path
    from fault_nodes import *
    class HangsInCleanup(Pass):
        def cleanup(self):
            if self.is_initialized:
                Path({str(hanging)!r}).touch()
                hang_for_ever()
    """
    script = run_script(textwrap.dedent(source) + host("HangsInCleanup()", "stop_s=1000.0"))
    script.said("loaded")
    script.interrupt_group()
    until(hanging.exists, "the worker to hang in cleanup")
    script.interrupt_group()
    assert script.wait() != 0
    place.expect_nothing_left()


@pytest.mark.parametrize("phase", ["load", "initialize"])
def test_an_interrupt_during_the_start(phase: str, place: Place, run_script: RunScript) -> None:
    node = "FaultyOnLoad(hang_for_ever)" if phase == "load" else "Faulty(hang_for_ever, 'initialize')"
    script = run_script(host(f"Pass(), {node}", "stop_s=0.5"))
    until(lambda: len(place.workers()) == 2, "two workers")
    script.interrupt_group()
    assert script.wait() == -signal.SIGINT
    place.expect_nothing_left()


def test_sigterm_is_the_hosts_business_and_workers_follow_it(
    place: Place, run_script: RunScript, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    script = run_script(host(f"Diary({str(diary)!r}, 'a')"))
    script.said("loaded")
    script.send(signal.SIGTERM)
    assert script.wait() == -signal.SIGTERM  # no handler of ours: it dies at once
    until(lambda: not place.processes(), "no worker")
    assert diary.read_text() == "a initialize\na cleanup\n"
    sweep_here()


def test_a_host_that_turns_sigterm_into_an_interrupt_stops_gracefully(place: Place, run_script: RunScript) -> None:
    source = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))\n"
    script = run_script(source + host("Pass(), AsyncPass()"))
    script.said("loaded")
    script.send(signal.SIGTERM)
    assert script.wait() == -signal.SIGINT
    assert script.said("left") == []
    place.expect_nothing_left()


def test_hangup_of_the_host_alone(place: Place, run_script: RunScript) -> None:
    script = run_script(host("Pass()"))
    script.said("loaded")
    script.send(signal.SIGHUP)
    assert script.wait() == -signal.SIGHUP
    until(lambda: not place.processes(), "no worker")
    sweep_here()


def sweep_here() -> None:
    from remotemedia.workers.sweep import sweep

    sweep()
