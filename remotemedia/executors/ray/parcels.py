"""Values as what travels between hosts: taken apart by the codec of the frames, small ones inside the message itself,
large ones in the object store of the host that made them, from where the host that needs them fetches them.

Who passes a parcel on neither fetches nor unpickles it.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from remotemedia.core.exceptions import SerializationError
from remotemedia.core.remote_errors import described
from remotemedia.ipc import codec

_MOST_INLINE_BYTES = 64 * 1024


class ParcelLost(Exception):  # noqa: N818 - named for what happened
    """The object store that a parcel lay in is gone."""


@dataclass(frozen=True, slots=True, eq=False)
class Inline:
    """A value as bytes."""

    stream: bytes
    buffers: tuple[bytes, ...]
    nbytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A value in an object store. It ends with the process that put it there."""

    reference: Any
    nbytes: int


Parcel = Inline | Stored


def pack(value: Any) -> Parcel:
    """Take `value` apart: one copy. Raises SerializationError."""
    parts = codec.pickled(value)
    nbytes = len(parts.stream) + sum(buffer.nbytes for buffer in parts.buffers)
    if nbytes <= _MOST_INLINE_BYTES:
        return Inline(parts.stream, tuple(map(bytes, parts.buffers)), nbytes)
    buffers = [pickle.PickleBuffer(buffer) for buffer in parts.buffers]
    return Stored(ray.put((parts.stream, buffers)), nbytes)


async def unpack(parcel: Parcel) -> Any:
    """The value again; its arrays are read-only views of the parcel's memory, or of this host's object store.

    Raises ParcelLost, SerializationError.
    """
    if isinstance(parcel, Inline):
        return _loaded(parcel.stream, parcel.buffers)
    try:
        stream, buffers = await parcel.reference
    except RayError as error:
        raise ParcelLost(str(error)) from error
    return _loaded(stream, buffers)


def _loaded(stream: bytes, buffers: Any) -> Any:
    try:
        return pickle.loads(stream, buffers=buffers)
    except Exception as error:
        raise SerializationError(
            "frame",
            f"a frame cannot be unpickled on this host: {described(error)}",
            "the modules of its classes must be importable on every host: ray.init(runtime_env={'working_dir': '.'})",
        ) from error


def is_mortal(parcel: Any) -> bool:
    """Whether it ends with the process that packed it."""
    return isinstance(parcel, Stored)
