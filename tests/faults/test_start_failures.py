"""A pool that cannot start: the right error, soon, and whatever had been started is stopped and cleaned up."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fault_nodes import (
    Action,
    AsyncPass,
    Diary,
    Faulty,
    FaultyOnLoad,
    Pass,
    exit_0,
    hang_for_ever,
    hang_in_python,
    hang_with_the_gil,
    kill,
    segv,
    value_error,
)
from fault_tools import Place, chain

from remotemedia.config import PoolConfig, Timeouts
from remotemedia.core.exceptions import (
    ConfigurationError,
    NodeInitializeError,
    NodeNotLoadable,
    SerializationError,
    WorkerDied,
    WorkerError,
    WorkerStartError,
    WorkerStartTimeout,
)
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool


async def failure(nodes: list[Node], config: PoolConfig | None = None) -> WorkerError:
    pool = WorkerPool(nodes, config=config)
    with pytest.raises(WorkerError) as caught:
        await pool.start()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    return caught.value


# -- it raises ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_initialize_raises(position: int, place: Place, loop_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(chain(Faulty(value_error, phase="initialize"), position))
    assert type(error) is NodeInitializeError
    assert (error.node, error.worker_id) == ("faulty", position)
    assert type(error.__cause__) is ValueError
    assert "in value_error" in error.remote_traceback
    assert error.pid is not None
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_the_node_cannot_be_loaded(position: int, place: Place) -> None:
    error = await failure(chain(FaultyOnLoad(value_error), position))
    assert type(error) is NodeNotLoadable
    assert (error.node, error.worker_id) == ("faulty", position)
    assert type(error.__cause__) is ValueError
    assert "in value_error" in error.remote_traceback
    assert error.suggestion


async def test_its_module_is_missing_in_the_worker(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "only_here.py"
    module.write_text("from fault_nodes import Pass\nclass Here(Pass): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    module.unlink()
    node = only_here.Here(name="lost")
    monkeypatch.delitem(sys.modules, "only_here", raising=False)
    sys.modules["only_here"] = only_here
    error = await failure([Pass(), node])
    del sys.modules["only_here"]
    assert type(error) is NodeNotLoadable
    assert error.node == "lost"
    assert "only_here" in str(error)
    assert "sys.path" in error.suggestion


async def test_what_initialize_began_is_cleaned_up_and_the_others_too(place: Place, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    ready = [Diary(str(diary), "a"), Diary(str(diary), "b"), Diary(str(diary), "c")]
    failing = InitializesHalf(str(diary), "half", others=3)
    pool = WorkerPool([*ready, failing], places=("multiprocess", "inline", "multiprocess", "multiprocess"))
    with pytest.raises(NodeInitializeError):
        await pool.start()
    told = sorted(diary.read_text().split("\n")[:-1])
    assert told == sorted(
        [*(f"{name} {what}" for name in "abc" for what in ("initialize", "cleanup")), "half begun", "half cleanup"]
    )


class InitializesHalf(Diary):
    """Waits until `others` nodes are initialized, begins, fails."""

    def __init__(self, path: str, name: str, others: int) -> None:
        super().__init__(path, name)
        self.others = others
        self.begun = False

    def initialize(self) -> None:
        path = Path(self.path)
        while not path.exists() or path.read_text().count("initialize") < self.others:
            threading.Event().wait(0.01)
        self.begun = True
        self.write("begun")
        value_error()

    def cleanup(self) -> None:
        if self.begun:
            self.write("cleanup")


async def test_two_fail_and_one_is_told(place: Place) -> None:
    failing = [Faulty(value_error, "initialize", name=name) for name in "xy"]
    error = await failure([failing[0], Pass(), failing[1]])
    assert type(error) is NodeInitializeError
    assert error.node in {"x", "y"}


async def test_an_inline_node_fails_while_workers_start(place: Place) -> None:
    pool = WorkerPool([Pass(), Faulty(value_error, phase="initialize")], places=("multiprocess", "inline"))
    with pytest.raises(NodeInitializeError) as caught:
        await pool.start()
    assert type(caught.value.__cause__) is ValueError


# -- it hangs ----------------------------------------------------------------------------------------------------------

HASTY = PoolConfig(timeouts=Timeouts(load_s=1.5, initialize_s=1.5, stop_s=5))


@pytest.mark.parametrize(
    ("action", "position"),
    [(hang_for_ever, 0), (hang_for_ever, 1), (hang_for_ever, 2), (hang_in_python, 1), (hang_with_the_gil, 1)],
)
async def test_initialize_hangs(action: Action, position: int, place: Place) -> None:
    error = await failure(chain(Faulty(action, phase="initialize"), position), HASTY)
    assert type(error) is WorkerStartTimeout
    assert (error.node, error.worker_id) == ("faulty", position)
    assert f" in {action.__name__}\n" in error.stacks
    assert " in initialize\n" in error.stacks
    assert "initializing" in error.reason
    assert "initialize_s" in error.suggestion
    assert "deadline passed" in " ".join(error.story)


@pytest.mark.parametrize("action", [hang_for_ever, hang_with_the_gil])
async def test_unpickling_hangs(action: Action, place: Place) -> None:
    error = await failure(chain(FaultyOnLoad(action), 1), HASTY)
    assert type(error) is WorkerStartTimeout
    assert f" in {action.__name__}\n" in error.stacks
    assert "loading" in error.reason


async def test_an_import_hangs(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import os, fault_nodes\n"
        "from remotemedia.core.node import Node\n"
        f"if os.getpid() != {__import__('os').getpid()}:\n"
        "    fault_nodes.hang_for_ever()\n"
        "class Slow(Node):\n    def process(self, data): return data\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import slow_module  # type: ignore[import-not-found]

    try:
        error = await failure([slow_module.Slow(name="slow")], HASTY)
    finally:
        del sys.modules["slow_module"]
    assert type(error) is WorkerStartTimeout
    assert error.node == "slow"
    assert "slow_module.py" in error.stacks
    assert " in hang_for_ever\n" in error.stacks


@pytest.mark.slow
async def test_an_interpreter_that_never_speaks(place: Place, tmp_path: Path) -> None:
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nexec sleep 1000\n")
    mute.chmod(0o755)
    config = PoolConfig(python_executable=str(mute), timeouts=Timeouts(hello_s=0.5))
    error = await failure([Pass(name="first"), Pass()], config)
    assert type(error) is WorkerStartTimeout
    assert "spawned" in error.reason


# -- it dies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "how"), [(kill, "SIGKILL"), (segv, "SIGSEGV"), (exit_0, "code 0")], ids=["SIGKILL", "SIGSEGV", "exit"]
)
@pytest.mark.parametrize("phase", ["load", "initialize"])
async def test_death_during_the_start(action: Action, how: str, phase: str, place: Place) -> None:
    faulty = FaultyOnLoad(action) if phase == "load" else Faulty(action, phase="initialize")
    error = await failure(chain(faulty, 1))
    assert type(error) is WorkerDied
    assert how in str(error)
    assert (error.node, error.frame) == ("faulty", None)
    assert "said ready" not in error.story
    if phase == "load":  # else it may or may not have got out what it said last
        assert "said loaded" not in error.story


async def test_the_interpreter_does_not_exist(place: Place) -> None:
    error = await failure([Pass(), AsyncPass()], PoolConfig(python_executable="/nowhere/python"))
    assert type(error) is WorkerStartError
    assert "/nowhere/python" in str(error)


async def test_the_interpreter_is_something_else(place: Place) -> None:
    error = await failure([Pass(), AsyncPass()], PoolConfig(python_executable="/bin/true"))
    assert type(error) is WorkerDied
    assert error.exit_code == 0
    assert error.story[:2] == ("spawned", "exited (exit 0)")


async def test_the_interpreter_lacks_what_we_need(place: Place, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import nothing_like_this"\n')
    bare.chmod(0o755)
    error = await failure([Pass()], PoolConfig(python_executable=str(bare)))
    assert type(error) is WorkerDied
    assert error.exit_code == 1
    assert "nothing_like_this" in error.stderr_tail


# -- it is not even tried ----------------------------------------------------------------------------------------------


class CleanupRaises(Pass):
    def cleanup(self) -> None:
        value_error()


class HasLock(Pass):
    def __init__(self) -> None:
        super().__init__()
        self.lock: Any = threading.Lock()


class ExitsWhenPickled(Pass):
    def __reduce__(self) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize("node", [CleanupRaises(), HasLock(), ExitsWhenPickled()], ids=lambda node: type(node).__name__)
async def test_a_node_that_cannot_travel_starts_nothing(node: Node, place: Place) -> None:
    pool = WorkerPool([Pass(), node])
    with pytest.raises(SerializationError) as caught:
        await pool.start()
    assert caught.value.node_name == node.name
    assert place.pool_ids() == []


async def test_a_pool_that_failed_to_start_says_so_when_it_is_used(place: Place) -> None:
    pool = WorkerPool([Faulty(value_error, phase="initialize")])
    with pytest.raises(NodeInitializeError):
        await pool.start()
    with pytest.raises(Exception, match="closed"):
        await pool.process(1)
    with pytest.raises(Exception, match="started before"):
        await pool.start()
    await pool.aclose()


async def test_no_runtime_directory(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="/dev/null: EPERM"):
        await WorkerPool([Pass()], config=PoolConfig(runtime_dir="/dev/null")).start()
