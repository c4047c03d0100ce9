"""Manifests of mixed lists, and the events of the library's log."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import structlog

from remotemedia import runtime, runtime_wrapper
from remotemedia.core.exceptions import ManifestError
from remotemedia.log import get_logger
from remotemedia.nodes import BatchNode, PassThroughNode
from remotemedia.runtime_wrapper import _convert_mixed_list_to_manifest as convert
from tests.nodes import Add


@pytest.mark.parametrize("name", ["execute_pipeline", "execute_pipeline_with_input", "run_pipeline"])
def test_the_functions_are_those_of_the_runtime(name: str) -> None:
    assert getattr(runtime_wrapper, name) is getattr(runtime, name)


def test_a_mixed_list_becomes_one_manifest() -> None:
    given = {"id": "batch", "node_type": "BatchNode", "params": {"size": 2}, "executor": "inline", "extra": 1}
    before = json.dumps(given)
    manifest = json.loads(convert([PassThroughNode(name="in"), given, {"node_type": "BatchNode"}, BatchNode(3)]))
    assert manifest["version"] == "v1"
    assert isinstance(manifest["metadata"], dict)
    assert manifest["nodes"] == [
        {"id": "in_0", "node_type": "PassThroughNode", "params": {}},
        {**given, "id": "batch_1"},
        {"id": "BatchNode_2", "node_type": "BatchNode"},
        {"id": "BatchNode_3", "node_type": "BatchNode", "params": {"size": 3}},
    ]
    assert manifest["connections"] == [
        {"from": "in_0", "to": "batch_1"},
        {"from": "batch_1", "to": "BatchNode_2"},
        {"from": "BatchNode_2", "to": "BatchNode_3"},
    ]
    assert json.dumps(given) == before, "the dict that was given is not changed"


def test_ids_are_unique_though_names_are_not() -> None:
    node = PassThroughNode(name="x")
    ids = [entry["id"] for entry in json.loads(convert([node, node, PassThroughNode(name="x_0")]))["nodes"]]
    assert ids == ["x_0", "x_1", "x_0_2"]


async def test_the_manifest_runs() -> None:
    text = convert([{"node_type": "CalculatorNode", "params": {"operand": 2}}, BatchNode(2)])
    assert await runtime_wrapper.execute_pipeline(text, [1, 2, 3]) == [[3, 4], [5]]


def test_one_node_has_no_connections() -> None:
    assert json.loads(convert([PassThroughNode()]))["connections"] == []


@pytest.mark.parametrize(
    ("items", "error", "text"),
    [
        ([], ManifestError, "it is empty"),
        ([PassThroughNode(), 3], TypeError, "index 1 is int"),
        ([{"params": {}}], ManifestError, "pipeline list at /0: the field 'node_type' is missing"),
        ([Add(object())], ManifestError, "'amount' of node 'Add_0' is object, which is no JSON value"),
    ],
)
def test_what_cannot_be_a_manifest_is_refused(items: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        convert(items)


# -- events ------------------------------------------------------------------------------------------------------------


async def test_a_run_leaves_its_story_at_debug_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "remotemedia"):
        convert([PassThroughNode()])
        await runtime_wrapper.execute_pipeline([PassThroughNode(name="p")], [1, 2])
    events = [record.getMessage().partition("=")[0].rpartition(" ")[0] for record in caplog.records]
    assert [event for event in events if event] == [
        "list converted to manifest",
        "pipeline detected",
        "initialize node",
        "pipeline started",
        "pipeline finished",
    ]
    detected = next(record for record in caplog.records if "pipeline detected" in record.getMessage())
    assert detected.fields["given"] == "list"  # type: ignore[attr-defined]
    assert detected.fields["nodes"] == ["p"]  # type: ignore[attr-defined]


def test_events_are_rendered_with_their_fields(caplog: pytest.LogCaptureFixture) -> None:
    log = get_logger("remotemedia.test")
    with caplog.at_level(logging.INFO, "remotemedia"):
        log.debug("unheard")
        log.info("told 100 %s", node="a", n=3)
        log.warning("odd")
        log.error("broken", exc_info=ValueError("why"))
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "told 100 %s node='a' n=3"),
        ("WARNING", "odd"),
        ("ERROR", "broken"),
    ]
    assert caplog.records[0].fields == {"node": "a", "n": 3}  # type: ignore[attr-defined]
    assert "ValueError: why" in caplog.text


def test_a_program_that_configured_structlog_gets_the_events_through_its_processors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    structlog.configure(processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()])
    try:
        with caplog.at_level(logging.INFO, "remotemedia"):
            get_logger("remotemedia.test").info("told", node="a")
    finally:
        structlog.reset_defaults()
    assert json.loads(caplog.records[0].getMessage()) == {"event": "told", "node": "a", "level": "info"}


def test_nothing_is_printed_or_imported_unless_somebody_listens() -> None:
    code = (
        "import asyncio, sys; from remotemedia.runtime_wrapper import execute_pipeline;"
        "from remotemedia.nodes import PassThroughNode; from remotemedia.log import get_logger;"
        "asyncio.run(execute_pipeline([PassThroughNode()], [1])); get_logger('remotemedia.x').debug('unheard');"
        "assert 'structlog' not in sys.modules; get_logger('remotemedia.x').error('unheard too')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
