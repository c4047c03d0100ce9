"""executor="ray" on a cluster of several Ray nodes on this machine; see tests.cluster.scenarios."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'"),
]


@pytest.mark.parametrize("scenario", ["alone", "same_results", "errors", "actors_die", "workers_die", "hosts_die"])
def test_on_a_cluster(scenario: str, tmp_path: Path) -> None:
    # What Ray starts imports the nodes of the tests, and this tree's remotemedia, by PYTHONPATH.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": "/tmp", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.scenarios", scenario],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout.splitlines()[-1:] == ["passed"]
