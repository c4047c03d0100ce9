"""The examples of a plain script and of a notebook."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RATE = 16_000


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TMPDIR": str(folder)}


def tone(amplitude: int, seconds: float) -> bytes:
    return (amplitude * np.sin(np.arange(int(seconds * RATE)) / 10)).round().astype(np.int16).tobytes()


def test_the_script_measures_files_side_by_side(tmp_path: Path) -> None:
    names = []
    for amplitude in (100, 1000, 10_000, 0):
        names.append(f"{amplitude}.wav")
        with wave.open(str(tmp_path / names[-1]), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(tone(amplitude, 2.5 if amplitude else 0))
    command = [sys.executable, EXAMPLES / "levels.py", *names]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "100.wav: -53.3 dB", "1000.wav: -33.3 dB", "10000.wav: -13.3 dB", "0.wav: empty",
    ]  # fmt: skip


def test_the_script_ends_in_order_when_it_is_told_to(tmp_path: Path) -> None:
    """Nothing is left, says the leak check, though it waits for input in the midst of a stream."""
    command = [sys.executable, EXAMPLES / "levels.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as script:
        assert script.stdin is not None
        assert script.stdout is not None
        script.stdin.write(tone(1000, 1))
        script.stdin.flush()
        assert script.stdout.readline() == b"-33.3 dB\n"
        script.send_signal(signal.SIGTERM)
        assert script.wait(30) == 130
    assert list(tmp_path.iterdir()) == []


# In a process of its own: a client keeps sockets and threads for as long as its process lives.
CLIENT = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
nbformat.validate(notebook)
assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.mark.slow
def test_the_notebook_runs_and_shows_the_pool(tmp_path: Path) -> None:
    import nbformat

    folders = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    command = [sys.executable, "-W", "ignore", "-c", CLIENT, EXAMPLES / "notebook.ipynb", tmp_path / "done.ipynb"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment(tmp_path), "JUPYTER_PLATFORM_DIRS": "1", **folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(tmp_path / "done.ipynb", 4).cells
    shown = [cell.outputs[0] for cell in cells if cell.cell_type == "code" and cell.outputs]
    running, places, snapshot, printed, closed = shown
    for output in (running, snapshot):
        html = output.data["text/html"]
        assert re.findall(r"<td[^>]*>(Difference|Where)</td>", html) == ["Difference", "Where"]
        assert html.count("ready") == 2
    assert "(running)" in running.data["text/html"]
    assert places.data["text/plain"].startswith("['nothing', (109, 24), (109, 34)")
    assert printed.text == "(109, 9)\n"
    assert "(closed)" in closed.data["text/html"]
