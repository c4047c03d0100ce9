"""How pictures lie in arrays: FFmpeg's names of pixel formats, the shape of the array of each, and views of its planes.

One plane: (height, width) for one value per pixel, else (height, width, values). Several planes lie one after the other
without gaps, as in a rawvideo file, in an array whose rows have `width` values: yuv420p is (height * 3/2, width).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.exceptions import ConfigurationError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Plane:
    """One plane: `values` per pixel; a pixel of it covers `down` x `across` pixels of the picture."""

    values: int = 1
    down: int = 1
    across: int = 1

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Of the plane's array, for a picture of `width` x `height`."""
        rows, columns = height // self.down, width // self.across
        return (rows, columns) if self.values == 1 else (rows, columns, self.values)


@dataclass(frozen=True)
class PixelFormat:
    """A pixel format by FFmpeg's `name`: its `planes` and the `dtype` of its values. `kind`: "gray", "rgb" or "yuv"."""

    name: str
    kind: str
    planes: tuple[Plane, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))

    def multiples(self) -> tuple[int, int]:
        """What width and height must be multiples of."""
        packed_pairs = self.name in _PAIRS
        return max(2 if packed_pairs else 1, *(p.across for p in self.planes)), max(p.down for p in self.planes)

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Of the array of a picture. Raises ValueError if the format cannot have this size."""
        across, down = self.multiples()
        if width < 1 or height < 1 or width % across or height % down:
            needs = f"a width that is a multiple of {across} and a height that is a multiple of {down}"
            raise ValueError(f"a {self.name} picture of {width}x{height} is impossible: it needs {needs}")
        if len(self.planes) == 1:
            return self.planes[0].shape(width, height)
        return sum(prod(p.shape(width, height)) for p in self.planes) // width, width

    def size(self, array: Array) -> tuple[int, int]:
        """(width, height) of the picture in `array`. Raises ValueError for a wrong shape or dtype."""
        if array.ndim >= 2 and 0 not in array.shape and array.dtype == self.dtype:  # noqa: PLR2004 - a picture has 2
            width, height = int(array.shape[1]), self.height(int(array.shape[0]))
            across, down = self.multiples()
            if width % across == 0 and height % down == 0 and self.shape(width, height) == array.shape:
                return width, height
        raise ValueError(
            f"a {self.name} picture must be a {self.dtype} array of shape {self.shape_text()}, "
            f"not {array.dtype} {array.shape}"
        )

    def height(self, rows: int) -> int:
        """Of a picture whose array has so many rows."""
        if len(self.planes) == 1:
            return rows
        # Values per pixel in 1/16: yuv420p has 1 + 1/4 + 1/4.
        sixteenths = sum(16 * p.values // (p.down * p.across) for p in self.planes)
        return rows * 16 // sixteenths

    def shape_text(self) -> str:
        """The shape as documents write it."""
        if len(self.planes) == 1:
            values = self.planes[0].values
            return "(height, width)" if values == 1 else f"(height, width, {values})"
        sixteenths = sum(16 * p.values // (p.down * p.across) for p in self.planes)
        return f"(height * {sixteenths // 8}/2, width)" if sixteenths % 16 else f"(height * {sixteenths // 16}, width)"

    def views(self, array: Array) -> tuple[Array, ...]:
        """The planes of a C-contiguous `array` as views of it, without copies. Raises ValueError for a wrong shape."""
        width, height = self.size(array)
        if len(self.planes) == 1:
            return (array,)
        flat, start, found = array.reshape(-1), 0, []
        for plane in self.planes:
            shape = plane.shape(width, height)
            found.append(flat[start : start + prod(shape)].reshape(shape))
            start += prod(shape)
        return tuple(found)


_PAIRS = ("yuyv422", "uyvy422")  # two pixels share their colours: an even width
_CHROMA = {"420": Plane(1, 2, 2), "422": Plane(1, 1, 2), "444": Plane(1, 1, 1)}
_WORDS = np.dtype("<u2")


def _formats() -> dict[str, PixelFormat]:
    def packed(kind: str, values: int, *names: str, dtype: np.dtype[Any] = np.dtype(np.uint8)) -> list[PixelFormat]:  # noqa: B008
        return [PixelFormat(name, kind, (Plane(values),), dtype) for name in names]

    found = [
        *packed("gray", 1, "gray"),
        *packed("gray", 1, "gray16le", dtype=_WORDS),
        *packed("rgb", 3, "rgb24", "bgr24"),
        *packed("rgb", 4, "rgba", "bgra", "argb", "abgr"),
        *packed("rgb", 3, "rgb48le", dtype=_WORDS),
        *packed("rgb", 4, "rgba64le", dtype=_WORDS),
        *packed("yuv", 2, *_PAIRS),
    ]
    for name, chroma in _CHROMA.items():
        planes = (Plane(), chroma, chroma)
        found += [PixelFormat(f"yuv{name}p", "yuv", planes), PixelFormat(f"yuvj{name}p", "yuv", planes)]
        found.append(PixelFormat(f"yuv{name}p10le", "yuv", planes, _WORDS))
    pairs = (Plane(), Plane(2, 2, 2))
    found += [PixelFormat("nv12", "yuv", pairs), PixelFormat("nv21", "yuv", pairs)]
    found += [PixelFormat("p010le", "yuv", pairs, _WORDS), PixelFormat("gbrp", "rgb", (Plane(), Plane(), Plane()))]
    return {f.name: f for f in found}


PIXEL_FORMATS = _formats()
"""The formats that typed pictures can have, by FFmpeg's name."""


def pixel_format(name: str) -> PixelFormat:
    """The format called `name`. Raises ConfigurationError with the closest names, or all of them."""
    found = PIXEL_FORMATS.get(name) if isinstance(name, str) else None
    if found is None:
        near = difflib.get_close_matches(str(name), PIXEL_FORMATS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(PIXEL_FORMATS)}"
        raise ConfigurationError(f"pixel_format={name!r} is unknown; {hint}")
    return found
