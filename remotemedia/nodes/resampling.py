"""Resizing pictures: an output pixel is a weighted sum of a few input pixels, first along columns, then along rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.nodes.scratch import Scratch

METHODS = ("nearest", "bilinear", "area")


@dataclass(frozen=True, eq=False)
class Taps:
    """For each output position, which input positions contribute and how much. Both (taps, positions)."""

    indices: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float32]

    def spread(self, channels: int) -> Taps:
        """The same for rows in which `channels` values of a pixel lie side by side."""
        lanes = np.arange(channels)
        taps = self.indices.shape[0]
        indices = (self.indices[..., None] * channels + lanes).reshape(taps, -1)
        return Taps(indices, np.repeat(self.weights, channels, axis=1))


@lru_cache(maxsize=64)
def taps(method: str, size_in: int, size_out: int, channels: int = 1) -> Taps:
    """Taps from `size_in` to `size_out` positions; pixel centres lie at (i + 1/2) / size."""
    edges = np.arange(size_out + 1, dtype=np.float64) * size_in / size_out
    centres = (edges[:-1] + edges[1:]) / 2
    if method == "nearest":
        indices, weights = np.floor(centres)[None], np.ones((1, size_out))
    elif method == "bilinear":
        position = np.clip(centres - 0.5, 0, size_in - 1)
        low = np.floor(position)
        indices, weights = np.stack([low, low + 1]), np.stack([1 - (position - low), position - low])
    else:
        indices, weights = _area(edges, size_in / size_out)
    indices = np.clip(indices, 0, size_in - 1).astype(np.intp)
    return Taps(indices, weights.astype(np.float32)).spread(channels)


def _area(edges: npt.NDArray[np.float64], ratio: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Each input pixel weighs as much as the output pixel covers of it."""
    first = np.floor(edges[:-1] + 1e-9)
    cells = first + np.arange(int(np.ceil(ratio)) + 1)[:, None]
    covered = np.minimum(cells + 1, edges[1:]) - np.maximum(cells, edges[:-1])
    weights = np.maximum(covered, 0) / ratio
    used = weights.max(axis=1) > 1e-9  # noqa: PLR2004 - whole ratios need one tap less
    return cells[used], weights[used]


def resize(picture: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8], method: str, scratch: Scratch) -> None:
    """Resize (h, w) or (h, w, channels) uint8 into the size of `out`; rounded to the nearest value."""
    channels = 1 if picture.ndim == 2 else picture.shape[2]  # noqa: PLR2004 - a gray picture has 2 axes
    (height, width), (height_out, width_out) = picture.shape[:2], out.shape[:2]
    flat = picture.reshape(height, width * channels)
    vertical = taps(method, height, height_out)
    horizontal = taps(method, width, width_out, channels)
    target = out.reshape(height_out, width_out * channels)
    if method == "nearest":
        rows = scratch.get("resize_rows", (height_out, flat.shape[1]), np.uint8)
        np.take(flat, vertical.indices[0], axis=0, out=rows, mode="clip")
        np.take(rows, horizontal.indices[0], axis=1, out=target, mode="clip")
        return
    columns = _weighted(flat, vertical, 0, scratch, "resize_columns")
    result = _weighted(columns, horizontal, 1, scratch, "resize_result")
    np.copyto(target, np.add(result, np.float32(0.5), out=result), casting="unsafe")


def _weighted(matrix: npt.NDArray[Any], along: Taps, axis: int, scratch: Scratch, name: str) -> npt.NDArray[np.float32]:
    """Weighted sum of the taps along one axis, as float32."""
    count = along.indices.shape[1]
    shape = (count, matrix.shape[1]) if axis == 0 else (matrix.shape[0], count)
    gathered = scratch.get(f"{name}_gathered", shape, matrix.dtype)
    product = scratch.get(f"{name}_product", shape, np.float32)
    total = scratch.get(name, shape, np.float32)
    for tap, (index, weight) in enumerate(zip(along.indices, along.weights, strict=True)):
        # mode="clip" lets numpy write straight into `out`; the indices are in range anyway.
        np.take(matrix, index, axis=axis, out=gathered, mode="clip")
        factor = weight[:, None] if axis == 0 else weight
        np.multiply(gathered, factor, out=total if tap == 0 else product, dtype=np.float32)
        if tap:
            np.add(total, product, out=total)
    return total
