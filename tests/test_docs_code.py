"""The documentation does what it says: the code on each page runs, and prints what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import docs_page
from tests.docs_page import NOT_RUN, Block, Reader, arguments_of, blocks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
SLOW = {"ray.md"}
"""Pages that take more than a few seconds, or need what only the slow tests install; those that are there."""
MOST_NOT_RUN = 6
"""Python blocks of the whole documentation that are shown and not run: each is an exception."""


def code_of(path: Path) -> list[Block]:
    return [block for block in blocks(path.read_text()) if block.kind in ("python", "console")]


WITH_CODE = [
    pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
    for page, path in PAGES.items()
    if code_of(path)
]


@pytest.mark.parametrize("page", WITH_CODE)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    """In an empty folder, by a fresh interpreter that takes every warning for an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", docs_page.__file__, PAGES[page]],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    # What nodes print and what the pool warns of is part of the page; what Python complains of by itself is not.
    complaints = re.findall(r"^(?:Traceback|Exception ignored|\S*Warning:|Task ).*$", done.stderr, re.MULTILINE)
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    exceptions = [b.text.partition("\n")[0] for path in PAGES.values() for b in code_of(path) if NOT_RUN in b.text]
    assert all(line.startswith(NOT_RUN) and len(line) > len(NOT_RUN) for line in exceptions)
    assert len(exceptions) <= MOST_NOT_RUN


def test_code_is_marked_in_one_way() -> None:
    """A block that says `py` would not be run."""
    others = {"py", "python3", "pycon", "ipython", "ipython3", "shell-session"}
    kinds = {block.kind for path in PAGES.values() for block in blocks(path.read_text())}
    assert {kind.strip("{}").split()[0] for kind in kinds if kind} & others == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, path in PAGES.items():
        assert set(re.findall(r"(?:`|\$ )make ([a-z][a-z-]*)", path.read_text())) <= targets, page


# -- the reader itself -------------------------------------------------------------------------------------------------

PAGE = """\
Text.

```{code-block} json
:caption: data.json

[1]
```

```python
from pathlib import Path
print(Path("data.json").read_text(), 1 / 4)
```
```output
[1]
 0...
```

```console
$ remotemedia version
$ FORCE_COLOR=1 python -m remotemedia nodes | head   # some
$ ls
```
"""


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reader:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the reader puts its own there
    return Reader("page.md", None)  # type: ignore[arg-type]  # nothing here awaits


def test_the_reader_takes_a_page_apart(reader: Reader) -> None:
    page = blocks(PAGE)
    assert [(block.kind, block.file, block.line) for block in page] == [
        ("json", "data.json", 6), ("python", "", 10), ("output", "", 14), ("console", "", 19),
    ]  # fmt: skip
    reader.read(page)
    assert reader.problems == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("0...", "1...", "page.md, line 10: the block prints"),
        ("1 / 4", "1 / 0", 'page.md-10.py", line 11'),
        ("remotemedia version", "remotemedia version --colour", "the command line refuses"),
        ("$ ls", "$ remotemedia version\n99.9", "the page shows\n99.9"),
    ],
)
def test_the_reader_sees_what_is_wrong(reader: Reader, old: str, new: str, problem: str) -> None:
    reader.read(blocks(PAGE.replace(old, new)))
    assert len(reader.problems) == 1
    assert problem in reader.problems[0]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("remotemedia run a.json --input '[1, 2]' > out.txt", ["run", "a.json", "--input", "[1, 2]"]),
        ("NO_COLOR=1 python -m remotemedia top", ["top"]),
        ("docker run image remotemedia doctor", None),
    ],
)
def test_the_reader_finds_the_commands(command: str, arguments: list[str] | None) -> None:
    assert arguments_of(command) == arguments
