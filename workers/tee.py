"""One sender over two: for a stage of the coordinator whose consumers are partly in workers and partly beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.ipc.channel import Sender, Stamp


class Tee:
    """Sends every frame into both channels; has credit when both have (see remotemedia.ipc.channel.Sender)."""

    def __init__(self, shared: Sender, local: Sender) -> None:
        self._shared, self._local = shared, local

    @property
    def copies(self) -> int:
        return self._shared.copies

    @property
    def bytes_copied(self) -> int:
        return self._shared.bytes_copied

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        # What the local side receives is the array itself, so the shared side has to copy it in any case.
        return np.empty(shape, dtype)

    def pack(self, value: Any) -> _TeeParcel:
        return _TeeParcel(self._local.pack(value), self._shared.pack(value))

    def has_credit(self, nbytes: int) -> bool:
        return self._shared.has_credit(nbytes) and self._local.has_credit(nbytes)

    def send(self, parcel: _TeeParcel, stamp: Stamp) -> None:
        self._local.send(parcel.local, stamp)
        self._shared.send(parcel.shared, stamp)

    def unreleased(self) -> int:
        return max(self._shared.unreleased(), self._local.unreleased())

    @property
    def sequence(self) -> int:
        return self._shared.sequence

    def acknowledged(self) -> int:
        return self._shared.acknowledged()

    def attend(self) -> bool:
        return self._shared.attend()

    def demand(self, *, back: bool = True) -> None:
        self._shared.demand(back=back)

    @property
    def lends(self) -> bool:
        return self._shared.lends

    def recall(self) -> bool:
        return self._shared.recall()

    def close(self) -> None:
        self._shared.close()
        self._local.close()


class _TeeParcel:
    __slots__ = ("local", "shared")

    def __init__(self, local: Any, shared: Any) -> None:
        self.local, self.shared = local, shared

    @property
    def nbytes(self) -> int:
        return int(self.shared.nbytes)
