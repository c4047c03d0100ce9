"""Values of every kind that may travel, and whether two of them are the same."""

from __future__ import annotations

import dataclasses
import enum
from collections import namedtuple
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from remotemedia.core.frames import AudioFrame, MediaFrame, TensorFrame, VideoFrame
from remotemedia.ipc.channel import MARK

DTYPES = (
    *"?bBhHiIlLqQefdgFDG",
    *(">" + code for code in "hHiIqQefdFD"),
    "S5",
    "U7",
    ">U3",
    "V6",
    "M8[ns]",
    "m8[25s]",
    ">M8[D]",
)


@dataclasses.dataclass
class Detection:
    """A result as detectors give it: plain values beside arrays."""

    label: str
    box: np.ndarray[Any, Any]
    scores: list[np.ndarray[Any, Any]]


class Colour(enum.Enum):
    """Pickled by name."""

    RED = 1


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped one is what travels in practice


def array_of(dtype: str) -> np.ndarray[Any, Any]:
    """24 different elements of a dtype, 4 x 6."""
    return np.arange(24).astype("i8").astype(dtype if dtype[-1] != "6" else "i8").astype(dtype).reshape(4, 6)


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of every memory layout and of dtypes that do not fit into the header."""
    base = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    record = np.dtype([("t", "M8[us]"), ("x", ">f4"), ("name", "U8"), ("v", "u1", (3,))], align=True)
    return {
        "0-d": np.array(3.5),
        "one element": np.array([7]),
        "empty": np.zeros((0, 4, 3), np.uint8),
        "empty behind": np.zeros((5, 0)),
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[:, ::2, 1:],
        "reversed": base[::-1],
        "broadcast": np.broadcast_to(np.arange(5), (7, 5)),
        "read-only": np.frombuffer(b"0123456789", np.uint8),
        "unaligned": np.frombuffer(b"x" + bytes(range(16)), "<u4", 4, 1),
        "8 dimensions": np.arange(256).reshape((2,) * 8),
        "9 dimensions": np.arange(512).reshape((2,) * 9),
        "records": np.zeros(3, record),
        "packed records": np.array([(1, 2.5)], dtype="i1,f8"),
        "object": np.array([1, "two", None, [3]], dtype=object),
        "strings of any length": np.array(["a", "b" * 100], dtype=np.dtypes.StringDType()),
        "masked": np.ma.masked_array([1, 2, 3], [False, True, False]),
        "matrix of a subclass": np.rec.array([(1, 2.0)], dtype="i4,f4"),
        "items of no bytes": np.empty((2, 3), "V0"),
        "large": np.arange(300_000),
    }


def objects() -> dict[str, Any]:
    """Everything that is no array."""
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    return {
        "mark": MARK,
        "none": None,
        "number": 2**100,
        "float": 1e-300,
        "text": "grüße, 世界",
        "bytes": b"\0\1\2",
        "no bytes": b"",
        "many bytes": bytes(100_000),
        "bytearray": bytearray(b"abc"),
        "tuple": (1, (2.0, ("x",))),
        "set": {1, 2, 3},
        "enum": Colour.RED,
        "namedtuple": Point(1, np.arange(3)),
        "path": PurePosixPath("/a/b"),
        "exception": ValueError("a", 1),
        "dict of arrays": {"a": np.arange(5), 3: [np.zeros((2, 2)), {"deep": (np.ones(1), "x")}]},
        "the same array twice": [picture, picture],
        "awkward arrays inside": list(arrays().values()),
        "times inside": {"t": np.arange(5).astype("M8[s]"), "big": np.arange(5, dtype=">i4")},
        "dataclass": Detection("cat", np.arange(4), [np.zeros(2), np.ones((2, 2), np.float16)]),
        "video": VideoFrame(array=picture, pts=5, time_base=Fraction(1, 25), metadata={"key": np.arange(3)}),
        "audio": AudioFrame(array=np.zeros((16, 2), np.float32), sample_rate=8000),
        "tensor": TensorFrame.of(np.arange(6.0).reshape(2, 3), "time", "channel"),
        "fortran frame": VideoFrame(array=np.asfortranarray(picture)),
    }


def same(a: Any, b: Any) -> bool:  # noqa: PLR0911 - one for each kind
    """Same type, same content, arrays with the same dtype (byte order included) and shape."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, repr(a.tolist())) == (b.dtype, b.shape, repr(b.tolist()))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (MediaFrame, Detection)):
        return same(vars(a), vars(b))
    if isinstance(a, BaseException):
        return str(a) == str(b)
    return bool(a == b)
