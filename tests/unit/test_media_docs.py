"""docs/media.md names every node; its code runs in tests/test_docs_code.py."""

from __future__ import annotations

import re
from pathlib import Path

from remotemedia.nodes.registry import BUILT_IN_MODULES

TEXT = (Path(__file__).parents[2] / "docs" / "media.md").read_text()
NOT_MEDIA = {"BatchNode", "CalculatorNode", "FunctionNode", "PassThroughNode"}


def test_every_node_is_named():
    assert set(BUILT_IN_MODULES) - set(re.findall(r"`(\w+)`", TEXT)) == NOT_MEDIA
