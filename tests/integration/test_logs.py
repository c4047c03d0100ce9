"""What nodes log and print in their workers arrives here, with node, worker, pid and generation."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from remotemedia.workers.pool import WorkerPool
from tests.integration.stages import Speaker
from tests.nodes import Add


async def records_of_one_frame(caplog: pytest.LogCaptureFixture) -> tuple[dict[str, logging.LogRecord], Any]:
    with caplog.at_level(logging.INFO):
        async with WorkerPool([Add(""), Speaker("speaker")]) as pool:
            await pool.process("x")
            worker = pool.snapshot().workers[1]
    return {record.getMessage(): record for record in caplog.records}, worker


async def test_log_records_keep_logger_level_and_text(caplog: pytest.LogCaptureFixture) -> None:
    records, _ = await records_of_one_frame(caplog)
    assert (records["logged x"].name, records["logged x"].levelname) == ("remotemedia.node.speaker", "WARNING")
    assert (records["also x"].name, records["also x"].levelname) == ("elsewhere", "INFO")


async def test_prints_are_records_of_the_nodes_logger(caplog: pytest.LogCaptureFixture) -> None:
    records, _ = await records_of_one_frame(caplog)
    for text, level in (("printed x", logging.INFO), ("complained x", logging.WARNING)):
        assert (records[text].name, records[text].levelno) == ("remotemedia.node.speaker", level)


async def test_all_of_them_say_where_they_come_from(caplog: pytest.LogCaptureFixture) -> None:
    records, worker = await records_of_one_frame(caplog)
    for text in ("logged x", "also x", "printed x", "complained x", "failed x"):
        facts = vars(records[text])
        assert (facts["node"], facts["worker_id"], facts["generation"]) == ("speaker", 1, 0)
        assert facts["worker_pid"] == worker.pid != os.getpid()


async def test_tracebacks_and_times_are_the_workers(caplog: pytest.LogCaptureFixture) -> None:
    begun = time.time_ns() / 1e9 - 1
    records, _ = await records_of_one_frame(caplog)
    assert "KeyError: 'x'" in str(records["failed x"].exc_text)
    assert begun < records["logged x"].created <= records["failed x"].created


async def test_what_nobody_wants_here_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        async with WorkerPool([Speaker()]) as pool:
            await pool.process("x")
    messages = {record.getMessage() for record in caplog.records}
    assert "failed x" in messages
    assert not {"logged x", "also x"} & messages


PROGRAM = """
from remotemedia.runtime import run_pipeline
from tests.integration.stages import Speaker

run_pipeline([Speaker("speaker")], ["x"], executor="multiprocess")
"""


def test_without_logging_prints_appear_as_prints(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[speaker] printed x" in done.stdout.splitlines()
    assert "[speaker] complained x" in done.stderr.splitlines()
