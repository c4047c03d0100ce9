"""Picklers for nodes: with a cap that holds while writing, with a record of what failed, and for measuring only.

Pickling hands large buffers to `write` without copying them, and `Chunks` keeps references: nothing large is built
before everything is known to fit.
"""

from __future__ import annotations

import array
from time import monotonic
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
import numpy as np

PROTOCOL = 5
_NO_FILE = "<dynamic-code>"


class StopPickling(Exception):  # noqa: N818 - a signal between these classes, never seen by users
    """The file takes no more."""


class Chunks:
    """A file that keeps what is written, as references, up to `limit` bytes."""

    __slots__ = ("limit", "parts", "size_bytes")

    def __init__(self, limit: int, start: bytes) -> None:
        self.limit, self.parts, self.size_bytes = limit, [start], len(start)

    def write(self, chunk: Any) -> None:
        self.size_bytes += len(chunk) if type(chunk) is bytes else memoryview(chunk).nbytes
        if self.size_bytes > self.limit:
            raise StopPickling
        self.parts.append(chunk)

    def expect(self, nbytes: int) -> None:
        """Called before `nbytes` are made that will be written."""
        if self.size_bytes + nbytes > self.limit:
            self.size_bytes += nbytes
            raise StopPickling


class Counter:
    """A file that only counts, up to `limit` bytes and until `deadline_s` (monotonic)."""

    def __init__(self, limit: int, deadline_s: float) -> None:
        self.limit, self.deadline_s, self.size_bytes = limit, deadline_s, 0

    def write(self, chunk: Any) -> None:
        self.size_bytes += memoryview(chunk).nbytes
        self.expect(0)

    def expect(self, nbytes: int) -> None:
        if self.size_bytes + nbytes > self.limit or monotonic() > self.deadline_s:
            raise StopPickling

    def skip(self, nbytes: int) -> None:
        """Count what is neither made nor written, and so takes nothing of the limit."""
        self.size_bytes += nbytes
        self.limit += nbytes
        self.expect(0)


class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc] # cloudpickle has no types
    """Cloudpickle, but an array that would not fit is refused before it is copied."""

    _by_value = (type, FunctionType)  # what cloudpickle reduces in its own way; asked for every object, so in one check
    _arrays = (np.ndarray, array.array, memoryview)
    _special = _by_value + _arrays
    _cloudpickle_reduce = cloudpickle.CloudPickler.reducer_override

    def __init__(self, file: Chunks | Counter) -> None:
        # One dict instead of cloudpickle's ChainMap, which takes 1 µs to say that a class is not in it.
        tables = cloudpickle.CloudPickler.dispatch_table.maps
        self.dispatch_table = {**tables[1], **tables[0], CodeType: _reduce_code}
        super().__init__(file, PROTOCOL)
        self._file = file

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, self._special):
            return NotImplemented
        if isinstance(obj, self._arrays):
            return self._reduce_array(obj)
        return self._cloudpickle_reduce(obj)

    def _reduce_array(self, obj: Any) -> Any:
        self._file.expect(_written_bytes(obj))
        return NotImplemented


def _reduce_code(code: CodeType) -> Any:
    """As cloudpickle does it, but with the name of the file, for which it puts a word that is the same everywhere: so a
    traceback in a worker shows the lines of a class that was defined in a script.
    """
    make, arguments = cloudpickle.CloudPickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if part == _NO_FILE else part for part in arguments)


def _written_bytes(obj: Any) -> int:
    """How many bytes the content of an array takes in a pickle; 0 where a subclass or its items decide that."""
    kind: Any = type(obj)
    if isinstance(obj, memoryview):
        return obj.nbytes
    if isinstance(obj, array.array):
        return len(obj) * obj.itemsize if kind.__reduce_ex__ is array.array.__reduce_ex__ else 0
    plain = kind.__reduce_ex__ is np.ndarray.__reduce_ex__ and kind.__reduce__ is np.ndarray.__reduce__
    return int(obj.nbytes) if plain and not obj.dtype.hasobject else 0


class Tracer(Pickler):
    """Records what each object was reduced to; the last one begun is the one that could not be pickled."""

    def __init__(self, file: Counter) -> None:
        super().__init__(file)
        self.reductions: dict[int, tuple[Any, Any]] = {}
        self.last: Any = None

    def reducer_override(self, obj: Any) -> Any:
        self._file.expect(0)  # objects may be slow to reduce and small to write: look at the clock here as well
        self.last = obj
        reduction = super().reducer_override(obj)
        if reduction is NotImplemented and not isinstance(obj, self._by_value):
            reduce = self.dispatch_table.get(type(obj))
            reduction = obj.__reduce_ex__(PROTOCOL) if reduce is None else reduce(obj)
        self.reductions[id(obj)] = obj, reduction
        return reduction


class Meter(Pickler):
    """Counts only: arrays by their size, without reading them."""

    def __init__(self, counter: Counter) -> None:
        super().__init__(counter)
        self._counter = counter

    def _reduce_array(self, obj: Any) -> Any:
        nbytes = _written_bytes(obj)
        if nbytes == 0:
            return NotImplemented
        self._counter.skip(nbytes)
        return int, ()


def try_pickle(pickler: Pickler, obj: Any) -> BaseException | None:
    """Pickle into the pickler's file; returns what it raised."""
    try:
        pickler.dump(obj)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - __reduce__ is user code: SystemExit and RecursionError included
        pickler.clear_memo()  # it holds whatever __reduce__ made, and the traceback holds the pickler
        return error
    return None
