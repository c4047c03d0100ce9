"""The code in README.md runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def blocks() -> dict[str, str]:
    """The python blocks of the README, by the line on which they begin."""
    if not README.exists():
        return {}
    text = README.read_text()
    fences = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return {f"line {text.count(chr(10), 0, fence.start()) + 1}": fence[1] for fence in fences}


def test_the_readme_shows_code():
    assert README.exists(), "README.md is missing"
    assert blocks(), "README.md has no ```python block"


@pytest.mark.parametrize("place", blocks())
def test_readme_code_runs(place, tmp_path):
    """As a script in an empty folder, the way a reader would try it: no output on stderr, exit code 0."""
    script = tmp_path / "example.py"
    script.write_text(blocks()[place])
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
