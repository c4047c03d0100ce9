"""A Jupyter kernel as the host: top-level await, nodes from cells, an interrupted cell, a kernel that is restarted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_tools import Place, Script, until

RunScript = Callable[..., Script]

# In a process of its own: a client keeps sockets and threads for as long as its process lives.
CLIENT = r'''
import os, signal, threading, time
from pathlib import Path
import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

here = Path(__file__).parent
notebook = nbformat.v4.new_notebook()
client = NotebookClient(notebook, kernel_name="python3", timeout=45)

def execute(source):
    """What the cell prints, as words; the name of the error that ends it comes last."""
    cell = nbformat.v4.new_code_cell(source)
    notebook.cells.append(cell)
    error = []
    try:
        client.execute_cell(cell, len(notebook.cells) - 1)
    except CellExecutionError as raised:
        error = [raised.ename]
    outputs = [out for out in cell.outputs if out.output_type == "stream" and out.name == "stdout"]
    return "".join(out.text for out in outputs).split() + error

def interrupt_when(flag):
    """What the stop button does, as soon as the file is there."""
    def wait():
        while not flag.exists():
            time.sleep(0.01)
        os.kill(client.km.provisioner.pid, signal.SIGINT)
    threading.Thread(target=wait, daemon=True).start()

NODES = """
import itertools, threading
from pathlib import Path
from remotemedia import Node, PoolConfig, Timeouts, WorkerPool

factor = 3
quick = PoolConfig(timeouts=Timeouts(stop_s=0.3))

class Times(Node):
    def process(self, data):
        return data * factor

class Flags(Node):
    def process(self, data):
        if data == 100:
            Path(flag).touch()
        return data

class Hangs(Node):
    def process(self, data):
        Path(flag).touch()
        while True:  # a kernel notices an interrupt when its loop next has something to do, as these lines are
            threading.Event().wait(0.05)
            print("hangs", flush=True)
"""
USE = """
async with WorkerPool([Times(), Times()]) as pool:
    print(await pool.process(1), *[output async for output in pool.stream(range(3))])
"""
CHILDREN = "import psutil; print(len(psutil.Process().children(recursive=True)))"

with client.setup_kernel():
    assert execute(NODES) == []
    print("used", *execute(USE))
    print("sync", *execute("with WorkerPool([Times()]) as pool: pass"))
    for number, (node, use) in enumerate([
        ("Flags()", "[None async for _ in pool.stream(itertools.count())]"),
        ("Hangs()", "await pool.process(1)"),
    ]):
        flag = here / f"flag{number}"
        interrupt_when(flag)
        print("interrupted", *execute(
            f"flag = {str(flag)!r}\nasync with WorkerPool([{node}], config=quick) as pool: {use}"
        ))
        print("left", *execute(CHILDREN))
        print("again", *execute(USE))
    print("held", *execute("pool = await WorkerPool([Times()]).__aenter__(); print(await pool.process(1))"))
    print("children", *execute(CHILDREN))
    run_sync(client.km.restart_kernel)(now=True)
    run_sync(client.kc.wait_for_ready)(timeout=30)
    print("fresh", *execute("print('factor' in globals())"))
    print("restarted", flush=True)
    input()
    assert execute(NODES) == []
    print("used", *execute(USE))
print("over")
'''


@pytest.mark.timeout(120)
def test_a_kernel_as_the_host(place: Place, run_script: RunScript, tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    script = run_script(CLIENT, PYTHONWARNINGS="ignore", JUPYTER_PLATFORM_DIRS="1", **folders)
    script.said("restarted")
    until(lambda: len(place.processes()) == 2, "the client and the new kernel, and no worker of the old one")
    assert script.process.stdin is not None
    script.process.stdin.write("\n")
    script.process.stdin.flush()
    lines = script.expect_success()
    assert [line for line in lines if not line.startswith("interrupted")] == [
        "used 9 0 9 18",
        "sync PipelineError",
        *["left 0", "again 9 0 9 18"] * 2,
        "held 3",
        "children 2",  # the worker, and the fork server that it came from
        "fresh False",
        "restarted",
        "used 9 0 9 18",
        "over",
    ]
    interrupted = [line.split()[-1] for line in lines if line.startswith("interrupted")]
    assert len(interrupted) == 2
    assert set(interrupted) <= {"KeyboardInterrupt", "CancelledError"}
    place.expect_nothing_left()
