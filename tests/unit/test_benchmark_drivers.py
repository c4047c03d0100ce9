"""The processes of the benchmarks: drivers, their trees, what is left when they are killed, and the ping-pong."""

from __future__ import annotations

import asyncio
import functools

import numpy as np
import psutil
import pytest

from benchmarks import peers
from benchmarks.bench import Bench, Options
from benchmarks.commands import Call, RoundTrips, Start, Stop
from benchmarks.driver_process import HERE, ContestantError, DriverProcess
from benchmarks.floors import ANYWHERE, _ping_pong_in_python, ping_pong
from benchmarks.process_tree import cpu_seconds, ended, pss_bytes, sleeps, tree_of
from benchmarks.work import Work

DEADLINE_S = 30.0


def test_a_hung_driver_is_killed_with_its_deadline():
    driver = DriverProcess()
    try:
        driver.wait_until_up()
        (process,) = tree_of(driver._process.pid)
        with pytest.raises(ContestantError) as caught:
            driver.ask(Call("asyncio:sleep", (3600,)), deadline_s=0.05)
        assert caught.value.kind == "hung"
    finally:
        driver.close()
    assert not psutil.pid_exists(process.pid)


WRONG_WAY = functools.partial(asyncio.sleep, 0, [1])


@pytest.mark.parametrize(
    ("call", "kind", "detail"),
    [
        (Call("no_such_module:f", ()), "unavailable", "no_such_module"),
        (Call("asyncio:sleep", ("soon",)), "error", "TypeError"),
        (Call("benchmarks.inline_overhead:_timed_us", (WRONG_WAY, [1, 2])), "wrong output", "1 outputs, not the 2"),
    ],
)
def test_what_goes_wrong_in_a_driver_is_told(call, kind, detail):
    driver = DriverProcess()
    try:
        driver.wait_until_up()
        with pytest.raises(ContestantError) as caught:
            driver.ask(call, DEADLINE_S)
        assert caught.value.kind == kind
        assert detail in caught.value.detail
    finally:
        assert driver.close() == []


def test_a_driver_that_dies_is_reported_with_its_exit_status():
    driver = DriverProcess()
    try:
        driver.wait_until_up()
        with pytest.raises(ContestantError) as caught:
            driver.ask(Call("os:_exit", (3,)), DEADLINE_S)
        assert caught.value.kind == "died"
        assert "exit status 3" in caught.value.detail
    finally:
        driver.close()


@pytest.mark.slow
def test_a_chain_runs_from_start_to_stop_and_leaves_nothing_behind():
    driver = DriverProcess(peers.MP_QUEUE)
    try:
        driver.wait_until_up()
        driver.ask(Start(1, Work.ADD_ONE, 64), DEADLINE_S)
        metrics = driver.ask(RoundTrips(0.0), DEADLINE_S)
        assert 0 < metrics["median_us"] <= metrics["p99_us"]
        assert driver.cpu_seconds() > 0
        driver.ask(Stop(), DEADLINE_S)
    finally:
        assert driver.close() == []


def test_a_process_has_ended_though_nobody_has_reaped_it():
    process = psutil.Popen(["sleep", "3600"])
    with ended([process.pid]) as wait:
        assert wait(0.0) == {process.pid}
        process.kill()
        assert wait(DEADLINE_S) == set()
    assert psutil.pid_exists(process.pid)
    process.wait()


def test_versions_take_the_place_of_the_contestants():
    with Bench(Options(), versions={"this tree": HERE, "abc123": HERE}) as bench:
        assert bench.contestants([peers.EZMSG]) == ("this tree", "abc123")
        driver = bench._driver("abc123")
        driver.wait_until_up()  # as remotemedia: there is no contestant abc123
        assert driver.close() == []
    with Bench(Options()) as bench:
        assert bench.contestants([peers.EZMSG]) == [peers.EZMSG]


def test_cpu_time_of_an_ended_process_counts_as_nothing():
    process = psutil.Popen(["true"])
    process.wait()
    assert cpu_seconds([process]) == 0.0


def test_memory_and_sleeps_of_this_process():
    (this, *_) = family = tree_of(psutil.Process().pid)
    before = sleeps([this])
    held = np.ones(32 * 2**20, np.uint8)
    assert pss_bytes([this]) > held.nbytes
    psutil.Popen(["true"]).wait()
    assert sleeps(family) >= before


def test_after_kill_9_of_a_driver_what_lives_on_is_counted_and_ended():
    driver = DriverProcess(peers.MP_QUEUE)
    try:
        driver.wait_until_up()
        driver.ask(Start(1, Work.ADD_ONE, 64), DEADLINE_S)
        stages = [process.pid for process in tree_of(driver._process.pid)[1:]]
        aftermath = driver.kill_main(wait_s=0.0)
        assert aftermath.processes == len(stages)  # they wait for frames that nobody sends any more
        driver.relaunch()
        driver.ask(Start(1, Work.ADD_ONE, 64), DEADLINE_S)
        driver.ask(Stop(), DEADLINE_S)
    finally:
        assert driver.close() == []
    assert not any(psutil.pid_exists(pid) for pid in stages)


def test_both_ping_pongs_measure():
    for metrics in (_ping_pong_in_python(ANYWHERE, ANYWHERE, 20), _measured_floor()):
        assert 0 < metrics["median_us"] <= metrics["p99_us"]


def _measured_floor() -> dict[str, float]:
    with ping_pong() as (_, measure):
        return measure(ANYWHERE, ANYWHERE, 20)
