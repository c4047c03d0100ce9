"""Control messages: round trips, limits, and whatever bytes may come."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.exceptions import MalformedMessage, ProtocolVersionMismatch
from remotemedia.core.remote_errors import RemoteTraceback
from remotemedia.ipc import messages as m

text = st.text()  # without surrogates: what is not Unicode has a test of its own
optional_text = st.none() | text
numbers = st.integers(-(2**63), 2**64 - 1)
plain = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | text | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
errors = st.builds(
    lambda kind, args, trace, notes: dict(
        RemoteTraceback(type_name=kind, text=kind, args=args, traceback=trace, notes=notes).as_mapping()
    ),
    text,
    st.none() | st.tuples(text, numbers),
    text,
    st.tuples(text),
)
records = st.builds(m.LogRecord, text, st.integers(0, 50), text, st.floats(0, 1e10), optional_text)
phases = st.sampled_from(["load", "initialize", "process", "flush", "cleanup", "channel"])

from_worker = st.one_of(
    st.builds(
        m.Hello,
        protocol_version=st.just(m.PROTOCOL_VERSION),
        package_version=text,
        python_version=text,
        pid=numbers,
        token=st.binary(),
    ),
    st.builds(m.Loaded),
    st.builds(m.Ready),
    st.builds(m.Failed, phase=phases, error=errors, frame=st.none() | numbers, error_class=text),
    st.builds(m.Log, records=st.lists(records, max_size=5)),
    st.builds(m.Drained),
    st.builds(m.Goodbye, cleanup_error=optional_text),
    st.builds(m.Stacks, text=text),
)
from_coordinator = st.one_of(
    st.builds(m.Welcome),
    st.builds(m.Stop, deadline_s=st.floats(0, 1e6)),
    st.builds(m.DumpStacks),
    st.builds(m.Custom, payload=plain),
    st.builds(m.Farewell),
)


@given(from_worker)
def test_every_message_of_a_worker_survives_the_trip(message: m.FromWorker) -> None:
    assert m.decode(m.encode(message), "to_coordinator") == message


@given(from_coordinator)
def test_every_message_of_the_coordinator_survives_the_trip(message: m.FromCoordinator) -> None:
    assert m.decode(m.encode(message), "to_worker") == message


@given(from_worker)
def test_a_message_is_refused_in_the_wrong_direction(message: m.FromWorker) -> None:
    with pytest.raises(MalformedMessage):
        m.decode(m.encode(message), "to_worker")


def decodes_or_is_malformed(data: bytes) -> None:
    for direction in ("to_coordinator", "to_worker"):
        with suppress(MalformedMessage, ProtocolVersionMismatch):
            assert isinstance(m.decode(data, direction), msgspec.Struct)
    token = m.hello_token(data)
    assert token is None or isinstance(token, bytes)


@given(st.binary())
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    decodes_or_is_malformed(data)


@given(from_worker | from_coordinator, st.data())
def test_damaged_messages_are_messages_or_malformed(message: m.Message, data: st.DataObject) -> None:
    good = bytearray(m.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_is_malformed(bytes(good[: data.draw(st.integers(0, len(good)))]))


CUSTOM_HEAD = m.encode(m.Custom(payload=None))[:-1]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x91" * 200_000, id="nested 200 000 deep"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="4 G elements promised"),
        pytest.param(b"\x81\x80\x01", id="map as key"),
        pytest.param(b"\xa1\xff", id="not UTF-8"),
        pytest.param(b"\xc7\x0c\xff" + b"\xff" * 12, id="impossible time stamp"),
        pytest.param(b"\xc0\xc0", id="more than one value"),
    ],
)
def test_hostile_payloads_are_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        m.decode(CUSTOM_HEAD + payload, "to_worker")


def test_a_pickle_is_malformed() -> None:
    import pickle

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(MalformedMessage):
            m.decode(pickle.dumps(m.Ready, protocol), "to_coordinator")


def hello_of_version(version: int, **more: Any) -> bytes:
    return msgspec.msgpack.encode({"type": "hello", "protocol_version": version, "token": b"secret", **more})


def test_another_protocol_version_is_named_even_if_nothing_else_is_understood() -> None:
    with pytest.raises(ProtocolVersionMismatch) as caught:
        m.decode(hello_of_version(m.PROTOCOL_VERSION + 1, new_field=[1]), "to_coordinator")
    assert (caught.value.ours, caught.value.theirs) == (m.PROTOCOL_VERSION, m.PROTOCOL_VERSION + 1)
    assert m.hello_token(hello_of_version(99)) == b"secret"


def test_an_incomplete_hello_of_our_version_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="package_version"):
        m.decode(hello_of_version(m.PROTOCOL_VERSION), "to_coordinator")


def test_only_a_hello_has_a_token() -> None:
    assert m.hello_token(m.encode(m.Ready())) is None
    assert m.hello_token(b"junk") is None


def test_the_size_limit_holds_on_both_sides() -> None:
    with pytest.raises(MalformedMessage, match=r"Stacks message of 1\d+ bytes .* limit of 1048576"):
        m.encode(m.Stacks(text="x" * m.MAX_MESSAGE_BYTES))
    with pytest.raises(MalformedMessage, match="limit"):
        m.decode(b"\xc0" * (m.MAX_MESSAGE_BYTES + 1), "to_worker")
    overhead = len(m.encode(m.Stacks(text="x" * 70_000))) - 70_000
    largest = m.Stacks(text="x" * (m.MAX_MESSAGE_BYTES - overhead))
    assert m.decode(m.encode(largest), "to_coordinator") == largest


def test_text_that_is_no_unicode_and_huge_numbers_travel_readably() -> None:
    error = ValueError("no such file: caf\udce9", 2**80)
    decoded = m.decode(m.encode(m.Failed.of("process", error, frame=7)), "to_coordinator")
    assert isinstance(decoded, m.Failed)
    assert decoded.frame == 7
    assert "caf\\udce9" in decoded.error["text"]
    assert decoded.error["args"] == ["no such file: caf\\udce9", hex(2**80)]


class Shout(str):
    """A str subclass, as libraries put into exceptions."""

    __slots__ = ()


def test_arguments_of_derived_types_travel_as_their_base() -> None:
    decoded = m.decode(m.encode(m.Failed.of("load", KeyError(Shout("gain")))), "to_coordinator")
    assert isinstance(decoded, m.Failed)
    rebuilt = RemoteTraceback.from_mapping(decoded.error).exception()
    assert isinstance(rebuilt, KeyError)
    assert rebuilt.args == ("gain",)


def test_a_report_of_a_failure_always_fits() -> None:
    error = ValueError(*("x" * 10_000 for _ in range(200)))
    for number in range(100):
        error.add_note(str(number) * 16_000)
    data = m.encode(m.Failed.of("process", error))
    decoded = m.decode(data, "to_coordinator")
    assert isinstance(decoded, m.Failed)
    assert decoded.error["type_name"] == "builtins:ValueError"


def test_an_error_mapping_of_another_shape_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="type_name"):
        m.Failed(phase="load", error={"text": "?"})
    damaged = msgspec.msgpack.encode({"type": "failed", "phase": "load", "error": {"text": 5}})
    with pytest.raises(MalformedMessage):
        m.decode(damaged, "to_coordinator")


def test_what_is_not_plain_data_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="cannot carry a value of type object"):
        m.encode(m.Custom(payload=object()))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(MalformedMessage, match="contains itself"):
        m.encode(m.Custom(payload=endless))


def test_a_worker_can_import_it_cheaply() -> None:
    code = "import sys, remotemedia.ipc.control; print(sorted({'asyncio', 'structlog', 'psutil'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
