"""The channel inside one process: passes references. Same promises as the shared-memory channel, and its reference in
the conformance tests.

Used between stages that stay in the coordinator. Belongs to one thread, but frames may be dropped in any.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.config import ChannelConfig
from remotemedia.core.exceptions import FrameTooLarge
from remotemedia.ipc.channel import Frame, Stamp
from remotemedia.ipc.doorbell import CREDIT, DATA, Doorbell
from remotemedia.ipc.lane import Position


class LocalParcel:
    """A value with its size."""

    __slots__ = ("nbytes", "value")

    def __init__(self, value: Any, nbytes: int) -> None:
        self.value, self.nbytes = value, nbytes


class LocalLease:
    """Shared by the frames that all receivers got for one sent value; gives the credit back when the last one dies."""

    __slots__ = ("sender", "sequence")

    def __init__(self, sender: LocalSender, sequence: int) -> None:
        self.sender, self.sequence = sender, sequence

    def __del__(self) -> None:
        self.sender._in_flight.pop(self.sequence, None)
        self.sender._bell.ring_for(CREDIT)


class LocalSender:
    """The sending end (see remotemedia.ipc.channel.Sender)."""

    def __init__(self, name: str, receivers: int, config: ChannelConfig, bell: Doorbell) -> None:
        """`bell`: the doorbell of the process, which is the sender's and the receivers'."""
        self.name = name
        self.copies = 0
        self.bytes_copied = 0
        self._config = config
        self._bell = bell
        self.sequence = 0
        self._in_flight: dict[int, int] = {}  # sequence → bytes
        self.receivers = tuple(LocalReceiver() for _ in range(receivers))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        return np.empty(shape, dtype)

    def pack(self, value: Any) -> LocalParcel:
        array = getattr(value, "array", value)
        nbytes = array.nbytes if isinstance(array, np.ndarray) else len(value) if isinstance(value, bytes) else 0
        if nbytes > self._config.max_frame_bytes:
            raise FrameTooLarge(self.name, nbytes, self._config.max_frame_bytes)
        return LocalParcel(value, nbytes)

    def has_credit(self, nbytes: int) -> bool:
        sizes = list(self._in_flight.values())
        if len(sizes) >= self._config.queue_frames:
            return False
        return len(sizes) < 2 or sum(sizes) + nbytes <= self._config.window_bytes  # noqa: PLR2004 - two always pass

    def send(self, parcel: LocalParcel, stamp: Stamp) -> None:
        self.sequence += 1
        self._in_flight[self.sequence] = parcel.nbytes
        lease = LocalLease(self, self.sequence)
        for receiver in self.receivers:
            receiver._queue.append(
                Frame(
                    parcel.value,
                    stamp.number,
                    stamp.index,
                    stamp.session,
                    stamp.flags,
                    parcel.nbytes,
                    lease,
                    self.sequence,
                )
            )
        self._bell.ring_for(DATA)

    def unreleased(self) -> int:
        return len(self._in_flight)

    def acknowledged(self) -> int:
        """Everything: what is sent here stays in a process that is not replaced."""
        return self.sequence

    def attend(self) -> bool:
        return True

    def demand(self, *, back: bool = True) -> None:
        """Nobody here sleeps on credit."""

    @property
    def lends(self) -> bool:
        return False

    def recall(self) -> bool:
        return False

    def close(self) -> None:
        for receiver in self.receivers:
            receiver.close()


class LocalReceiver:
    """One receiving end (see remotemedia.ipc.channel.Receiver); made by its sender."""

    def __init__(self) -> None:
        self.copies = 0
        self.bytes_copied = 0
        self.forgets_complete = False
        self.completed = 0
        self.newest = 0
        self._queue: deque[Frame] = deque()

    def receive(self) -> Frame | None:
        if not self._queue:
            return None
        frame = self._queue.popleft()
        self.newest = frame.sequence
        return frame

    def acknowledge(self, sequence: int, key: tuple[int, int], position: Position | None = None) -> None:
        """Nothing to do: see LocalSender.acknowledged."""

    @property
    def is_in_demand(self) -> bool:
        return False

    @property
    def has_repetitions(self) -> bool:
        return False

    def close(self) -> None:
        self._queue.clear()
