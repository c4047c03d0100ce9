"""What the fault tests share: a place of their own for pools, scripts as hosts, and a look at what is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:  # fault_nodes must be importable by name, here and in the workers
    sys.path.append(_HERE)

from fault_tools import Place, Script, interpreter_environment  # noqa: E402


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A runtime directory that only this test's pools use. Afterwards nothing of them may be left."""
    place = Place(tmp_path_factory.mktemp("p"))
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    yield place
    place.expect_nothing_left()


@pytest.fixture
def run_script(place: Place, tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """`run_script(source, **environment)`: a host process of its own, in a session of its own, that runs `source`."""
    started: list[Script] = []

    def run(source: str, *, file: Path | None = None, cwd: Path | None = None, **environment: str) -> Script:
        script = Script(
            source,
            file or tmp_path / f"host{len(started)}.py",
            cwd or tmp_path,
            {**interpreter_environment(), **place.environment, **environment},
        )
        started.append(script)
        return script

    yield run
    for script in started:
        script.end()
