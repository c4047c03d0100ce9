"""Pools used where they do not belong, and pools without asyncio whose host is interrupted, killed or just ends."""

from __future__ import annotations

import asyncio
import signal
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_nodes import AsyncPass, Pass
from fault_tools import Place, Script, collect, until

from remotemedia.core.exceptions import PoolClosed
from remotemedia.workers.pool import WorkerPool

RunScript = Callable[..., Script]


# -- another loop, another thread --------------------------------------------------------------------------------------


async def outputs_of(pool: WorkerPool) -> list[Any]:
    found: list[Any] = []
    await collect(pool.stream(range(3)), found)
    return found


USES: dict[str, Callable[[WorkerPool], Any]] = {
    "process": lambda pool: pool.process(1),
    "stream": outputs_of,
    "aclose": lambda pool: pool.aclose(),
}


async def test_another_loop_in_another_thread(place: Place, loop_kind: str) -> None:
    def elsewhere(use: Callable[[WorkerPool], Any]) -> None:
        threading.current_thread().name = "visitor"
        with asyncio.Runner() as runner:
            runner.run(use(pool))

    async with WorkerPool([Pass(), AsyncPass()], places=("multiprocess", "inline")) as pool:
        for use in USES.values():
            with pytest.raises(PoolClosed, match=r"belongs to .*'MainThread'.* was used in .*'visitor'") as caught:
                await asyncio.to_thread(elsewhere, use)
            assert str(caught.value).count("Loop") == 2  # both are named
            assert await pool.process("after") == "after"
        assert [worker.frames for worker in (await asyncio.to_thread(pool.snapshot)).workers] == [3, 3]


def test_another_loop_in_the_same_thread(place: Place) -> None:
    with asyncio.Runner() as own, asyncio.Runner() as other:
        pool = WorkerPool([Pass()])
        own.run(pool.start())
        for use in USES.values():
            with pytest.raises(PoolClosed, match="belongs to the event loop"):
                other.run(use(pool))
        with pytest.raises(PoolClosed, match="no loop"):
            pool.process(1).send(None)
        assert own.run(pool.process("after")) == "after"
        own.run(pool.aclose())


def test_the_same_loop_in_another_thread(place: Place) -> None:
    """The kernel ties the workers to the thread that started them."""
    loop = asyncio.new_event_loop()
    pool = WorkerPool([Pass()])
    loop.run_until_complete(pool.start())
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            loop.run_until_complete(pool.process(1))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert [type(error) for error in caught] == [PoolClosed]
    caught.clear()
    loop.run_until_complete(pool.aclose())
    loop.close()


def test_closing_when_the_loop_is_closed_already(place: Place) -> None:
    with asyncio.Runner() as runner:
        pool = WorkerPool([Pass(), AsyncPass()], places=("multiprocess", "inline"))
        runner.run(pool.start())
    asyncio.run(pool.aclose())
    place.expect_nothing_left()
    with pytest.raises(PoolClosed):
        asyncio.run(pool.process(1))
    pool.close()


async def test_threads_reach_the_pool_of_a_loop(place: Place, loop_kind: str) -> None:
    """By the pool's own blocking methods, and by asyncio's means."""

    def visit(number: int) -> list[Any]:
        return [
            pool.run(number),
            list(pool.map(range(number))),
            pool.call(pool.process, "called"),
            asyncio.run_coroutine_threadsafe(pool.process("submitted"), loop).result(),
        ]

    loop = asyncio.get_running_loop()
    async with WorkerPool([Pass(), Pass()]) as pool:
        visits = await asyncio.gather(*(asyncio.to_thread(visit, number) for number in range(8)))
        assert visits == [[n, list(range(n)), "called", "submitted"] for n in range(8)]
        await asyncio.to_thread(pool.close)
        with pytest.raises(PoolClosed):
            await asyncio.to_thread(pool.run, 1)


# -- a host without asyncio is interrupted -----------------------------------------------------------------------------

HOST = """
import itertools, threading
from fault_nodes import *
from remotemedia import PoolConfig, Timeouts, WorkerPool

def frames():
    for number in itertools.count():
        if number == 50:
            print("loaded", flush=True)
            {at_50}
        yield number

with WorkerPool([{nodes}], config=PoolConfig(timeouts=Timeouts(stop_s={stop_s}))) as pool:
    {body}
"""
MAPS = "for output in pool.map(frames()): pass"
RUNS = "for frame in frames(): pool.run(frame)"


def host(nodes: str, body: str, *, stop_s: float = 30.0, at_50: str = "pass") -> str:
    return HOST.format(nodes=nodes, body=body, stop_s=stop_s, at_50=at_50)


def expect_interrupted(script: Script, place: Place) -> None:
    assert script.wait() == -signal.SIGINT
    assert "KeyboardInterrupt" in script.stderr
    for word in ("ResourceWarning", "WorkerDied", "never retrieved", "never awaited", "remotemedia-pool"):
        assert word not in script.stderr, script.stderr
    place.expect_nothing_left()


@pytest.mark.parametrize("body", [MAPS, RUNS], ids=["map", "run"])
def test_one_interrupt_stops_gracefully(body: str, place: Place, run_script: RunScript, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    script = run_script(host(f"Diary({str(diary)!r}, 'a'), AsyncPass(), Diary({str(diary)!r}, 'b')", body))
    script.said("loaded")
    script.interrupt_group()
    expect_interrupted(script, place)
    assert sorted(diary.read_text().split("\n")[:-1]) == ["a cleanup", "a initialize", "b cleanup", "b initialize"]


@pytest.mark.parametrize("body", [MAPS, RUNS], ids=["map", "run"])
def test_one_interrupt_while_a_node_hangs(body: str, place: Place, run_script: RunScript) -> None:
    script = run_script(host("Pass(), Faulty(hang_for_ever, at=50)", body, stop_s=0.5))
    script.said("loaded")
    script.interrupt_group()
    expect_interrupted(script, place)


def test_one_interrupt_while_the_source_blocks(place: Place, run_script: RunScript) -> None:
    script = run_script(host("Pass()", MAPS, at_50="threading.Event().wait()"))
    script.said("loaded")
    script.interrupt_group()
    expect_interrupted(script, place)


def test_an_interrupt_that_is_caught_leaves_the_pool_usable(place: Place, run_script: RunScript) -> None:
    body = """
    for use in (lambda: [pool.run(frame) for frame in frames()], lambda: list(pool.map(frames()))):
        try:
            use()
        except KeyboardInterrupt:
            print("caught", pool.run(1), list(pool.map(range(3))), flush=True)
    """
    script = run_script(host("Pass(), AsyncPass()", textwrap.indent(textwrap.dedent(body), "    ").strip()))
    for count in (1, 2):
        until(lambda count=count: script.lines.count("loaded") == count, "frames under way")  # type: ignore[misc]
        script.interrupt_group()
        until(lambda count=count: script.lines.count("caught 1 [0, 1, 2]") == count, "it to go on")  # type: ignore[misc]
    script.expect_success()
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
    script = run_script(textwrap.dedent(source) + host("HangsInCleanup()", MAPS, stop_s=1000.0))
    script.said("loaded")
    script.interrupt_group()
    until(hanging.exists, "the worker to hang in cleanup")
    script.interrupt_group()
    expect_interrupted(script, place)


def test_two_interrupts_while_a_node_in_this_process_hangs(place: Place, run_script: RunScript) -> None:
    """It blocks the loop of the pool, for good."""
    tells = """
    import os, signal
    def tell(number, frame):
        os.write(1, b"interrupted\\n")
        signal.default_int_handler(number, frame)
    signal.signal(signal.SIGINT, tell)
    """
    nodes = "Pass(), Faulty(lambda: (print('hanging', flush=True), hang_for_ever()), at=60, name='f')"
    source = host(nodes, MAPS).replace("config=", "places=['multiprocess', 'inline'], config=")
    script = run_script(textwrap.dedent(tells) + source)
    script.said("hanging")
    script.interrupt_group()
    script.said("interrupted")
    script.interrupt_group()
    assert script.wait() == -signal.SIGINT
    assert script.lines.count("interrupted") == 2
    place.expect_nothing_left()


@pytest.mark.parametrize("phase", ["load", "initialize"])
def test_an_interrupt_during_the_start(phase: str, place: Place, run_script: RunScript) -> None:
    node = "FaultyOnLoad(hang_for_ever)" if phase == "load" else "Faulty(hang_for_ever, 'initialize')"
    script = run_script(host(f"Pass(), {node}", MAPS, stop_s=0.5))
    until(lambda: len(place.workers()) == 2, "two workers")
    script.interrupt_group()
    expect_interrupted(script, place)


# Another thread of the host takes the signal, as the kernel may decide: the main thread is not woken by it.
OTHER_THREAD = """
import signal, sys, threading

def take_signal():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=take_signal, daemon=True).start()
"""


@pytest.mark.parametrize(
    ("node", "body"),
    [
        ("Faulty(tell_and_hang, 'initialize')", MAPS),
        ("Faulty(tell_and_hang, at=50)", MAPS),
        ("Faulty(tell_and_hang, at=50)", RUNS),
        ("Faulty(tell_and_hang, 'cleanup')", "pool.run(1)"),
    ],
    ids=["start", "map", "run", "close"],
)
def test_an_interrupt_that_another_thread_takes(node: str, body: str, place: Place, run_script: RunScript) -> None:
    tells = """
def tell_and_hang():
    print("hanging", flush=True)
    hang_for_ever()
"""
    stop_s = 1000.0 if "cleanup" in node else 0.5
    source = host(f"Pass(), {node}", body, stop_s=stop_s)
    script = run_script(OTHER_THREAD + "from fault_nodes import *" + tells + source)
    until(lambda: any("hanging" in line for line in script.lines), "the node to hang")
    assert script.process.stdin is not None
    script.process.stdin.write("now\n")
    script.process.stdin.flush()
    expect_interrupted(script, place)


# -- a host without asyncio ends without closing -----------------------------------------------------------------------

ENDS = """
import gc, os, sys, threading
from fault_nodes import *
from remotemedia import WorkerPool

pool = WorkerPool([Pass(), AsyncPass()], places=("multiprocess", "inline")).__enter__()
assert list(pool.map(range(3))) == [0, 1, 2]
{body}
"""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("del pool; gc.collect()", 0),
        ("sys.exit(5)", 5),
        ("outputs = pool.map(range(1000)); next(outputs)", 0),
        ("threading.Thread(target=pool.run, args=(1,), daemon=True).start()", 0),
    ],
    ids=["ends", "drops it", "sys.exit", "in a map", "in a call"],
)
def test_an_interpreter_that_ends_without_closing(body: str, code: int, place: Place, run_script: RunScript) -> None:
    script = run_script(ENDS.format(body=body))
    assert script.wait() == code, script.stderr
    assert "never closed" in script.stderr
    place.expect_nothing_left()


def test_os_exit_and_kill_take_the_workers_along(place: Place, run_script: RunScript) -> None:
    script = run_script(ENDS.format(body="os._exit(7)"))
    assert script.wait() == 7
    killed = run_script(ENDS.format(body="print('up', flush=True); threading.Event().wait()"))
    killed.said("up")
    killed.kill_and_reap()
    until(lambda: not place.processes(), "no worker")
    run_script(ENDS.format(body="pool.close()")).expect_success()  # sweeps
    place.expect_nothing_left()
