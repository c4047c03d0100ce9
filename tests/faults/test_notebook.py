"""A Jupyter kernel as the host: top-level await, nodes from cells, an interrupted cell, a kernel that is restarted."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_tools import Place, Script

RunScript = Callable[..., Script]

# In a process of its own: the client keeps sockets and threads for as long as its process lives.
NOTEBOOK = """
import sys, threading, time
from pathlib import Path
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

here = Path(sys.argv[0]).parent
notebook = nbformat.v4.new_notebook()
client = NotebookClient(notebook, kernel_name="python3", timeout=45)

def execute(source):
    \\"\\"\\"What the cell prints; the name of the error that ends it comes last.\\"\\"\\"
    cell = nbformat.v4.new_code_cell(source)
    notebook.cells.append(cell)
    try:
        client.execute_cell(cell, len(notebook.cells) - 1)
    except CellExecutionError as error:
        return printed(cell) + [error.ename]
    return printed(cell)

def printed(cell):
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout").split()

def interrupt_when(flag):
    def wait():
        while not (here / flag).exists():
            time.sleep(0.01)
        client.km._async_interrupt_kernel if False else None
        import os, signal
        os.kill(client.km.provisioner.pid, signal.SIGINT)
    threading.Thread(target=wait, daemon=True).start()

with client.setup_kernel():
    {body}
print("over")
"""
