"""The written contract of a channel: what every implementation promises, and what the conformance tests check.

A channel has one sender and one or more receivers; each receiver gets every frame, in the order of sending. It is

* bounded: at most `queue_frames` frames (and `window_bytes` bytes, but always one large frame more than there are
receivers) are in flight, that is sent and not
  yet released by every receiver;
* lossless: a frame is either refused before it is sent or reaches every receiver;
* zero-copy where the memory is shared: `pack` takes a frame that already lies in a slot as it is, `receive` gives
views, and a view that is sent on is sent as a reference to where its data lie (remotemedia.ipc.references).

Life of a frame: loan (`empty`) → write → `pack` → `send` on one side; `receive` → borrow → release on the other. A
received frame is released when the `Frame` and every object made from its value is gone, whatever thread drops the last
of them.

A channel that retains (`ChannelSpec.retain`) survives the death of either process. Its sender keeps every frame until
each receiver has acknowledged it, and sends the unacknowledged ones again to a receiver's next generation; the next
generation of a sender makes its frames again, and receivers drop what they have had. Acknowledging is not releasing: a
receiver may still look at a frame whose loss would not matter any more, and must not acknowledge one, released or not,
before what it made from it is safe. Whoever cannot be lost (the coordinator) acknowledges as it receives.

Nothing here blocks: `send` needs credit (`has_credit`), `receive` gives None when there is nothing. Who has to wait
parks on its doorbell (remotemedia.ipc.doorbell), which the other side rings.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from remotemedia.ipc.lane import Position

LAST = 1
"""Flag: the sender's last frame for this number."""
END = 2
"""Flag, always with LAST on a bare mark: the stream of this session ends with this number."""
START = 4
"""Flag, on a bare mark to a source stage: run your own source now."""
FAILED = 8
"""Flag: there will be no (further) output for this number, because of an error. The value is the encoded control
message that tells of it (remotemedia.ipc.messages.Failed), as bytes; every stage passes it on as it is.
"""
OPEN = 16
"""Flag, on a frame that carries no data for nodes: a session begins; the value is its name as UTF-8 bytes. Passed on.
"""


class Stamp:
    """Where a frame comes from: session, number of the source frame, index among the sender's frames for that number.
    """

    __slots__ = ("flags", "index", "number", "session")

    def __init__(self, number: int, index: int = 0, flags: int = LAST, session: int = 0) -> None:
        self.number, self.index, self.flags, self.session = number, index, flags, session

    def __repr__(self) -> str:
        return f"Stamp(number={self.number}, index={self.index}, flags={self.flags}, session={self.session})"


class Mark:
    """The value of a frame that carries no data, only its stamp."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MARK"

    def __reduce__(self) -> str:
        return "MARK"


MARK = Mark()


class Frame(msgspec.Struct):
    """A received frame. Holds its slot (`lease`) until it is dropped together with everything derived from `value`.

    A Struct, because one is made for every frame, and that is the quickest way.
    """

    value: Any
    """The data; MARK for a bare mark."""
    number: int
    index: int
    session: int
    flags: int
    nbytes: int
    """Size of the payload in bytes."""
    lease: Any
    sequence: int
    """The channel's own number of it."""
    lane: int = 0
    """Which input of the stage it came from."""
    sent_as: tuple[int, int] | None = None
    """Its (number, flags) on the channel, where a stage with several inputs sees others."""


class Sender(Protocol):
    """The sending end of a channel."""

    @property
    def copies(self) -> int:
        """Payloads that had to be copied on the way in."""
        ...

    @property
    def bytes_copied(self) -> int: ...

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """A writable array in a free slot if there is one, else ordinary memory."""
        ...

    def pack(self, value: Any) -> Any:
        """Make `value` ready to be sent, copying it into a slot unless it lies in one and nobody else holds it.

        Needs no credit. Raises FrameTooLarge, SharedMemoryExhausted, SerializationError.
        """
        ...

    def has_credit(self, nbytes: int) -> bool:
        """Whether a frame of `nbytes` may be sent now."""
        ...

    def send(self, parcel: Any, stamp: Stamp) -> None:
        """Send it to every receiver. Requires credit. Raises ChannelBroken when a receiver is gone."""
        ...

    def unreleased(self) -> int:
        """How many sent frames are not yet released by every receiver."""
        ...

    @property
    def sequence(self) -> int:
        """The number of the frame that was sent last."""
        ...

    def acknowledged(self) -> int:
        """Up to which number every receiver has finished with what was sent."""
        ...

    def attend(self) -> bool:
        """Send again what a receiver's next generation needs; False while there is no room for all of it yet."""
        ...

    def demand(self, *, back: bool = True) -> None:
        """The sender is going to sleep for want of credit: wake receivers that have some to give back. `back`: also
        others who have its frames by reference; not for acknowledgements that somebody else wants.
        """
        ...

    @property
    def lends(self) -> bool:
        """Whether received frames may be kept because they were passed on by reference."""
        ...

    def recall(self) -> bool:
        """Let go of those that have been taken by all receivers; whether others are left, and their senders want them
        back.
        """
        ...

    def close(self) -> None: ...


class Receiver(Protocol):
    """One receiving end of a channel."""

    @property
    def copies(self) -> int:
        """Payloads that had to be copied on the way out."""
        ...

    @property
    def bytes_copied(self) -> int: ...

    def receive(self) -> Frame | None:
        """The next frame, or None if there is none now."""
        ...

    def acknowledge(self, sequence: int, key: tuple[int, int], position: Position | None = None) -> None:
        """All frames up to this one are finished with for good: the sender may forget them. `key`: its number and index
        as they were received. `position`: where a next generation of this receiver has to go on; None for one that has
        none.
        """
        ...

    @property
    def newest(self) -> int:
        """The number of the frame that was received last."""
        ...

    @property
    def forgets_complete(self) -> bool:
        """Whether the sender forgets by itself what was made of inputs that are out of the pipeline."""
        ...

    @property
    def completed(self) -> int:
        """Frames for inputs with a lower number are out of the pipeline, as far as the sender goes by that."""
        ...

    @property
    def is_in_demand(self) -> bool:
        """Whether the sender sleeps for want of credit or acknowledgement."""
        ...

    @property
    def has_repetitions(self) -> bool:
        """Whether frames are in the queue that were sent again for another receiver, who may wait for their end."""
        ...

    def close(self) -> None: ...
