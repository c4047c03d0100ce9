"""`python -m benchmarks.peers.install`: every alternative of the extra "peers" that can be installed here.

One by one, so that what has no wheel for this machine, or cannot be downloaded, leaves out itself alone.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
PIP_INSTALL = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def requirements(pyproject: Path = PYPROJECT) -> list[str]:
    """What the extra lists."""
    return list(tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]["peers"])


def install(wanted: Sequence[str], command: Sequence[str] = PIP_INSTALL) -> dict[str, str]:
    """Run the command for each; returns those that failed with the last line of what it said."""
    skipped = {}
    for requirement in wanted:
        done = subprocess.run([*command, requirement], check=False, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            skipped[requirement] = said.splitlines()[-1] if said else f"exit status {done.returncode}"
    return skipped


def main() -> None:
    wanted = requirements()
    skipped = install(wanted)
    print(f"installed: {', '.join(name for name in wanted if name not in skipped) or 'none'}")
    for requirement, reason in skipped.items():
        print(f"skipped: {requirement}: {reason}")


if __name__ == "__main__":
    main()
