"""Reusable working memory of a node: allocated on first use, kept between frames, never pickled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Scratch:
    """Arrays by name. A fresh large array costs page faults on every frame; these are touched once.

    The contents are undefined when an array is asked for. Pickles as empty: working memory never travels.
    """

    __slots__ = ("_arrays",)

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The array called `name`, made anew when shape or dtype differ from last time."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array

    def clear(self) -> None:
        """Give the memory back."""
        self._arrays.clear()

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()
