"""A full /dev/shm is an error that says so, never a SIGBUS. In a private mount namespace with a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("full_shm.py")


@pytest.mark.root
@pytest.mark.parametrize(
    ("scenario", "size"),
    [
        ("too_large_to_grow", "80m"),
        ("slots_that_are_used_for_the_first_time", "12m"),
        ("memory_that_another_program_takes", "8m"),
        ("pools", "16m"),
    ],
)
def test_a_full_shared_memory(scenario: str, size: str, tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm && exec {sys.executable} {SCRIPT} {scenario}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "as it must be"), done.stderr
