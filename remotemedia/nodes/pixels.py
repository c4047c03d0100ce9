"""Picture arithmetic on numpy arrays: pure functions that write into an array of the caller.

Pictures are uint8, (height, width) or (height, width, channels). Most functions look at a picture as a matrix of
height x (width·channels) bytes, in which a neighbouring pixel lies `channels` columns away: the inner loops of numpy
then run over whole rows, without gaps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.nodes.scratch import Scratch

Picture = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

# ITU-R BT.601 luma in 1/256: 0.299 R + 0.587 G + 0.114 B.
_LUMA_RGB = (77, 150, 29)


def luma(picture: Picture, out: Picture, scratch: Scratch, *, blue_first: bool = False) -> Picture:
    """BT.601 luma of an (h, w, 3) picture, rounded, into `out` (h, w)."""
    total = scratch.get("luma_sum", out.shape, np.uint16)
    part = scratch.get("luma_part", out.shape, np.uint16)
    weights = _LUMA_RGB[::-1] if blue_first else _LUMA_RGB
    total.fill(128)  # half of 256: rounds
    for channel, weight in enumerate(weights):
        np.multiply(picture[..., channel], weight, out=part, dtype=np.uint16)
        np.add(total, part, out=total)
    np.right_shift(total, 8, out=total)
    np.copyto(out, total, casting="unsafe")
    return out


def padded(picture: Picture, scratch: Scratch) -> tuple[Picture, int]:
    """The picture as a matrix with one pixel of border repeated on each side, and its number of channels."""
    height, width = picture.shape[:2]
    channels = picture.shape[2] if picture.ndim == 3 else 1  # noqa: PLR2004 - a picture with channels has 3 axes
    pad = scratch.get("padded", (height + 2, width + 2, channels), np.uint8)
    pad[1:-1, 1:-1] = picture.reshape(height, width, channels)
    pad[0, 1:-1], pad[-1, 1:-1] = pad[1, 1:-1], pad[-2, 1:-1]
    pad[:, 0], pad[:, -1] = pad[:, 1], pad[:, -2]
    return pad.reshape(height + 2, -1), channels


def _left_middle_right(rows: Array, channels: int) -> tuple[Array, Array, Array]:
    return rows[:, : -2 * channels], rows[:, channels:-channels], rows[:, 2 * channels :]


def box3(picture: Picture, out: Picture, scratch: Scratch) -> Picture:
    """Mean of 3x3 pixels, rounded; border pixels count as repeated."""
    pad, channels = padded(picture, scratch)
    rows = scratch.get("box_rows", (pad.shape[0] - 2, pad.shape[1]), np.uint16)
    np.add(pad[:-2], pad[1:-1], out=rows, dtype=np.uint16)
    np.add(rows, pad[2:], out=rows)
    left, middle, right = _left_middle_right(rows, channels)
    total = scratch.get("box_total", left.shape, np.uint16)
    np.add(left, middle, out=total)
    np.add(total, right, out=total)
    np.add(total, 4, out=total)
    np.floor_divide(total, 9, out=total)
    np.copyto(out.reshape(total.shape), total, casting="unsafe")
    return out


def median3(picture: Picture, out: Picture, scratch: Scratch) -> Picture:
    """Median of 3x3 pixels; border pixels count as repeated.

    Each column of three is sorted once and serves its three neighbours; the median of the nine is then the median of
    (the greatest of the lows, the median of the middles, the least of the highs). 18 min/max passes over the picture.
    """
    pad, channels = padded(picture, scratch)
    shape = (pad.shape[0] - 2, pad.shape[1])
    low, mid, high, swap = (scratch.get(f"median_{i}", shape, np.uint8) for i in range(4))
    _sort3((pad[:-2], pad[1:-1], pad[2:]), (low, mid, high), swap)
    lows, mids, highs = (_left_middle_right(a, channels) for a in (low, mid, high))
    a, b, c, d = (scratch.get(f"median_of_{i}", lows[0].shape, np.uint8) for i in range(4))
    np.maximum(np.maximum(lows[0], lows[1], out=a), lows[2], out=a)
    np.minimum(np.minimum(highs[0], highs[1], out=c), highs[2], out=c)
    _median(*mids, b, d)
    result = out.reshape(a.shape)
    _median(a, b, c, result, d)
    return out


def _sort3(values: tuple[Array, Array, Array], ranks: tuple[Array, Array, Array], swap: Array) -> None:
    """Sort three arrays elementwise into `ranks`: low ≤ mid ≤ high."""
    (x, y, z), (low, mid, high) = values, ranks
    np.minimum(x, y, out=low)
    np.maximum(x, y, out=swap)
    np.maximum(swap, z, out=high)
    np.minimum(swap, z, out=swap)  # the middle one or the least
    np.maximum(low, swap, out=mid)
    np.minimum(low, swap, out=low)


def _median(x: Array, y: Array, z: Array, out: Array, swap: Array) -> None:
    """Median of three arrays, elementwise; `out` and `swap` must not be inputs."""
    np.minimum(x, y, out=out)
    np.maximum(x, y, out=swap)
    np.minimum(swap, z, out=swap)
    np.maximum(out, swap, out=out)


def sobel(gray: Picture, out: Picture, scratch: Scratch, gain: float = 1.0) -> Picture:
    """Edge strength of an (h, w) picture: gain · (|Gx| + |Gy|) of the Sobel operator, saturated at 255."""
    pad, _ = padded(gray, scratch)
    wide = scratch.get("sobel_wide", pad.shape, np.int16)
    np.copyto(wide, pad)
    gx, gy, part = (scratch.get(f"sobel_{name}", gray.shape, np.int16) for name in ("x", "y", "part"))
    _smoothed_difference(wide, gx, part, along=1)
    _smoothed_difference(wide, gy, part, along=0)
    np.add(np.abs(gx, out=gx), np.abs(gy, out=gy), out=gx)
    if gain != 1.0:
        scaled = scratch.get("sobel_scaled", gray.shape, np.float32)
        np.minimum(np.multiply(gx, np.float32(gain), out=scaled), np.float32(255), out=scaled)
        np.copyto(out, scaled, casting="unsafe")
    else:
        np.copyto(out, np.minimum(gx, 255, out=gx), casting="unsafe")
    return out


def _smoothed_difference(wide: Array, out: Array, part: Array, *, along: int) -> None:
    """Difference over two pixels along one axis, weighted 1 2 1 across it."""
    view = wide if along == 0 else wide.T
    result, work = (out, part) if along == 0 else (out.T, part.T)
    np.subtract(view[2:, 1:-1], view[:-2, 1:-1], out=result)
    np.add(result, result, out=result)
    for across in (slice(0, -2), slice(2, None)):
        np.subtract(view[2:, across], view[:-2, across], out=work)
        np.add(result, work, out=result)


def draw_box(picture: Picture, box: tuple[int, int, int, int], colour: Any, thickness: int) -> None:
    """Draw the frame of `box` (x, y, width, height in pixels) inside its bounds, in place; clipped to the picture."""
    x, y, width, height = box
    area = picture[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    for edge in (area[:thickness], area[-thickness:], area[:, :thickness], area[:, -thickness:]):
        edge[...] = colour


def connected_boxes(active: npt.NDArray[np.bool_], min_cells: int) -> list[tuple[int, int, int, int]]:
    """Bounding boxes (x, y, width, height, in cells) of the 8-connected groups of at least `min_cells` active cells.

    From top to bottom, then left to right. Time grows with the number of active cells.
    """
    ys, xs = np.nonzero(active)
    waiting = dict.fromkeys(zip(ys.tolist(), xs.tolist(), strict=True))  # a dict keeps the scan order
    boxes = []
    while waiting:
        group = [next(iter(waiting))]
        del waiting[group[0]]
        for y, x in group:  # grows while it is walked: breadth first
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in waiting:
                    del waiting[neighbour]
                    group.append(neighbour)
        if len(group) >= min_cells:
            rows, columns = zip(*group, strict=True)
            boxes.append((min(columns), min(rows), max(columns) - min(columns) + 1, max(rows) - min(rows) + 1))
    return boxes
