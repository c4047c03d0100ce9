"""The import paths that are promised, each with what makes it more than a name."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest

import remotemedia
from remotemedia.core import exceptions

FUNCTIONS = ("execute_pipeline", "execute_pipeline_with_input")
ERRORS = [
    name
    for name, kind in vars(exceptions).items()
    if inspect.isclass(kind) and issubclass(kind, exceptions.RemoteMediaError)
]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("remotemedia", (*FUNCTIONS, "run_pipeline", "Pipeline", "Node", "WorkerPool", "register_node")),
        ("remotemedia", ("PoolConfig", "ChannelConfig", "Timeouts", "AudioFrame", "VideoFrame", "TensorFrame")),
        ("remotemedia", ERRORS),
        ("remotemedia.runtime", FUNCTIONS),
        ("remotemedia.runtime_wrapper", (*FUNCTIONS, "_convert_mixed_list_to_manifest")),
        ("remotemedia.core.node", ("Node",)),
        ("remotemedia.core.pipeline", ("Pipeline",)),
        ("remotemedia.core.exceptions", ERRORS),
        ("remotemedia.core.node_serialization", ("serialize_node_for_ipc", "deserialize_node_from_ipc",
                                                 "SerializationError", "validate_node_serializable")),
        ("remotemedia.nodes", ("PassThroughNode", "CalculatorNode")),
        ("remotemedia.executors", ("resolve",)),
    ],
)  # fmt: skip
def test_promised_names(path, names):
    module = importlib.import_module(path)
    for name in names:
        assert callable(getattr(module, name)), name


def test_all_of_the_package_can_be_imported():
    for name in remotemedia.__all__:
        assert getattr(remotemedia, name) is not None
    assert set(remotemedia.__all__) <= set(dir(remotemedia))
    assert set(ERRORS) <= set(remotemedia.__all__)


def test_a_name_is_one_object_wherever_it_is_imported_from():
    from remotemedia import runtime, runtime_wrapper
    from remotemedia.core import node, node_serialization, pipeline

    assert remotemedia.Node is node.Node
    assert remotemedia.Pipeline is pipeline.Pipeline
    assert node_serialization.SerializationError is exceptions.SerializationError is remotemedia.SerializationError
    for name in FUNCTIONS:
        assert getattr(remotemedia, name) is getattr(runtime, name)
        assert callable(getattr(runtime_wrapper, name))


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = remotemedia.no_such_name


@pytest.mark.parametrize(
    ("path", "name", "parameters"),
    [
        ("remotemedia.runtime", "execute_pipeline", ["pipeline", "input_data", "executor", "enable_metrics"]),
        (
            "remotemedia.runtime",
            "execute_pipeline_with_input",
            ["pipeline", "input_data", "enable_metrics", "executor"],
        ),
        ("remotemedia.core.node_serialization", "serialize_node_for_ipc", ["node"]),
        ("remotemedia.core.node_serialization", "deserialize_node_from_ipc", ["data"]),
        ("remotemedia.core.node_serialization", "validate_node_serializable", ["node"]),
        ("remotemedia.runtime_wrapper", "_convert_mixed_list_to_manifest", ["items"]),
    ],
)
def test_promised_signatures(path, name, parameters):
    function = getattr(importlib.import_module(path), name)
    found = list(inspect.signature(function).parameters)
    assert found[: len(parameters)] == parameters


def test_the_first_line_that_people_try():
    code = (
        "from remotemedia.runtime import execute_pipeline; from remotemedia.nodes import PassThroughNode; "
        "import asyncio; asyncio.run(execute_pipeline([PassThroughNode(name='test')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_cap_is_100_mib():
    from remotemedia.core import node_serialization

    assert node_serialization.MAX_SERIALIZED_SIZE_BYTES == 104_857_600


def test_a_mixed_list_becomes_one_manifest():
    from remotemedia.nodes import PassThroughNode
    from remotemedia.runtime_wrapper import _convert_mixed_list_to_manifest

    items = [PassThroughNode(name="a"), {"id": "a", "node_type": "PassThroughNode", "params": {}}]
    manifest = json.loads(_convert_mixed_list_to_manifest(items))
    assert manifest["version"] == "v1"
    assert [node["id"] for node in manifest["nodes"]] == ["a_0", "a_1"]
    assert [(c["from"], c["to"]) for c in manifest["connections"]] == [("a_0", "a_1")]
    assert "metadata" in manifest
