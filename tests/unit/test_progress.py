"""The progress display: what it shows, and that it never gets in the way of a run."""

from __future__ import annotations

import asyncio
import io
import logging
import sys

import pytest

from remotemedia import Node, execute_pipeline
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.graph import Graph
from remotemedia.nodes import PassThroughNode
from remotemedia.progress import Progress

GRAPH = Graph.chain([PassThroughNode("first"), PassThroughNode("second")])


def metrics(first=0, second=0, restarts=0):
    facts = {"p50_us": 1500.0, "p99_us": 9250.0, "errors": 0, "restarts": restarts, "copies": 3}
    return [{"node_id": "first", "calls": first, **facts}, {"node_id": "second", "calls": second, **facts}]


class Execution:
    """As much of an execution as a display looks at."""

    def __init__(self, fails=False):
        self.calls, self.fails = 0, fails

    def metrics(self):
        if self.fails:
            raise RuntimeError("no numbers today")
        self.calls += 1
        return metrics(self.calls, 2 * self.calls)


class Terminal(io.StringIO):
    def isatty(self):
        return True


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what changes is a plain attribute
        await asyncio.sleep(0)


async def test_a_callable_gets_the_metrics_while_it_runs_and_at_the_end():
    seen = []
    with Progress(seen.append, GRAPH) as progress:
        progress.attach(Execution())
        await until(lambda: len(seen) >= 3)
        during = len(seen)
    assert [m[0]["calls"] for m in seen] == list(range(1, during + 2))


async def test_refreshing_stops_with_the_block_even_after_an_error():
    execution = Execution()
    with pytest.raises(KeyError), Progress(lambda _: None, GRAPH) as progress:  # noqa: PT012 - the block is the subject
        progress.attach(execution)
        raise KeyError
    assert progress._timer.cancelled()
    assert execution.calls == 2


@pytest.mark.parametrize("choice", [False, None])
async def test_nothing_is_shown_and_nothing_measured_when_it_is_off(choice):
    execution, stream = Execution(), Terminal()
    with Progress(choice, GRAPH, stream=stream) as progress:
        progress.attach(execution)
    assert (execution.calls, stream.getvalue(), progress._timer) == (0, "", None)


def test_a_run_that_never_begins_shows_nothing():
    seen, stream = [], io.StringIO()
    with Progress(seen.append, GRAPH), Progress(True, GRAPH, stream=stream):
        pass
    assert (seen, stream.getvalue()) == ([], "")


async def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with Progress(True, GRAPH, stream=stream) as progress:
        progress.attach(Execution())
    (line,) = stream.getvalue().splitlines()  # a short run: only the last line
    assert " s | first 2 frames " in line
    assert "| second 4 frames " in line
    assert "p99 9.2 ms" in line
    assert "restarts" not in line


async def test_plain_lines_tell_of_restarts():
    stream, execution = io.StringIO(), Execution()
    execution.metrics = lambda: metrics(5, 5, restarts=2)
    with Progress(True, GRAPH, stream=stream) as progress:
        progress.attach(execution)
    assert stream.getvalue().count("restarts 2") == 2


async def test_a_table_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    stream, execution = Terminal(), Execution()
    with Progress(True, GRAPH, stream=stream) as progress:
        progress.attach(execution)
        await until(lambda: execution.calls >= 2)
    shown = stream.getvalue()
    for part in ("frames", "p99 ms", "restarts", "first", "second", "1.50", "9.25"):
        assert part in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back


async def test_without_rich_a_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    stream = Terminal()
    with Progress(True, GRAPH, stream=stream) as progress:
        progress.attach(Execution())
    assert stream.getvalue().count("| first 2 frames") == 1


async def test_a_failing_callable_is_logged_once_and_the_run_goes_on(caplog):
    calls = []

    def broken(_):
        calls.append(1)
        raise ValueError("no")

    with caplog.at_level(logging.WARNING):
        result = await execute_pipeline([PassThroughNode()], range(5), progress=broken)
    assert result == [0, 1, 2, 3, 4]
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "switched off" in caplog.text


async def test_failing_metrics_give_the_terminal_back(monkeypatch, caplog):
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with Progress(True, GRAPH, stream=stream) as progress:
        progress.attach(Execution(fails=True))
        assert progress._timer is None
    assert stream.getvalue().endswith("\x1b[?25h")


async def test_a_pipeline_reports_every_node():
    seen = []
    await execute_pipeline([PassThroughNode("a"), PassThroughNode("b")], range(7), progress=seen.append)
    assert [(m["node_id"], m["calls"]) for m in seen[-1]] == [("a", 7), ("b", 7)]


async def test_a_node_that_fails_ends_the_display(capsys):
    class Failing(Node):
        def process(self, data):
            raise RuntimeError("broken")

    with pytest.raises(Exception, match="broken"):
        await execute_pipeline([Failing()], [1], progress=True)
    assert "Failing 0 frames" in capsys.readouterr().err


def test_other_choices_are_refused():
    with pytest.raises(ConfigurationError, match="True, False, None or a callable"):
        Progress("yes", GRAPH)
