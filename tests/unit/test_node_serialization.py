"""Nodes as bytes: what travels, what does not and what is said about it, the cap, cleanup."""

import array
import asyncio
import contextlib
import functools
import logging
import mmap
import pickle
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import OrderedDict, deque

import numpy as np
import pytest

from remotemedia.core import node_pickler, pickle_report
from remotemedia.core import node_serialization as ns
from remotemedia.core.calling import maybe_await
from remotemedia.core.exceptions import SerializationError, SizeLimitError
from remotemedia.core.node import Node
from remotemedia.core.node_serialization import (
    deserialize_node_from_ipc,
    dump_node,
    load_node,
    serialize_node_async,
    serialize_node_for_ipc,
    validate_node_serializable,
)

MIB = 2**20


class Holder(Node):
    """Keeps whatever it is given as attributes."""

    def __init__(self, **attributes):
        super().__init__("detector")
        self.__dict__.update(attributes)

    def process(self, data):
        return data


class Counting(Node):
    def __init__(self, error=None):
        super().__init__()
        self.calls, self.error = [], error

    def initialize(self):
        self.calls.append("initialize")
        self.resource = threading.Lock()

    def cleanup(self):
        self.calls.append("cleanup")
        if self.error is not None:
            raise self.error
        self.resource = None


class AsyncNode(Node):
    async def initialize(self):
        await asyncio.sleep(0)
        self.loop_thread = threading.current_thread().name

    async def cleanup(self):
        await asyncio.sleep(0)
        self.cleaned_in = threading.current_thread().name


class ForgetsInit(Node):
    def __init__(self, value):
        self.value = value


class OwnState(Node):
    def __init__(self):
        super().__init__("own", gain=2)
        self.lock, self.kept = threading.Lock(), "kept"

    def __getstate__(self):
        state = super().__getstate__()
        del state["lock"]
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        self.lock = threading.Lock()


def round_trip(node):
    return load_node(dump_node(node))


def error_of(node):
    with pytest.raises(SerializationError) as caught:
        serialize_node_for_ipc(node)
    return caught.value


# -- what travels ----------------------------------------------------------------------------------------------------


def test_name_config_and_sessions_travel():
    node = Holder(numbers=[1, 2], text="é")
    node.config["gain"] = 3
    node.get_session_state("call")["n"] = 1
    copy = round_trip(node)
    assert type(copy) is Holder
    assert (copy.name, copy.config, copy.numbers, copy.text) == ("detector", {"gain": 3}, [1, 2], "é")
    assert copy.get_session_state("call") == {"n": 1}
    assert not copy.is_initialized


def test_a_subclass_without_super_init_travels():
    copy = round_trip(ForgetsInit(5))
    assert (copy.value, copy.name, copy.config, copy.state) == (5, "ForgetsInit", {}, None)


def test_a_subclass_that_extends_getstate_travels():
    copy = round_trip(OwnState())
    assert (copy.kept, copy.config) == ("kept", {"gain": 2})
    assert copy.lock.acquire(blocking=False)


def test_code_that_travels_by_value_keeps_the_name_of_its_file():
    """Or a traceback in a worker would not show the lines of a script."""

    class Local(Node):
        def process(self, data):
            later = lambda: data / 0
            return later()

    code = type(deserialize_node_from_ipc(serialize_node_for_ipc(Local()))).process.__code__
    files = {code.co_filename}
    while inner := [part for part in code.co_consts if hasattr(part, "co_code")]:
        code = inner[0]
        files.add(code.co_filename)
    assert files == {__file__}


def test_lambdas_closures_and_local_classes_travel():
    offset = 10

    class Local(Node):
        def process(self, data):
            return self.f(data) + offset

    node = Local()
    node.f = lambda x: 2 * x
    assert round_trip(node).process(3) == 16


@pytest.mark.parametrize(
    "content",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(100_000)[::3],
        np.array(5),
        np.zeros((0, 3)),
        np.array([("a", 1)], dtype=[("name", "U4"), ("n", "i4")]),
        np.array([{"a": 1}, None], dtype=object),
        np.broadcast_to(np.arange(3), (1000, 3)),
        np.ma.masked_array([1, 2], mask=[True, False]),
        np.array(["2024-01-01"], dtype="datetime64[D]"),
        array.array("d", [1.0, 2.0]),
        bytes(200_000),
        bytearray(200_000),
        "ü" * 100_000,
    ],
    ids=lambda content: f"{type(content).__name__}-{getattr(content, 'dtype', '')}-{getattr(content, 'shape', '')}",
)
def test_content_arrives_equal(content):
    copy = round_trip(Holder(content=content)).content
    assert type(copy) is type(content)
    np.testing.assert_array_equal(copy, content)
    if isinstance(content, np.ndarray):
        assert copy.dtype == content.dtype


def test_one_array_in_two_places_stays_one():
    shared = np.zeros(1000)
    copy = round_trip(Holder(a=shared, b={"c": shared}))
    assert copy.a is copy.b["c"]


def test_arrays_arrive_writable():
    copy = round_trip(Holder(weights=np.zeros(300_000)))
    copy.weights += 1
    assert copy.weights.sum() == 300_000


def test_bytes_may_come_from_any_buffer(tmp_path):
    data = dump_node(Holder(x=1))
    path = tmp_path / "node"
    path.write_bytes(data)
    assert load_node(bytearray(data)).x == 1
    assert load_node(memoryview(b"--" + data)[2:]).x == 1
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert load_node(mapped).x == 1  # closing the map fails if the node still held a view of it


def test_main_classes_travel_to_another_process(tmp_path):
    """Node, helper class, lambda and closure of a script, used in an interpreter that never saw the script."""
    script = textwrap.dedent("""
        import sys
        from remotemedia.core.node import Node
        from remotemedia.core.node_serialization import serialize_node_for_ipc

        FACTOR = 3

        class Helper:
            def scale(self, x):
                return FACTOR * x

        class Base(Node):
            def __init__(self, f):
                super().__init__(name="script")
                self.f, self.helper = f, Helper()

        class Child(Base):
            async def initialize(self):
                self.ready = "ready"

            def process(self, data):
                return self.f(self.helper.scale(data)), self.ready

        def make(offset):
            return Child(lambda x: x + offset)

        sys.stdout.buffer.write(serialize_node_for_ipc(make(100)))
    """)
    path = tmp_path / "script.py"
    path.write_text(script)
    data = subprocess.run([sys.executable, path], capture_output=True, check=True).stdout
    reader = (
        "import sys; from remotemedia.core.node_serialization import deserialize_node_from_ipc as load;"
        "n = load(sys.stdin.buffer.read()); print(n.name, n.is_initialized, n.process(2))"
    )
    done = subprocess.run([sys.executable, "-c", reader], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "script True (106, 'ready')"


# -- what does not, and what is said about it ------------------------------------------------------------------------


class Session:
    def __init__(self):
        self._lock = threading.Lock()


class Slotted:
    __slots__ = ("lock", "plain")

    def __init__(self):
        self.plain, self.lock = 1, threading.Lock()


class Raises:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


class Recurses:
    def __reduce__(self):
        return self.__reduce__()


class MakesALock:
    def __getstate__(self):
        return {"made": threading.Lock()}


class BrokenTextError(Exception):
    def __str__(self):
        raise ValueError


def closure(value):
    return lambda: value


def cycle():
    node, other = Holder(), Holder()
    node.other, other.parent, node.last = other, node, threading.Lock()
    return node


def linked(length):
    head = link = Session.__new__(Session)
    for _ in range(length):
        link.next = Session.__new__(Session)
        link = link.next
    return head


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


LOCK = threading.Lock

PATHS = {
    "attribute": (lambda: Holder(lock=LOCK()), "detector.lock"),
    "attribute of an attribute": (lambda: Holder(session=Session()), "detector.session._lock"),
    "slot": (lambda: Holder(part=Slotted()), "detector.part.lock"),
    "containers": (lambda: Holder(a={"k": [0, (1, Session())]}), "detector.a['k'][1][1]._lock"),
    "key": (lambda: Holder(a={LOCK(): 1}), "detector.a<key <unlocked _th"),
    "deque": (lambda: Holder(queue=deque([1, LOCK()])), "detector.queue[1]"),
    "dict subclass": (lambda: Holder(a=OrderedDict(x=LOCK())), "detector.a['x']"),
    "set": (lambda: Holder(a={LOCK()}), "detector.a[0]"),
    "closure": (lambda: Holder(f=closure(LOCK())), "detector.f.<variable value>"),
    "partial": (lambda: Holder(f=functools.partial(print, LOCK())), "detector.f.args[0]"),
    "bound method": (lambda: Holder(f=Session().__init__), "detector.f.__self__._lock"),
    "config": (lambda: Node("detector", lock=LOCK()), "detector.config['lock']"),
    "cycle": (cycle, "detector.last"),
    "made while pickling": (lambda: Holder(a=MakesALock()), "detector.a.made"),
    "raises": (lambda: Holder(a=[Raises(OSError("no"))]), "detector.a[0]"),
    "exits": (lambda: Holder(a=Raises(SystemExit(3))), "detector.a"),
    "generator exit": (lambda: Holder(a=Raises(GeneratorExit())), "detector.a"),
    "memory error": (lambda: Holder(a=Raises(MemoryError())), "detector.a"),
    "broken text": (lambda: Holder(a=Raises(BrokenTextError())), "detector.a"),
    "recursion in __reduce__": (lambda: Holder(a=Recurses()), "detector.a"),
    "deep lists": (lambda: Holder(ok=1, deep=nested(100_000)), "detector.deep"),
    "long links": (lambda: Holder(ok=1, first=linked(100_000)), "detector.first"),
}


@pytest.mark.parametrize("case", PATHS)
def test_the_attribute_path_is_found(case):
    make, path = PATHS[case]
    error = error_of(make())
    assert error.node_name == "detector"
    assert error.attribute_path.startswith(path) if case == "key" else error.attribute_path == path
    assert error.reason
    assert error.suggestion
    assert path in str(error)
    assert isinstance(pickle.loads(pickle.dumps(error)), SerializationError)


def test_a_class_defined_locally_with_a_lock():
    class WithLock(Node):
        guard = threading.Lock()

    assert error_of(WithLock()).attribute_path == "WithLock.<class WithLock>.guard"


def test_a_failing_getstate_of_the_node_itself():
    class Broken(Node):
        def __getstate__(self):
            raise ValueError("cannot say")

    error = error_of(Broken())
    assert error.attribute_path == ""
    assert "ValueError: cannot say" in error.reason
    assert isinstance(error.__cause__, ValueError)


def test_a_long_path_is_cut_in_the_middle():
    value = threading.Lock()
    for _ in range(40):
        value = {"k": value}
    assert error_of(Holder(a=value)).attribute_path == "detector.a" + "['k']" * 5 + " … " + "['k']" * 6


def test_keyboard_interrupt_passes():
    with pytest.raises(KeyboardInterrupt):
        serialize_node_for_ipc(Holder(a=Raises(KeyboardInterrupt())))


def test_the_search_for_the_path_ends_in_time(monkeypatch):
    """100 000 objects before the culprit, on a clock that moves 10 ms each time it is read."""
    readings = []

    def slow_clock():
        readings.append(0.01 * len(readings))
        return readings[-1]

    for module in (ns, node_pickler, pickle_report):
        monkeypatch.setattr(module, "monotonic", slow_clock)
    error = error_of(Holder(many=[Session.__new__(Session) for _ in range(100_000)], session=Session()))
    assert "cannot pickle '_thread.lock'" in error.reason
    assert readings[-1] <= 2.0


def test_an_attribute_is_still_named_when_the_trace_takes_too_long(monkeypatch):
    class Slow(ns.Tracer):
        def reducer_override(self, obj):
            raise ns.StopPickling

    monkeypatch.setattr(ns, "Tracer", Slow)
    assert error_of(Holder(session=Session())).attribute_path == "detector.session"


@contextlib.contextmanager
def culprits(kind):
    with contextlib.ExitStack() as stack:
        import socket
        import sqlite3

        makers = {
            "lock": threading.Lock,
            "condition": threading.Condition,
            "thread": lambda: threading.Thread(target=print),
            "socket": lambda: stack.enter_context(socket.socket()),
            "file": lambda: stack.enter_context(tempfile.TemporaryFile("wb")),
            "database": lambda: stack.enter_context(contextlib.closing(sqlite3.connect(":memory:"))),
            "generator": lambda: (x for x in ()),
            "future": lambda: asyncio.Future(loop=stack.enter_context(contextlib.closing(asyncio.new_event_loop()))),
            "mmap": lambda: stack.enter_context(mmap.mmap(-1, 10)),
        }
        yield makers[kind]()


@pytest.mark.parametrize(
    ("kind", "advice"),
    [("lock", "locks"), ("condition", "locks"), ("thread", "locks and threads"), ("socket", "connections"),
     ("file", "open the file"), ("database", "connect to the database"), ("generator", "generator is made from"),
     ("future", "async def initialize"), ("mmap", "keep the path")],
)  # fmt: skip
def test_common_culprits_get_their_own_advice(kind, advice):
    with culprits(kind) as culprit:
        error = error_of(Holder(culprit=culprit))
        assert advice in error.suggestion
        assert error.attribute_path.startswith("detector.culprit")


# -- the cap ---------------------------------------------------------------------------------------------------------


def test_the_cap_is_exact_and_settable(monkeypatch):
    node = Holder(data=b"x" * 5000)
    size = len(serialize_node_for_ipc(node))
    monkeypatch.setattr(ns, "MAX_SERIALIZED_SIZE_BYTES", size)
    assert len(serialize_node_for_ipc(node)) == size
    monkeypatch.setattr(ns, "MAX_SERIALIZED_SIZE_BYTES", size - 1)
    with pytest.raises(SizeLimitError, match=r"limit 5.. KiB; largest attributes: data 4\.9 KiB") as caught:
        serialize_node_for_ipc(node)
    assert (caught.value.limit_bytes, caught.value.size_bytes) == (size - 1, size)


def test_99_mb_are_accepted():
    node = load_node(serialize_node_for_ipc(Holder(weights=np.full(99 * 10**6, 7, np.uint8))))
    assert node.weights.nbytes == 99 * 10**6
    assert node.weights[-1] == 7


def test_the_five_largest_attributes_are_named():
    sizes = {"a": 1, "b": 60, "c": 2, "d": 50, "e": 3, "f": 4, "g": 5}
    with pytest.raises(SizeLimitError) as caught:
        serialize_node_for_ipc(Holder(**{name: np.zeros(size * MIB, np.uint8) for name, size in sizes.items()}))
    error = caught.value
    assert [name for name, _ in error.largest] == ["b", "d", "g", "f", "e"]
    assert error.largest[0][1] == pytest.approx(60 * MIB, rel=0.001)
    assert error.limit_bytes == 100 * MIB < error.size_bytes
    assert "b 60.0 MiB, d 50.0 MiB" in str(error)


TOO_LARGE = {
    "bytes": "bytes(SIZE)",
    "bytearray": "bytearray(SIZE)",
    "array": "np.zeros(SIZE, np.uint8)",
    "strided array": "np.zeros(2 * SIZE, np.uint8)[::2]",
    "broadcast array": "np.broadcast_to(np.zeros(1, np.uint8), (20 * SIZE,))",
    "array.array": "array.array('B', bytes(SIZE))",
    "memoryview": "memoryview(bytes(SIZE))",
    "many arrays": "[np.zeros(MIB, np.uint8) for _ in range(400)]",
    "mapped array": "np.memmap(tempfile.TemporaryFile(), shape=(20 * SIZE,), dtype=np.uint8, mode='w+')",
    "copies on the way": "[Strided() for _ in range(400)]",
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_what_is_too_large_is_refused_without_building_it(kind):
    """Beyond the node itself, refusing may take the cap of memory (for what had to be copied until then), no more."""
    code = textwrap.dedent(f"""
        import array, sys, tempfile, tracemalloc
        import numpy as np
        from remotemedia.core.exceptions import SizeLimitError
        from remotemedia.core.node import Node
        from remotemedia.core.node_serialization import serialize_node_for_ipc
        MIB = 2**20
        SIZE = 101 * MIB

        class Strided:
            def __reduce__(self):
                return bytes, (bytes(MIB),)

        node = Node()
        node.payload = {TOO_LARGE[kind]}
        tracemalloc.start()
        try:
            serialize_node_for_ipc(node)
        except SizeLimitError as error:
            assert error.largest[0][0] == "payload", error
            assert error.size_bytes > error.limit_bytes
            peak = tracemalloc.get_traced_memory()[1]
            del error
            print(peak // MIB, tracemalloc.get_traced_memory()[0] // MIB)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    peak_mib, kept_mib = map(int, done.stdout.split())
    assert peak_mib <= (102 if kind == "copies on the way" else 2)
    assert kept_mib <= 1


# -- cleanup and initialize ------------------------------------------------------------------------------------------


def test_an_initialized_node_is_cleaned_up_with_a_warning(caplog):
    node = Counting()
    node.initialize()
    with caplog.at_level(logging.WARNING, "remotemedia"):
        data = serialize_node_for_ipc(node)
    assert node.calls == ["initialize", "cleanup"]
    assert not node.is_initialized
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'Counting' is initialized" in caplog.text
    assert not load_node(data).is_initialized


def test_a_fresh_node_is_cleaned_up_silently(caplog):
    node = Counting()
    with caplog.at_level(logging.DEBUG, "remotemedia"):
        serialize_node_for_ipc(node)
    assert node.calls == ["cleanup"]
    assert not caplog.records


@pytest.mark.parametrize("error", [OSError("disk"), SystemExit(2)], ids=repr)
async def test_a_failing_cleanup_is_named(error):
    for attempt in (serialize_node_for_ipc, serialize_node_async):
        with pytest.raises(SerializationError, match=r"its cleanup\(\) raised") as caught:
            await maybe_await(attempt(Counting(error)))
        assert caught.value.__cause__ is error


def test_cleanup_of_what_was_never_made_is_forgiven_unless_it_was_made():
    class Naive(Node):
        def cleanup(self):
            self.file.close()

    node = Naive()
    assert load_node(serialize_node_for_ipc(node)).name == "Naive"
    node.initialize()
    assert "AttributeError" in error_of(node).reason


def test_a_coroutine_cleanup_runs_to_its_end_without_a_loop():
    node = AsyncNode()
    node.initialize().close()
    serialize_node_for_ipc(node)
    assert node.cleaned_in != threading.current_thread().name


async def test_a_coroutine_cleanup_runs_to_its_end_inside_a_loop():
    node = AsyncNode()
    await node.initialize()
    data = serialize_node_for_ipc(node)
    assert node.cleaned_in != threading.current_thread().name
    assert not node.is_initialized
    assert load_node(data).cleaned_in == node.cleaned_in


async def test_the_async_form_cleans_up_in_the_running_loop():
    node = AsyncNode()
    await node.initialize()
    data = await serialize_node_async(node)
    assert node.cleaned_in == threading.current_thread().name
    assert not load_node(data).is_initialized


async def test_cancelling_a_cleanup_is_a_cancellation():
    class Stuck(Node):
        async def cleanup(self):
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    task = asyncio.create_task(serialize_node_async(Stuck()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_deserialize_initializes():
    node = deserialize_node_from_ipc(serialize_node_for_ipc(Counting()))
    assert node.is_initialized
    assert node.calls == ["cleanup", "initialize"]


def test_deserialize_runs_a_coroutine_initialize():
    node = deserialize_node_from_ipc(serialize_node_for_ipc(AsyncNode()))
    assert node.is_initialized
    assert node.loop_thread


async def test_deserialize_refuses_a_coroutine_initialize_inside_a_loop():
    data = dump_node(AsyncNode())
    with pytest.raises(SerializationError, match="event loop is running") as caught:
        deserialize_node_from_ipc(data)
    assert "await node.initialize()" in caught.value.suggestion
    node = load_node(data)
    await node.initialize()
    assert node.is_initialized


def test_a_failing_initialize_is_named():
    class Fails(Node):
        def initialize(self):
            raise OSError("no camera")

    with pytest.raises(SerializationError, match="no camera") as caught:
        deserialize_node_from_ipc(dump_node(Fails()))
    assert "initialize()" in caught.value.reason
    assert isinstance(caught.value.__cause__, OSError)


# -- validation, misuse, damage --------------------------------------------------------------------------------------


def test_validate_answers_and_touches_nothing():
    node = Counting()
    assert validate_node_serializable(node) is True
    node.initialize()
    assert validate_node_serializable(node) is False  # holds a lock now
    assert node.calls == ["initialize"]
    assert node.is_initialized
    assert validate_node_serializable("text") is False


@pytest.mark.parametrize("thing", [None, 3, {"node_type": "x"}, Holder])
def test_only_nodes_are_taken(thing):
    for function in (serialize_node_for_ipc, dump_node):
        with pytest.raises(TypeError, match="expected a Node"):
            function(thing)


@pytest.mark.parametrize(
    "data",
    [b"", b"RMN", b"junk" * 10, pickle.dumps({"a": 1}), pickle.dumps(Holder())],
    ids=["empty", "short", "junk", "dict", "bare pickle"],
)
def test_junk_is_refused(data):
    with pytest.raises(SerializationError, match="not a serialized node"):
        load_node(data)


def test_damage_is_refused_and_the_node_named():
    data = dump_node(Holder(payload="x" * 1000))
    for cut in (len(data) - 1, len(data) // 2, ns._HEADER.size + len("detector")):
        with pytest.raises(SerializationError, match="damaged or cut short") as caught:
            load_node(data[:cut])
        assert caught.value.node_name == "detector"


def test_other_formats_and_pythons_are_refused():
    data = bytearray(dump_node(Holder()))
    for index, text in ((6, "format version"), (8, "written by Python")):
        other = data.copy()
        other[index] += 1
        with pytest.raises(SerializationError, match=text):
            load_node(other)


def test_a_pickle_of_something_else_is_refused(monkeypatch):
    data = dump_node(Holder())
    start = ns._HEADER.size + len("detector")
    with pytest.raises(SerializationError, match="holds a dict, which is no Node"):
        load_node(data[:start] + pickle.dumps({}))


def test_a_missing_module_is_named():
    data = dump_node(Holder())
    start = ns._HEADER.size + len("detector")
    with pytest.raises(SerializationError, match="module 'no_such_module_here'") as caught:
        load_node(data[:start] + b"cno_such_module_here\nThing\n.")
    assert "PYTHONPATH" in caught.value.suggestion


def test_a_node_whose_setstate_fails_is_named():
    class Bad(Node):
        def __setstate__(self, state):
            raise SystemExit(4)

    with pytest.raises(SerializationError, match="loading it raised SystemExit: 4"):
        load_node(dump_node(Bad()))


def test_odd_names_travel():
    node = Holder()
    node.name = "ü\ud800" * 2000
    assert load_node(dump_node(node)).name == node.name
