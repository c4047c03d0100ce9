"""Control messages: typed, versioned, plain data; never a pickle. No I/O.

    worker → coordinator   Hello, Loaded, Ready, Failed, Skipped, Answer, Log, Drained, Goodbye, Stacks
    coordinator → worker   Welcome, Stop, DumpStacks, Custom, Farewell

On the wire a message is one msgpack map with its kind under "type". Unknown fields are ignored, so that fields with a
default can be added within one `PROTOCOL_VERSION`; a worker states its version in its first message, `Hello`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from remotemedia.core.exceptions import MalformedMessage, ProtocolVersionMismatch
from remotemedia.core.remote_errors import RemoteTraceback

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 2**20
TOKEN_BYTES = 32
MAX_STACKS_BYTES = 64 * 1024
"""Of the text in Stacks: an observer gets it in one packet, which the kernel limits to some 200 KB."""

FailedPhase: TypeAlias = Literal[
    "limits", "load", "initialize", "process", "flush", "snapshot_state", "cleanup", "channel", "died"
]
Direction: TypeAlias = Literal["to_coordinator", "to_worker"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Base of all messages."""


# -- worker → coordinator ----------------------------------------------------------------------------------------------


class Hello(_Message, frozen=True, kw_only=True):
    """First message of a worker. `token`: the secret it was given at its start, which proves which worker it is."""

    protocol_version: int
    package_version: str
    python_version: str
    pid: int
    token: bytes


class Loaded(_Message, frozen=True, kw_only=True):
    """The node is unpickled."""


class Ready(_Message, frozen=True, kw_only=True):
    """`Node.initialize()` has returned and the channels are connected."""


class Failed(_Message, frozen=True, kw_only=True):
    """The node, or what carries its frames, raised.

    `error`: what `RemoteTraceback.as_mapping()` gives; `frame`: number of the frame that was being processed;
    `worker_id`: whose node it was, for one that travels as a frame with the flag FAILED; phase "died": the frame was
    given up because its processing has killed the worker too often, the coordinator knows how. `error_class`: name of
    the class in remotemedia.core.exceptions that says it best, "" = what `phase` implies.
    """

    phase: FailedPhase
    error: Mapping[str, Any]
    frame: int | None = None
    worker_id: int | None = None
    error_class: str = ""

    def __post_init__(self) -> None:
        msgspec.convert(self.error, RemoteTraceback)

    @classmethod
    def of(
        cls,
        phase: FailedPhase,
        error: BaseException,
        *,
        frame: int | None = None,
        worker_id: int | None = None,
        error_class: str = "",
    ) -> Failed:
        """A message about `error` that is certain to fit: if it is too large, arguments and notes are left out."""
        whole = RemoteTraceback.of(error)
        message = cls(
            phase=phase, error=whole.as_mapping(), frame=frame, worker_id=worker_id, error_class=error_class
        )
        if len(_encoded(message)) <= MAX_MESSAGE_BYTES:
            return message
        return msgspec.structs.replace(message, error={**whole.as_mapping(), "args": None, "notes": []})


class Skipped(_Message, frozen=True, kw_only=True):
    """The node raised for the frame of this number, which has no output therefore. `text`: what it raised."""

    frame: int
    text: str


class Answer(_Message, frozen=True, kw_only=True):
    """The node is done with the Custom message of this number. `error`: what it raised, as RemoteTraceback's mapping.
    """

    number: int
    error: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.error is not None:
            msgspec.convert(self.error, RemoteTraceback)


class LogRecord(NamedTuple):
    """One log record of a worker. `level`: as in logging; `time`: seconds since the epoch, as the worker took it."""

    logger: str
    level: int
    text: str
    time: float
    exc_text: str | None = None


class Log(_Message, frozen=True, kw_only=True):
    """Log records, oldest first."""

    records: list[LogRecord]


class Drained(_Message, frozen=True, kw_only=True):
    """Everything the worker had received is processed, sent on and taken over by its receivers."""


class Goodbye(_Message, frozen=True, kw_only=True):
    """Last message of a worker; an exit without it is a crash. `cleanup_error`: text of what `cleanup()` raised."""

    cleanup_error: str | None = None


class Stacks(_Message, frozen=True, kw_only=True):
    """The Python stacks of all threads of the worker, as text."""

    text: str


# -- coordinator → worker ----------------------------------------------------------------------------------------------


class Welcome(_Message, frozen=True, kw_only=True):
    """The answer to Hello: load the node."""


class Stop(_Message, frozen=True, kw_only=True):
    """Finish what you have, clean up and exit. `deadline_s`: seconds from now until the process is killed."""

    deadline_s: float


class DumpStacks(_Message, frozen=True, kw_only=True):
    """Answer with Stacks."""


class Custom(_Message, frozen=True, kw_only=True):
    """A message of the user for the node: None, bool, int, float, str, bytes, and lists and dicts of these.

    `number`: what the Answer carries.
    """

    payload: Any
    number: int = 0


class Farewell(_Message, frozen=True, kw_only=True):
    """The answer to Goodbye: everything you sent has been read. Sent by ControlServer itself."""


FromWorker: TypeAlias = Hello | Loaded | Ready | Failed | Skipped | Answer | Log | Drained | Goodbye | Stacks
FromCoordinator: TypeAlias = Welcome | Stop | DumpStacks | Custom | Farewell
Message: TypeAlias = FromWorker | FromCoordinator


# -- bytes -------------------------------------------------------------------------------------------------------------


class _HelloHead(msgspec.Struct, tag_field="type", tag="hello"):
    """What every version of Hello has."""

    protocol_version: int
    token: bytes


def _to_builtin(value: object) -> object:
    """Subclasses of plain types (a `str` subclass as argument of an exception) travel as their base."""
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(
        f"a control message cannot carry a value of type {type(value).__name__}: it takes None, bool, int, float, str, "
        "bytes, and lists and dicts of these"
    )


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_builtin)
_decoders: dict[Direction, msgspec.msgpack.Decoder[Any]] = {
    "to_coordinator": msgspec.msgpack.Decoder(FromWorker),
    "to_worker": msgspec.msgpack.Decoder(FromCoordinator),
}
_head_decoder = msgspec.msgpack.Decoder(_HelloHead)


def encode(message: Message) -> bytes:
    """The message as bytes.

    Text that is no valid Unicode (undecodable file names in error texts) and integers of more than 64 bits travel in an
    escaped, printable form. Raises MalformedMessage for more than MAX_MESSAGE_BYTES (or endless nesting), TypeError for
    what is not plain data.
    """
    data = _encoded(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(
            f"a {type(message).__name__} message of {len(data)} bytes is larger than the limit of "
            f"{MAX_MESSAGE_BYTES} bytes; large data travels as frames, not as messages"
        )
    return data


def _encoded(message: Message) -> bytes:
    try:
        return _encoder.encode(message)
    except (UnicodeEncodeError, OverflowError):
        return _encoder.encode(_printable(msgspec.to_builtins(message, builtin_types=(bytes,), enc_hook=_to_builtin)))
    except RecursionError:
        raise MalformedMessage(f"a {type(message).__name__} message is nested too deeply or contains itself") from None


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return hex(value)
    return value


def decode(data: bytes, direction: Direction) -> Message:
    """The message that was sent in `direction`.

    Raises MalformedMessage for any bytes that are none, ProtocolVersionMismatch for a Hello of another version.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"{len(data)} bytes are more than the limit of {MAX_MESSAGE_BYTES} bytes")
    if direction == "to_coordinator" and (head := _hello_head(data)) and head.protocol_version != PROTOCOL_VERSION:
        raise ProtocolVersionMismatch(ours=PROTOCOL_VERSION, theirs=head.protocol_version)
    try:
        message: Message = _decoders[direction].decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise MalformedMessage(str(error)) from error
    return message


def hello_token(data: bytes) -> bytes | None:
    """The token in `data` if that is a Hello of any protocol version, else None."""
    head = _hello_head(data) if len(data) <= MAX_MESSAGE_BYTES else None
    return head.token if head is not None else None


def _hello_head(data: bytes) -> _HelloHead | None:
    try:
        return _head_decoder.decode(data)
    except (ValueError, RecursionError):
        return None
