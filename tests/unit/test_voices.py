"""Records and lines of workers in the coordinator's logging."""

from __future__ import annotations

import logging

import pytest

from remotemedia.core.exceptions import WorkerIdentity
from remotemedia.ipc.messages import LogRecord
from remotemedia.workers.voices import pass_on_line, pass_on_record, pass_on_stacks

WORKER = WorkerIdentity(node="cam", worker_id=2, pid=77, generation=1)


def test_a_record_looks_as_if_it_were_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        pass_on_record(LogRecord("some.logger", logging.INFO, "100 %s done", 1234.5625, "Traceback ..."), WORKER)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("some.logger", logging.INFO, "100 %s done")
    assert (record.created, record.msecs, record.exc_text) == (1234.5625, 562.5, "Traceback ...")
    facts = vars(record)
    assert [facts[key] for key in ("node", "worker_id", "worker_pid", "generation")] == ["cam", 2, 77, 1]


def test_levels_hold_here_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "some.logger"), caplog.at_level(logging.ERROR, "remotemedia.node.cam"):
        pass_on_record(LogRecord("some.logger", logging.WARNING, "no", 1.0, None), WORKER)
        pass_on_record(LogRecord("some.logger", logging.ERROR, "yes", 1.0, None), WORKER)
        pass_on_line("stderr", "no", WORKER)
    assert [record.getMessage() for record in caplog.records] == ["yes"]


@pytest.mark.parametrize(("stream", "level"), [("stdout", logging.INFO), ("stderr", logging.WARNING)])
def test_a_line_is_a_record_of_the_nodes_logger(stream: str, level: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        pass_on_line(stream, "50 %d", WORKER)  # type: ignore[arg-type]
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("remotemedia.node.cam", level, "50 %d")


def test_stacks_are_one_record(caplog: pytest.LogCaptureFixture) -> None:
    pass_on_stacks("Thread 0x1:\n  File x", WORKER)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("remotemedia.node.cam", logging.WARNING)
    assert record.getMessage() == f"stacks of {WORKER}:\nThread 0x1:\n  File x"
    assert vars(record)["worker_pid"] == 77


def test_without_logging_a_line_is_printed_and_stacks_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("remotemedia"), "handlers", [logging.NullHandler()])  # as libraries do
    pass_on_line("stdout", "hello", WORKER)
    pass_on_line("stderr", "oh", WORKER)
    pass_on_stacks("Thread 0x1:", WORKER)
    assert capsys.readouterr() == ("[cam] hello\n", "[cam] oh\n")
