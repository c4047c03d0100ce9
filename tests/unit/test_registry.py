"""Node types by name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import remotemedia.nodes
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.node import Node
from remotemedia.nodes import PassThroughNode, get_node_class, register_node, registered_nodes
from remotemedia.nodes import registry as registry_module


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_registered", {})


def make_class(name: str, module: str = __name__) -> type[Node]:
    return type(name, (Node,), {"process": lambda self, data: data, "__module__": module, "__qualname__": name})


def test_a_registered_class_is_found_by_its_name() -> None:
    @register_node
    class Detector(Node):
        pass

    assert get_node_class("Detector") is Detector
    assert "Detector" in registered_nodes()


def test_a_class_may_be_registered_under_another_name() -> None:
    @register_node(name="faces/v2")
    class Detector(Node):
        pass

    assert get_node_class("faces/v2") is Detector
    assert "Detector" not in registered_nodes()


def test_defining_a_class_again_replaces_it() -> None:
    first, second = make_class("Cell"), make_class("Cell")
    register_node(first)
    register_node(second)
    assert get_node_class("Cell") is second


def test_a_name_belongs_to_one_class() -> None:
    register_node(make_class("Same", "first"))
    with pytest.raises(ConfigurationError, match=r"'Same' is taken by first\.Same; register second\.Same with"):
        register_node(make_class("Same", "second"))
    with pytest.raises(ConfigurationError, match=r"taken by remotemedia\.nodes\.basic\.PassThroughNode"):
        register_node(make_class("PassThroughNode"))
    assert get_node_class("PassThroughNode") is PassThroughNode


@pytest.mark.parametrize("wrong", [int, Node("instance"), "Name"])
def test_only_node_classes_can_be_registered(wrong: Any) -> None:
    with pytest.raises(TypeError, match="takes a subclass of Node"):
        register_node(wrong)


def test_an_unknown_name_gives_the_closest_ones() -> None:
    with pytest.raises(ConfigurationError, match="no node type 'passthrunode'; did you mean 'PassThroughNode'"):
        get_node_class("passthrunode")
    with pytest.raises(ConfigurationError, match=r"no node type 'q'; registered_nodes\(\) lists"):
        get_node_class("q")


@pytest.mark.parametrize("name", sorted(registry_module.BUILT_IN_MODULES))
def test_every_built_in_name_leads_to_a_node_class(name: str) -> None:
    found = get_node_class(name)
    assert issubclass(found, Node)
    assert found.__name__ == name
    assert getattr(remotemedia.nodes, name) is found


def test_the_package_names_exactly_its_nodes() -> None:
    functions = {"get_node_class", "node", "register_node", "registered_nodes"}
    assert set(remotemedia.nodes.__all__) == functions | set(registry_module.BUILT_IN_MODULES)
    assert set(remotemedia.nodes.__all__) <= set(dir(remotemedia.nodes))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = remotemedia.nodes.Nothing


def test_nothing_heavy_is_imported_with_the_package() -> None:
    code = (
        "import sys, remotemedia.nodes; remotemedia.nodes.PassThroughNode; "
        "print([m for m in ('av', 'msgspec', 'structlog', 'asyncio', 'remotemedia.nodes.video') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
