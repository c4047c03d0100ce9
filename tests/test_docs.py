"""What the documents say is shown by a test is: the files and the tests that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("faults.md", "guarantees.md")


def defined_tests() -> set[str]:
    text = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    return set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_is_named_exists(document: str) -> None:
    named = re.findall(r"`((?:tests/)?[\w/]*test_\w+(?:\.py)?)`", (ROOT / "docs" / document).read_text())
    assert len(named) > 10
    defined, files = defined_tests(), {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    missing = [
        name
        for name in named
        if not (
            (ROOT / name).exists() if "/" in name else name in files if name.endswith(".py") else name in defined
        )
    ]
    assert missing == []


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "tests" / "faults").glob("test_*.py")))
def test_every_file_of_fault_tests_is_in_the_catalogue(file: str) -> None:
    text = (ROOT / "docs" / "faults.md").read_text()
    inside = re.findall(r"def (test_\w+)", (ROOT / "tests" / "faults" / file).read_text())
    assert file in text or any(f"`{name}`" in text for name in inside)
