"""The code in docs/media.md runs, and the document names every node."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remotemedia.nodes.registry import BUILT_IN_MODULES

pytestmark = pytest.mark.media
TEXT = (Path(__file__).parents[2] / "docs" / "media.md").read_text()
BLOCKS = {
    f"line {TEXT.count(chr(10), 0, fence.start()) + 1}": fence[1]
    for fence in re.finditer(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
}
NOT_MEDIA = {"BatchNode", "CalculatorNode", "FunctionNode", "PassThroughNode"}


@pytest.mark.parametrize("place", BLOCKS)
def test_the_code_runs(place, tmp_path, monkeypatch):
    """In an empty folder; in this process, because a process of its own for each would take most of the time."""
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[place], f"docs/media.md, {place}", "exec"), {"__name__": "__main__"})


def test_every_node_is_named():
    assert len(BLOCKS) == 9
    assert set(BUILT_IN_MODULES) - set(re.findall(r"`(\w+)`", TEXT)) == NOT_MEDIA
