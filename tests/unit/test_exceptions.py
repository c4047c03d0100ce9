"""Every error: its place in the tree, its fields in its text, its way through pickle; exceptions as plain data."""

import inspect
import pickle
import re

import pytest

from remotemedia.core import exceptions
from remotemedia.core.exceptions import (
    ChannelError,
    ConfigurationError,
    FrameTooLarge,
    ManifestError,
    NodeError,
    ProtocolVersionMismatch,
    RemoteExceptionText,
    RemoteMediaError,
    RestartLimitExceeded,
    SerializationError,
    SharedMemoryExhausted,
    SizeLimitError,
    WorkerDied,
    WorkerError,
    WorkerIdentity,
    WorkerUnresponsive,
)
from remotemedia.core.remote_errors import RemoteTraceback

CLASSES = [
    kind
    for kind in vars(exceptions).values()
    if inspect.isclass(kind) and issubclass(kind, RemoteMediaError) and kind.__module__ == exceptions.__name__
]
WORKER = WorkerIdentity(node="detector", worker_id=2, pid=4711, generation=1)
DETAILS = {"frame": 1042, "story": ("spawned", "ready"), "stacks": "in process()"}

# One instance of every class, with every field set to something that can be recognised.
SAMPLES = {
    ManifestError: ManifestError(
        "unknown type", pointer="/nodes/0", expected="a known one", close_matches=["Blur"], source="m.json"
    ),
    exceptions.PipelineStalled: exceptions.PipelineStalled(["spray", "blur"], 64),
    NodeError: NodeError("detector", "broke a rule"),
    SerializationError: SerializationError("detector", "cannot pickle", "do not", "detector.lock"),
    SizeLimitError: SizeLimitError("detector", 101 * 2**20, 100 * 2**20, [("weights", 90 * 2**20), ("bias", 2048)]),
    WorkerDied: WorkerDied(
        WORKER, signal="SIGKILL", likely_cause="memory", suggestion="less", stderr_tail="last words", **DETAILS
    ),
    WorkerUnresponsive: WorkerUnresponsive(WORKER, waited_s=30.5, process_state="T", **DETAILS),
    RestartLimitExceeded: RestartLimitExceeded(WORKER, restarts=3, period_s=60.0, story=("died", "died")),
    FrameTooLarge: FrameTooLarge("a-b", 2048, 1024),
    SharedMemoryExhausted: SharedMemoryExhausted("a-b", 3_000_000, 2_000_000),
    ProtocolVersionMismatch: ProtocolVersionMismatch(ours=2, theirs=1),
    exceptions.MalformedMessage: exceptions.MalformedMessage("not a map"),
    RemoteExceptionText: RemoteExceptionText("pkg.Gone", "was here"),
}


def sample(kind):
    if kind in SAMPLES:
        return SAMPLES[kind]
    if issubclass(kind, WorkerError):
        return kind(WORKER, "failed.", suggestion="less", stderr_tail="last words", remote_traceback="at x", **DETAILS)
    if issubclass(kind, ChannelError):
        return kind("a-b", "gone")
    return kind("plain text")


def fields_of(error):
    return {key: value for key, value in vars(error).items() if key != "__notes__"}


def texts_of(value):
    """The pieces in which a field's value must show in the error's text."""
    if isinstance(value, WorkerIdentity):
        return [repr(value.node), f"worker {value.worker_id}", f"pid {value.pid}", f"generation {value.generation}"]
    if isinstance(value, tuple):
        return [text for item in value for text in (texts_of(item[0]) if isinstance(item, tuple) else texts_of(item))]
    if isinstance(value, float):
        return [f"{value:g}"]
    if isinstance(value, int) and value >= 2**20:
        return [f"{value / 2**20:.1f} MiB"] if value % 2**20 == 0 else [f"{value / 1e6:.1f} MB"]
    return [str(value)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_text_is_made_from_the_fields(kind):
    error = sample(kind)
    for name, value in fields_of(error).items():
        for text in texts_of(value) if value is not None else []:
            assert text in str(error), name


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_it_pickles_with_fields_notes_and_cause(kind):
    error = sample(kind)
    error.__cause__ = KeyError("key")
    error.add_note("a note")
    try:
        for protocol in (2, pickle.HIGHEST_PROTOCOL):
            copy = pickle.loads(pickle.dumps(error, protocol))
            assert type(copy) is kind
            assert str(copy) == str(error)
            assert fields_of(copy) == fields_of(error)
            assert copy.args == error.args
            assert copy.__notes__ == ["a note"]
            assert repr(copy.__cause__) == "KeyError('key')"
    finally:
        error.__cause__ = None
        del error.__notes__


def test_the_tree_in_the_docstring_is_the_real_one():
    drawn, stack = {}, []
    for line in exceptions.__doc__.splitlines():
        match = re.match(r"^    ([│├└─ ]*)(\w+)(?:\((\w+)\))?", line)
        if match and (match[1] or match[2] == "RemoteMediaError"):
            depth = len(match[1]) // 4
            del stack[depth:]
            drawn[match[2]] = (stack[-1] if stack else "Exception", match[3])
            stack.append(match[2])
    real = {
        kind.__name__: (kind.__bases__[0].__name__, kind.__bases__[1].__name__ if kind.__bases__[1:] else None)
        for kind in CLASSES
    }
    assert drawn == real


def test_configuration_errors_are_value_errors():
    assert issubclass(ConfigurationError, ValueError)


def test_worker_errors_have_shorthands():
    error = sample(WorkerDied)
    assert (error.node, error.worker_id, error.pid, error.generation) == ("detector", 2, 4711, 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"signal": "SIGSEGV"}, "was killed by SIGSEGV while no frame was being processed."),
        ({"exit_code": 0, "frame": 0}, "exited with code 0 without a goodbye while processing frame 0; the outcome"),
        ({}, "ended (its exit status was reaped elsewhere)"),
    ],
)
def test_how_a_worker_died(arguments, text):
    assert text in str(WorkerDied(WORKER, **arguments))


# -- causes that do not pickle ---------------------------------------------------------------------------------------


class UnpicklableError(Exception):
    def __reduce__(self):
        raise RuntimeError("never")


class NeedsTwoError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class SilentError(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize("cause", [UnpicklableError("x"), NeedsTwoError(1, 2)], ids=repr)
def test_a_cause_that_does_not_pickle_travels_as_text(cause):
    cause.add_note("look here")
    error = NodeError("n", "r")
    error.__cause__ = cause
    back = pickle.loads(pickle.dumps(error)).__cause__
    assert isinstance(back, RemoteExceptionText)
    assert (back.type_name, back.text) == (type(cause).__name__, str(cause))
    assert back.__notes__ == ["look here"]


# -- exceptions as data ----------------------------------------------------------------------------------------------


def described(error):
    try:
        raise error
    except BaseException as caught:
        return RemoteTraceback.of(caught)


@pytest.mark.parametrize("error", [KeyError("k"), OSError(2, "gone"), ValueError(), SystemExit(3), KeyboardInterrupt()])
def test_plain_exceptions_come_back_as_themselves(error):
    back = described(error).exception()
    assert type(back) is type(error)
    assert back.args == error.args


def test_notes_and_traceback_are_kept():
    error = ValueError("v")
    error.add_note("look here")
    data = described(error)
    assert "in described" in data.traceback
    assert "ValueError: v" in data.traceback
    assert data.exception().__notes__ == ["look here"]


@pytest.mark.parametrize(
    "error", [NeedsTwoError(1, 2), SilentError("s"), ValueError(object())], ids=lambda error: type(error).__name__
)
def test_what_cannot_be_rebuilt_comes_back_as_text(error):
    back = described(error).exception()
    assert isinstance(back, RemoteExceptionText)
    assert back.type_name == type(error).__name__


def test_local_and_foreign_types_come_back_as_text():
    class LocalError(Exception):
        pass

    assert isinstance(described(LocalError("x")).exception(), RemoteExceptionText)
    for name in ("no_such_module:Error", "os:system", "os:getcwd", "builtins:print"):
        assert isinstance(RemoteTraceback(type_name=name, text="t", args=("t",)).exception(), RemoteExceptionText)


def test_the_headline_names_the_type_even_if_it_is_unknown_here():
    class LocalError(Exception):
        pass

    errors = (ValueError("too large"), ValueError(), LocalError("x"), SilentError("s"))
    assert [described(error).headline for error in errors] == [
        "ValueError: too large",
        "ValueError",
        "LocalError: x",
        f"SilentError: {described(SilentError('s')).text}",
    ]
    assert RemoteTraceback(type_name="no_such_module:Outer.Error", text="t").headline == "Error: t"


def test_huge_texts_are_cut_in_the_middle():
    data = described(ValueError("a" * 100_000 + "end"))
    assert len(data.text) < RemoteTraceback.MAX_TEXT + 100
    assert data.text.startswith("aaa")
    assert data.text.endswith("end")
    assert "characters left out" in data.text


def test_it_survives_a_codec_of_plain_values():
    import json

    for error in (KeyError("k"), SilentError("s")):
        data = described(error)
        assert RemoteTraceback.from_mapping(json.loads(json.dumps(data.as_mapping()))) == data
