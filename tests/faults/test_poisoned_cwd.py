"""Files and variables of the surroundings that must not reach into workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_tools import Place, Script

POISON = "raise SystemExit('poisoned')\n"
HOST = """
import os
from fault_nodes import *
from remotemedia.runtime import run_pipeline

class Where(Pass):
    def process(self, data):
        import sys
        return os.getcwd(), "" in sys.path, os.getcwd() in sys.path, "PYTHONSTARTUP" in os.environ

print(run_pipeline([Pass(), Where(), AsyncPass()], [1], executor="multiprocess"))
"""


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    directory = tmp_path / "poisoned"
    (directory / "config").mkdir(parents=True)
    (directory / "config" / "iceoryx2.toml").write_text("[global]\nroot-path = '/nowhere'\nprefix = 'poisoned_'\n")
    for name in ("workers", "ipc", "numpy", "zmq", "iceoryx2", "remotemedia", "msgspec", "sitecustomize", "child"):
        (directory / f"{name}.py").write_text(POISON)
    return directory


def test_modules_and_settings_in_the_working_directory(
    poisoned: Path, place: Place, run_script: Callable[..., Script]
) -> None:
    startup = poisoned / "numpy.py"
    script = run_script(HOST, cwd=poisoned, PYTHONSTARTUP=str(startup), PYTHONINSPECT="", HOME=str(poisoned))
    assert script.expect_success() == [f"[({str(poisoned)!r}, False, False, False)]"]
    assert list(Path("/dev/shm").glob("poisoned_*")) == []


def test_modules_beside_the_script_keep_their_names(
    tmp_path: Path, place: Place, run_script: Callable[..., Script]
) -> None:
    """`workers` and `ipc` are common names: the user's own modules of these names work, in workers as well."""
    for name in ("workers", "ipc", "child", "pool"):
        (tmp_path / f"{name}.py").write_text(f"NAME = 'my {name}'\n")
    script = run_script("""
    from fault_nodes import *
    from remotemedia.runtime import run_pipeline

    class Asks(Pass):
        def process(self, data):
            import child, ipc, pool, workers
            return " ".join([workers.NAME, ipc.NAME, child.NAME, pool.NAME])

    print(*run_pipeline([Asks()], [1], executor="multiprocess"))
    """)
    assert script.expect_success() == ["my workers my ipc my child my pool"]


def test_the_working_directory_is_gone(tmp_path: Path, place: Place, run_script: Callable[..., Script]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = run_script("import os\nos.rmdir(os.getcwd())\n" + HOST.replace("os.getcwd()", "1"), cwd=gone)
    assert script.expect_success() == ["[(1, False, False, False)]"]


def test_umask_and_modes(place: Place, run_script: Callable[..., Script]) -> None:
    """Whatever the host's umask: nothing that a pool makes can be opened by others."""
    script = run_script("""
    import asyncio, os, pathlib
    os.umask(0)
    from fault_nodes import *
    from remotemedia.workers.pool import WorkerPool

    async def main():
        async with WorkerPool([Pass(), Pass()]) as pool:
            await pool.process(bytes(1_000_000))
            (directory,) = pathlib.Path(os.environ["REMOTEMEDIA_RUNTIME_DIR"]).glob("remotemedia-*/*")
            mine = [directory.parent, directory, *directory.iterdir()]
            mine += pathlib.Path("/dev/shm").glob(f"rm_{directory.name}_*")
            assert len(mine) > 10
            for path in mine:
                assert not path.lstat().st_mode & 0o077, (path, oct(path.lstat().st_mode))
    asyncio.run(main())
    print("private", os.umask(0o22))
    """)
    assert script.expect_success() == ["private 0"]


def test_pythonpath_order_is_the_hosts(tmp_path: Path, place: Place, run_script: Callable[..., Script]) -> None:
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "added_later.py").write_text("VALUE = 5\n")
    script = run_script(f"""
    import sys
    sys.path.append({str(tmp_path / "late")!r})
    from fault_nodes import *
    from remotemedia.runtime import run_pipeline

    class Imports(Pass):
        def process(self, data):
            import added_later
            return added_later.VALUE

    print(*run_pipeline([Imports()], [1], executor="multiprocess"), {os.pathsep!r})
    """)
    assert script.expect_success() == [f"5 {os.pathsep}"]
