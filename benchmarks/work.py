"""What every contestant has to do with a frame, and how its outputs are checked."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8]

KIB, MIB = 1024, 1024 * 1024
SIZES = {"64 B": 64, "4 KB": 4 * KIB, "64 KB": 64 * KIB, "1 MB": MIB, "6.2 MB": 1920 * 1080 * 3}
"""Bytes of a frame by the name used in tables; the last one is a full HD picture in RGB."""

WINDOW = 8
"""Most frames in flight when streaming."""

SOURCE_BUFFERS = 3
"""Distinct input frames, used in turn, as a camera driver does. They are never written to after they were made, so a
contestant may hold on to them while it sends."""


NUMBER_BYTES = 8
"""Of a numbered frame: its number, little endian."""


class WrongOutputError(Exception):
    """A contestant returned something else than it should have."""


class Work(enum.Enum):
    """What each stage does with a frame."""

    ADD_ONE = "+1"
    """Into memory that the transport gives, where it gives any."""
    FRESH = "+1, fresh array"
    """Into an array made for the frame, as most numpy code does."""
    PASS_THROUGH = "pass"
    """Nothing: the input is the output."""

    def result_for(self, frame: Array, loan: Callable[[Array], Array]) -> Array:
        """The output for `frame`: the frame itself, a fresh array, or what `loan(frame)` gave, written to."""
        if self is Work.PASS_THROUGH:
            return frame
        if self is Work.FRESH:
            return np.add(frame, 1)
        out = loan(frame)
        np.add(frame, 1, out=out)
        return out

    @property
    def increment(self) -> int:
        """What one stage adds to every byte (modulo 256)."""
        return 0 if self is Work.PASS_THROUGH else 1


class FrameSource:
    """Numbered input frames and the check of what comes back for them.

    Frame number n is buffer n % SOURCE_BUFFERS. Its bytes depend on the buffer and on the position, so that lost,
    repeated, swapped and shifted frames show. Every output is checked at its first, its last and one wandering byte;
    `check_whole` compares all of them.
    """

    def __init__(self, size: int, work: Work, stages: int) -> None:
        ramp = np.arange(size, dtype=np.uint32) * 7
        self._frames = [(ramp + 83 * buffer).astype(np.uint8) for buffer in range(SOURCE_BUFFERS)]
        self._size = size
        self._increment = work.increment * stages
        self.sent = 0
        self.received = 0

    def next_frame(self) -> Array:
        """The next input frame; read only by agreement."""
        frame = self._frames[self.sent % SOURCE_BUFFERS]
        self.sent += 1
        return frame

    def frames_for(self, seconds: float, at_least: int) -> Iterator[Array]:
        """Input frames until `seconds` have passed and `at_least` frames were given."""
        end, last = time.perf_counter() + seconds, self.sent + at_least
        while self.sent < last or time.perf_counter() < end:
            yield self.next_frame()

    def check(self, out: Any) -> None:
        """Raise WrongOutputError unless `out` looks like the output for the next frame that is due."""
        number, size = self.received, self._size
        self.received += 1
        if not isinstance(out, np.ndarray) or out.shape != (size,) or out.dtype != np.uint8:
            raise WrongOutputError(f"output {number} is {_described(out)}, expected a uint8 array of {size} bytes")
        buffer = 83 * (number % SOURCE_BUFFERS) + self._increment
        for at in (0, size - 1, number * 8191 % size):
            expected = (7 * at + buffer) & 0xFF
            if out.item(at) != expected:
                raise WrongOutputError(f"output {number} has {out.item(at)} at byte {at}, expected {expected}")

    def check_whole(self, out: Any) -> None:
        """`check`, and every byte compared."""
        number = self.received
        self.check(out)
        expected = self._frames[number % SOURCE_BUFFERS] + np.uint8(self._increment)
        if not np.array_equal(out, expected):
            at = int(np.flatnonzero(out != expected)[0])
            raise WrongOutputError(f"output {number} has {out.item(at)} at byte {at}, expected {expected.item(at)}")

    def check_count(self) -> None:
        """Raise WrongOutputError unless every frame sent has come back."""
        if self.received != self.sent:
            raise WrongOutputError(f"{self.sent} frames sent, {self.received} came back")


class NumberedSource(FrameSource):
    """Each frame is a copy with its number in the first eight bytes: one frame lost, repeated or overtaken shows,
    where the cheaper check sees a shift only within SOURCE_BUFFERS frames.
    """

    def next_frame(self) -> Array:
        number = self.sent
        frame = super().next_frame().copy()
        frame[:NUMBER_BYTES] = np.frombuffer(number.to_bytes(NUMBER_BYTES, "little"), np.uint8)
        return frame

    def check(self, out: Any) -> None:
        """Raise WrongOutputError unless `out` is the output for the next frame that is due."""
        number, size = self.received, self._size
        self.received += 1
        if not isinstance(out, np.ndarray) or out.shape != (size,) or out.dtype != np.uint8:
            raise WrongOutputError(f"output {number} is {_described(out)}, expected a uint8 array of {size} bytes")
        found = int.from_bytes((out[:NUMBER_BYTES] - np.uint8(self._increment)).tobytes(), "little")
        if found != number:
            raise WrongOutputError(f"output {number} belongs to frame {found}: lost, repeated or out of order")


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return f"a {type(value).__name__}"
