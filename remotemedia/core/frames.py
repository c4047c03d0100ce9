"""Typed frames: an array with what a media pipeline must know about it. Thin and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.pixel_formats import PIXEL_FORMATS, pixel_format

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaFrame:
    """`array` with a time stamp: `pts` (presentation time in units of `time_base` seconds) and free `metadata`."""

    array: Array
    pts: int | None = None
    time_base: Fraction = Fraction(1, 1000)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def time_s(self) -> float | None:
        """Presentation time in seconds."""
        return None if self.pts is None else float(self.pts * self.time_base)

    def with_array(self, array: Array) -> MediaFrame:
        """The same frame with other samples or pixels."""
        return replace(self, array=array)


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioFrame(MediaFrame):
    """Sound. `array`: float32 in -1..1 (or int16), shape (samples, channels)."""

    sample_rate: int = 48_000

    @property
    def channels(self) -> int:
        return int(self.array.shape[1]) if self.array.ndim > 1 else 1

    @property
    def duration_s(self) -> float:
        return float(self.array.shape[0] / self.sample_rate)


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame(MediaFrame):
    """A picture. `array`: uint8, shape (height, width, 3) for `pixel_format` "rgb24" or "bgr24", (height, width) for
    "gray"; other formats of FFmpeg as `remotemedia.core.pixel_formats` describes them (planes one after the other)."""

    pixel_format: str = "rgb24"

    @property
    def height(self) -> int:
        """In pixels."""
        known = PIXEL_FORMATS.get(self.pixel_format)
        rows = int(self.array.shape[0])
        return rows if known is None else known.height(rows)

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.array.shape[1])

    @property
    def planes(self) -> tuple[Array, ...]:
        """Views of the planes, without copies: for "yuv420p" Y (height, width), U and V (height/2, width/2).

        Raises ConfigurationError for an unknown pixel format, ValueError if the array does not fit it.
        """
        return pixel_format(self.pixel_format).views(self.array)


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorFrame(MediaFrame):
    """Any array, with the names of its dimensions ("batch", "channel", "time")."""

    dims: tuple[str, ...] = ()

    @classmethod
    def of(cls, array: Array, *dims: str) -> TensorFrame:
        return cls(array=np.asarray(array), dims=dims)
