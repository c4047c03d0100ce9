"""How a picture of one size fits into another: pure arithmetic, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

from remotemedia.core.pixel_formats import PixelFormat

FITS = ("stretch", "contain", "cover")


@dataclass(frozen=True)
class Area:
    """A part of a picture: its upper left corner and its size. `whole`: it is all of the picture."""

    x: int
    y: int
    width: int
    height: int
    whole: bool


@dataclass(frozen=True)
class Fitted:
    """The area of the source that is shown, and where it comes to lie in the target."""

    source: Area
    target: Area


def fitted(fit: str, source: tuple[int, int], target: tuple[int, int], known: PixelFormat) -> Fitted:
    """Where a picture of size `source` (width, height) goes in one of size `target`.

    "contain": all of the source, as large as it fits, in the middle of the target. "cover": all of the target, and as
    much of the middle of the source as has its proportions. Borders lie where the pixel format can have them.
    """
    whole_source = Area(0, 0, *source, whole=True)
    whole_target = Area(0, 0, *target, whole=True)
    if fit == "contain":
        return Fitted(whole_source, _middle(source, target, known))
    if fit == "cover":
        return Fitted(_middle(target, source, known), whole_target)
    return Fitted(whole_source, whole_target)


def _middle(inner: tuple[int, int], outer: tuple[int, int], known: PixelFormat) -> Area:
    """The largest area in the middle of `outer` that has the proportions of `inner`."""
    across, down = known.multiples()
    width, height = outer
    if inner[0] * outer[1] > outer[0] * inner[1]:
        height = _rounded(outer[0] * inner[1] / inner[0], outer[1], down)
    else:
        width = _rounded(outer[1] * inner[0] / inner[1], outer[0], across)
    x, y = (outer[0] - width) // 2 // across * across, (outer[1] - height) // 2 // down * down
    return Area(x, y, width, height, whole=(width, height) == outer)


def _rounded(size: float, most: int, step: int) -> int:
    """The multiple of `step` nearest to `size`: at least one, at most `most`."""
    return min(max(round(size / step), 1) * step, most)
