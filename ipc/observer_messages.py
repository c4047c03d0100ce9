"""What an observer (`remotemedia top`) asks a running pool, and what that answers: typed plain data. No I/O.

    observer → pool   GetSnapshot, GetStacks, RestartWorker
    pool → observer   PoolView, StacksText, Done, Refused

Each message is one packet of the pool's second socket (see observer_server): a msgpack map with its kind under "type".
An answer carries the number of its request; unknown fields are ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from remotemedia.core.exceptions import MalformedMessage
from remotemedia.core.figures import WorkerFigures

OBSERVER_VERSION = 1
MAX_REQUEST_BYTES = 4096
CREDENTIALS = struct.Struct("3i")
"""What the kernel tells of the process at the other end: pid, uid, gid."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    number: int = 0


class _Request(_Message, frozen=True, kw_only=True):
    version: int = OBSERVER_VERSION


class GetSnapshot(_Request, frozen=True, kw_only=True):
    """Answer with PoolView. Rates in it are means since the snapshot before on the same connection. `details`: with
    what does not fit into a line per worker.
    """

    details: bool = False


class GetStacks(_Request, frozen=True, kw_only=True):
    """Answer with StacksText: what the threads of this node's process are doing."""

    node: str


class RestartWorker(_Request, frozen=True, kw_only=True):
    """Let this node's worker finish the frame that it is at, and start afresh. Answer with Done once that is begun."""

    node: str


@dataclass(frozen=True, kw_only=True)
class WorkerView(WorkerFigures):
    """One stage: its figures, and what else one wants to see of it.

    `queue_frames`: what `queue` can be at most, roughly; `frame`: number of the frame that it works on; `event`: what
    happened to it last, `event_age_s` ago. `pss_bytes` is left to the observer: reading it takes time.
    """

    queue_frames: int
    frame: int | None = None
    event: str = ""
    event_age_s: float = 0.0


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened `age_s` ago, for the `count`th time: the name of its class in remotemedia.events, which
    worker it was about (`node` is "" where it was the whole pool), and what there is to say.
    """

    kind: str
    node: str
    pid: int | None
    generation: int
    text: str
    count: int
    age_s: float


class PoolDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The rest of a PoolView. `kinds`: the class of each node; `edges`: from which to which, both by index.

    `frames_in`: inputs that the first nodes were given; `frames_out`: those that have left the last ones; `drops`:
    items of live sources that were dropped; `error`: why the pool is broken. `events` and `errors`: the newest first.
    """

    kinds: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    frames_in: int
    frames_out: int
    drops: int
    error: str
    events: list[EventView]
    errors: list[EventView]


class PoolView(_Message, frozen=True, kw_only=True):
    """A pool as it is now. `pid`: of its coordinator; `state`: "starting", "running", "broken" or "closing"."""

    pool_id: str
    pid: int
    state: str
    package_version: str
    uptime_s: float
    sessions: int
    workers: list[WorkerView]
    details: PoolDetails | None = None


class StacksText(_Message, frozen=True, kw_only=True):
    """The answer to GetStacks."""

    text: str


class Done(_Message, frozen=True, kw_only=True):
    """It has been begun."""


class Refused(_Message, frozen=True, kw_only=True):
    """It cannot be done, and why."""

    reason: str


Request: TypeAlias = GetSnapshot | GetStacks | RestartWorker
Reply: TypeAlias = PoolView | StacksText | Done | Refused

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Request | Reply) -> bytes:
    """The message as one packet."""
    return _encoder.encode(message)


def decode_request(data: bytes) -> Request:
    """Raises MalformedMessage for any bytes that are none, and for a request of another version."""
    try:
        request = _requests.decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
    if request.version != OBSERVER_VERSION:
        raise MalformedMessage(f"the observer speaks version {request.version}, this pool {OBSERVER_VERSION}")
    return request


def decode_reply(data: bytes) -> Reply:
    """Raises MalformedMessage for any bytes that are none."""
    try:
        return _replies.decode(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
