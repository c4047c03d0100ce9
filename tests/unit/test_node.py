"""Node: construction, what the library remembers, state, manifest entry, outputs outside a worker, pickling."""

import dataclasses
import inspect
import logging
import pickle
import pydoc

import numpy as np
import pytest

import remotemedia.nodes
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.node import Node
from remotemedia.core.placement import Placement
from remotemedia.core.state import StateManager
from remotemedia.nodes.registry import BUILT_IN_MODULES


class Plain(Node):
    def process(self, data):
        return data


class ForgetsSuper(Node):
    def __init__(self):
        self.log = []

    def initialize(self):
        self.log.append(("initialize", self.is_initialized))

    def cleanup(self):
        self.log.append(("cleanup", self.is_initialized))


class CallsSuper(ForgetsSuper):
    def initialize(self):
        super().initialize()
        self.log.append(("own", self.is_initialized))


class AsyncNode(Node):
    async def initialize(self):
        return "made"

    async def cleanup(self):
        return "released"


class Mixin:
    def initialize(self):
        self.mixed = True


class Mixed(Mixin, Node):
    pass


class FailsAfterSuper(Node):
    fail = True

    def initialize(self):
        super().initialize()
        if self.fail:
            raise OSError("no camera")


class AsyncFails(Node):
    async def initialize(self):
        super().initialize()
        raise OSError("no camera")


def test_defaults():
    node = Plain()
    assert (node.name, node.executor, node.config, node.is_initialized) == ("Plain", None, {}, False)
    assert isinstance(node.state, StateManager)
    assert node.get_capabilities() is None
    assert node.restart_count == 0
    assert repr(node) == "Plain(name='Plain')"


def test_arguments_become_config_and_manifest_params():
    node = Plain("detector", executor="multiprocess", threshold=0.5, labels=["cat"])
    assert node.config == {"threshold": 0.5, "labels": ["cat"]}
    assert node.to_manifest() == {
        "id": "detector",
        "node_type": "Plain",
        "params": {"threshold": 0.5, "labels": ["cat"]},
        "executor": "multiprocess",
    }
    assert repr(node) == "Plain(name='detector', executor='multiprocess')"


def test_marks_of_the_class_reach_the_manifest():
    class Marked(Node):
        executor = "inline"
        is_streaming = True

        def get_capabilities(self):
            return {"memory_gb": 2}

    entry = Marked().to_manifest()
    assert (entry["executor"], entry["is_streaming"], entry["capabilities"]) == ("inline", True, {"memory_gb": 2})
    assert Marked(executor="multiprocess").executor == "multiprocess"


def test_a_node_may_say_where_it_wants_to_run():
    node = Plain(resources={"num_gpus": 1}, host="gpu-box", threshold=0.5)
    assert node.placement == Placement(resources={"num_gpus": 1}, host="gpu-box")
    assert node.config == {"threshold": 0.5}
    entry = node.to_manifest()
    assert (entry["resources"], entry["host"], entry["params"]) == ({"num_gpus": 1}, "gpu-box", {"threshold": 0.5})
    assert Plain().placement is None
    assert Plain(host="a").to_manifest().keys() == {"id", "node_type", "params", "host"}


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({"resources": ["num_gpus"]}, "mapping of names"),
        ({"resources": {"num_gpus": -1}}, "'num_gpus': -1"),
        ({"resources": {"num_gpus": True}}, "number of at least 0"),
        ({"resources": {"": 1}}, "expected a name"),
        ({"host": ""}, "host=''"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(wishes, text):
    with pytest.raises(ConfigurationError, match=text):
        Placement(**wishes)


def test_the_manifest_entry_is_a_copy():
    node = Plain(a=1)
    node.to_manifest()["params"]["a"] = 2
    assert node.config == {"a": 1}


@pytest.mark.parametrize("name", [3, b"x", ["n"]])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(TypeError, match="name of a Plain must be a str or None"):
        Plain(name)


def test_process_must_be_written():
    with pytest.raises(NotImplementedError, match="Bare does not implement process"):
        type("Bare", (Node,), {})().process(1)
    assert Plain().flush() is None


# -- what help() and editors show, and nodes without super().__init__() ------------------------------------------------


@pytest.mark.parametrize("name", ["Node", *sorted(BUILT_IN_MODULES)])
def test_a_node_class_is_called_as_its_init_says(name):
    kind = Node if name == "Node" else getattr(remotemedia.nodes, name)
    of_init = inspect.signature(kind.__init__)
    assert list(inspect.signature(kind).parameters.values()) == list(of_init.parameters.values())[1:]


def test_help_shows_the_arguments_of_a_users_node():
    class Detector(Node):
        def __init__(self, threshold: float, name: str | None = None):
            super().__init__(name, threshold=threshold)

    assert str(inspect.signature(Detector)) == "(threshold: float, name: str | None = None)"
    text = pydoc.plain(pydoc.render_doc(Detector))
    assert "Detector(threshold: float, name: str | None = None)" in text
    assert "*args" not in text
    assert "*_args" not in text


def test_without_super_init_each_node_has_a_config_of_its_own():
    first, second = ForgetsSuper(), ForgetsSuper()
    first.config["gain"] = 2
    assert (first.config, second.config) == ({"gain": 2}, {})
    copy = pickle.loads(pickle.dumps(first))
    assert (copy.name, copy.config, copy.state) == ("ForgetsSuper", {"gain": 2}, None)


def test_a_dataclass_may_have_fields_that_every_node_has():
    @dataclasses.dataclass
    class Blur(Node):
        name: str
        radius: int
        config: dict[str, int] = dataclasses.field(default_factory=dict)

    node = Blur("soft", 3)
    assert (node.name, node.radius, node.config, node.state) == ("soft", 3, {}, None)
    with pytest.raises(TypeError, match="'name' and 'radius'"):
        Blur()


# -- is_initialized --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Plain, ForgetsSuper, CallsSuper, Mixed], ids=lambda kind: kind.__name__)
def test_it_is_known_whether_a_node_is_initialized(kind):
    node = kind()
    assert not node.is_initialized
    node.initialize()
    assert node.is_initialized
    node.cleanup()
    node.cleanup()
    assert not node.is_initialized


def test_during_the_call_the_old_value_holds_and_super_sets_the_new_one():
    node = CallsSuper()
    node.initialize()
    node.cleanup()
    assert node.log == [("initialize", False), ("own", True), ("cleanup", True)]


async def test_coroutines_are_remembered_when_they_have_run():
    node = AsyncNode()
    pending = node.initialize()
    assert not node.is_initialized
    assert await pending == "made"
    assert node.is_initialized
    assert await node.cleanup() == "released"
    assert not node.is_initialized


async def test_a_failed_initialize_leaves_the_node_not_initialized():
    node = FailsAfterSuper()
    with pytest.raises(OSError, match="no camera"):
        node.initialize()
    assert not node.is_initialized
    node.fail = False
    node.initialize()
    assert node.is_initialized
    other = AsyncFails()
    with pytest.raises(OSError, match="no camera"):
        await other.initialize()
    assert not other.is_initialized


def test_a_failed_cleanup_leaves_the_node_initialized():
    class FailsToClean(Node):
        def cleanup(self):
            raise OSError("busy")

    node = FailsToClean()
    node.initialize()
    with pytest.raises(OSError, match="busy"):
        node.cleanup()
    assert node.is_initialized


def test_wrapping_keeps_what_inspection_sees():
    assert inspect.iscoroutinefunction(AsyncNode.initialize)
    assert not inspect.iscoroutinefunction(ForgetsSuper.initialize)
    assert ForgetsSuper.initialize.__qualname__ == "ForgetsSuper.initialize"
    assert CallsSuper.cleanup is ForgetsSuper.cleanup  # wrapped once, not once per subclass
    assert Plain.initialize is Node.initialize


# -- state -----------------------------------------------------------------------------------------------------------


def test_session_state_is_kept_per_session():
    node = Plain(max_sessions=2, state_ttl=60)
    node.get_session_state()["n"] = 1
    node.get_session_state("caller")["n"] = 2
    assert node.get_session_state("default") == {"n": 1}
    assert (node.state.max_sessions, node.state.ttl_s) == (2, 60)


def test_state_can_be_switched_off():
    node = Plain(enable_state=False)
    assert node.state is None
    assert node.get_session_state("caller") is None


def test_without_super_init_there_is_no_state_but_a_name():
    node = ForgetsSuper()
    assert (node.name, node.config, node.state) == ("ForgetsSuper", {}, None)
    assert node.get_session_state() is None


# -- outputs, logger, pickling ---------------------------------------------------------------------------------------


def test_outputs_outside_a_worker_are_ordinary_arrays():
    node = Plain()
    assert node.empty(4).shape == (4,)
    assert node.empty((2, 3), "f4").dtype == np.float32
    like = node.empty_like(np.zeros((2, 3), np.int16)[:, ::2])
    assert (like.shape, like.dtype, like.flags.c_contiguous) == ((2, 2), np.int16, True)


def test_outputs_come_from_the_outlet_where_there_is_one():
    class Outlet:
        def empty(self, shape, dtype):
            asked.append((shape, dtype))
            return np.zeros(shape, dtype)

    asked, node = [], Plain()
    node._outlet = Outlet()
    node.empty(5)
    node.empty([2, 2], float)
    node.empty_like(np.zeros((1, 2), "i2"))
    assert asked == [((5,), np.dtype("u1")), ((2, 2), np.dtype("f8")), ((1, 2), np.dtype("i2"))]


def test_the_logger_has_the_name_of_the_node():
    assert Plain("detector").logger is logging.getLogger("remotemedia.node.detector")


def test_pickling_leaves_the_outlet_behind():
    node = Plain("detector", gain=2)
    node._outlet = object()
    copy = pickle.loads(pickle.dumps(node))
    assert (copy.name, copy.config, copy._outlet) == ("detector", {"gain": 2}, None)
    assert node._outlet is not None
