"""Places for the pool's files that cannot be used: read-only, missing, somebody else's, too long."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_nodes import Pass
from fault_tools import Place, Script

from remotemedia.config import PoolConfig
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.workers.pool import WorkerPool

RUN = """
from fault_nodes import *
from remotemedia.runtime import run_pipeline
print(*run_pipeline([Pass(), AsyncPass()], [1, 2, 3], executor="multiprocess"))
"""


async def refusal(directory: Path | str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await WorkerPool([Pass()], config=PoolConfig(runtime_dir=str(directory))).start()
    text = str(caught.value)
    assert str(directory) in text
    assert "REMOTEMEDIA_RUNTIME_DIR" in text
    return text


async def test_what_cannot_be_used_is_refused_with_the_reason(place: Place, tmp_path: Path) -> None:
    assert "ENOENT" in await refusal(place.path / "missing")
    assert "EINVAL" in await refusal("relative/path")
    long = tmp_path / ("x" * 100)
    long.mkdir()
    assert "ENAMETOOLONG" in await refusal(long)
    open_to_all = place.path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert "EPERM" in await refusal(open_to_all)


async def test_a_directory_that_was_prepared_by_somebody_is_refused(place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    for number, prepare in enumerate(
        [
            lambda path: path.symlink_to(elsewhere),
            lambda path: path.touch(),
            lambda path: (path.mkdir(), path.chmod(0o755)),
        ]
    ):
        base = place.path / str(number)
        base.mkdir()
        prepare(base / f"remotemedia-{os.geteuid()}")
        await refusal(base)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a directory of another user")
async def test_a_directory_of_another_user_is_refused(place: Place, tmp_path: Path) -> None:
    theirs = place.path / "o" / f"remotemedia-{os.geteuid()}"
    theirs.parent.mkdir()
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    assert "EPERM" in await refusal(theirs.parent)


@pytest.mark.parametrize(
    "variables",
    [
        {"REMOTEMEDIA_RUNTIME_DIR": "/nowhere", "XDG_RUNTIME_DIR": "/nowhere/else"},
        {"REMOTEMEDIA_RUNTIME_DIR": "/proc", "TMPDIR": "/proc"},
        {"REMOTEMEDIA_RUNTIME_DIR": "/proc", "HOME": "/nowhere", "XDG_RUNTIME_DIR": ""},
    ],
    ids=["missing", "read-only", "no home"],
)
def test_the_next_candidate_is_taken(
    variables: dict[str, str], place: Place, run_script: Callable[..., Script]
) -> None:
    script = run_script(RUN, **variables)
    assert script.expect_success() == ["1 2 3"]
