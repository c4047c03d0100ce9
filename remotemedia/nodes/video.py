"""Video nodes in plain numpy: denoise, find edges, detect motion.

Each works on VideoFrames (or bare uint8 arrays) and keeps pts, time base and metadata. Outputs are made by
`self.empty`, so in a worker the result is computed right into the outgoing shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.frames import VideoFrame
from remotemedia.nodes import pixels
from remotemedia.nodes.typed import VideoNode


class Denoise(VideoNode):
    """Remove noise: over time, or within each picture by the mean or median of 3x3 pixels. `method`:

    "temporal": each pixel follows its own past, taking 1/2**strength of every new frame; a pixel that changes by more
    than `threshold` levels (0..255) has moved and is taken as it is, so that motion leaves no trail.
    "box": mean of 3x3 pixels. "median": median of 3x3 pixels, which keeps edges and removes single wrong pixels.

    Takes and gives uint8 pictures: rgb24 and bgr24 (height, width, 3), gray (height, width). Raises ConfigurationError
    for bad settings, TypeError and ValueError for what is no such picture.

    >>> picture = np.zeros((5, 5), np.uint8)
    >>> picture[2, 2] = 255
    >>> Denoise("median").process(picture).max().item(), Denoise("box").process(picture)[2, 2].item()
    (0, 28)
    """

    METHODS = ("temporal", "box", "median")
    _FRACTION = 7  # the past is kept in 1/128 levels: 255 * 128 just fits an int16

    def __init__(self, method: str = "temporal", *, strength: int = 2, threshold: int = 20, **options: Any) -> None:
        super().__init__(method=method, strength=strength, threshold=threshold, **options)
        self.check(method in self.METHODS, "method", method, f"one of {', '.join(self.METHODS)}")
        self.check(strength in range(1, 6), "strength", strength, "1 to 5")
        self.check(threshold in range(1, 256), "threshold", threshold, "1 to 255 levels")
        self.method, self.strength, self.threshold = method, strength, threshold
        self._past: npt.NDArray[np.int16] | None = None

    def initialize(self) -> None:
        self._past = None

    def transform(self, frame: VideoFrame) -> VideoFrame:
        out = self.empty_like(frame.array)
        if self.method == "temporal":
            self._follow(frame.array, out)
        else:
            kernel = pixels.box3 if self.method == "box" else pixels.median3
            kernel(frame.array, out, self.scratch)
        return replace(frame, array=out)

    def _follow(self, picture: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
        if self._past is None or self._past.shape != picture.shape:
            self._past = np.left_shift(picture, self._FRACTION, dtype=np.int16)
            np.copyto(out, picture)
            return
        past, shape = self._past, picture.shape
        now = self.scratch.get("now", shape, np.int16)
        change = self.scratch.get("change", shape, np.int16)
        size = self.scratch.get("size", shape, np.int16)
        moved = self.scratch.get("moved", shape, np.bool_)
        np.left_shift(picture, self._FRACTION, out=now, dtype=np.int16)
        np.subtract(now, past, out=change)
        np.greater(np.abs(change, out=size), self.threshold << self._FRACTION, out=moved)
        np.add(past, np.right_shift(change, self.strength, out=change), out=past)
        np.copyto(past, now, where=moved)
        # Adding half a level rounds; the largest value, 255 * 128 + 64, still fits.
        np.right_shift(np.add(past, 1 << (self._FRACTION - 1), out=now), self._FRACTION, out=now)
        np.copyto(out, now, casting="unsafe")

    def cleanup(self) -> None:
        super().cleanup()
        self._past = None


class EdgeFilter(VideoNode):
    """Edge strength (Sobel, |Gx| + |Gy|, times `gain`, saturated) as a gray picture of the same size.

    Takes uint8 pictures: rgb24 and bgr24 (height, width, 3), gray (height, width); gives gray. Raises
    ConfigurationError
    for bad settings, TypeError and ValueError for what is no such picture.

    >>> EdgeFilter().process(np.array([[0, 0, 9, 9]] * 3, np.uint8)).tolist()
    [[0, 36, 36, 0], [0, 36, 36, 0], [0, 36, 36, 0]]
    """

    def __init__(self, *, gain: float = 1.0, **options: Any) -> None:
        super().__init__(gain=gain, **options)
        self.check(isinstance(gain, (int, float)) and gain > 0, "gain", gain, "a number greater than 0")
        self.gain = float(gain)

    def transform(self, frame: VideoFrame) -> VideoFrame:
        gray = frame.array
        if frame.pixel_format != "gray":
            gray = self.scratch.get("gray", gray.shape[:2], np.uint8)
            pixels.luma(frame.array, gray, self.scratch, blue_first=frame.pixel_format == "bgr24")
        out = self.empty((frame.height, frame.width))
        pixels.sobel(gray, out, self.scratch, self.gain)
        return replace(frame, array=out, pixel_format="gray")


class MotionDetector(VideoNode):
    """Find what moves against a slowly learnt background, and draw boxes around it.

    The picture is compared on every `cell`/4-th pixel with a running background (which takes `learning_rate` of each
    frame). Cells in which a quarter of these pixels differ by more than `threshold` levels are active; connected groups
    of at least `min_cells` of them become boxes, as `metadata["boxes"]`: a list of (x, y, width, height) in pixels.
    `draw=False` leaves the picture as it is. `colour` is RGB. The first frame is the first background.

    Takes and gives uint8 pictures: rgb24 and bgr24 (height, width, 3), gray (height, width). Raises ConfigurationError
    for bad settings, TypeError and ValueError for what is no such picture.

    >>> background, moved = np.zeros((2, 96, 96, 3), np.uint8)
    >>> moved[32:64, 48:80] = 200
    >>> frames = [VideoFrame(array=array) for array in (background, moved)]
    >>> run_pipeline([MotionDetector()], frames)[1].metadata["boxes"]
    [(48, 32, 32, 32)]
    """

    _GRID = 4  # pixels looked at per cell and axis

    def __init__(
        self,
        *,
        threshold: int = 24,
        learning_rate: float = 0.05,
        cell: int = 16,
        min_cells: int = 2,
        draw: bool = True,
        colour: Sequence[int] = (255, 48, 48),
        thickness: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(
            threshold=threshold, learning_rate=learning_rate, cell=cell, min_cells=min_cells, draw=draw,
            colour=list(colour), thickness=thickness, **options,
        )  # fmt: skip
        self.check(threshold in range(1, 256), "threshold", threshold, "1 to 255 levels")
        self.check(0 < learning_rate <= 1, "learning_rate", learning_rate, "greater than 0, at most 1")
        self.check(cell in range(4, 257, 4), "cell", cell, "pixels, a multiple of 4 from 4 to 256")
        self.check(min_cells >= 1, "min_cells", min_cells, "1 or more")
        self.check(thickness >= 1, "thickness", thickness, "pixels, 1 or more")
        self.check(
            len(colour) == 3 and all(c in range(256) for c in colour),  # noqa: PLR2004 - RGB
            "colour", colour, "three levels 0 to 255: red, green, blue",
        )  # fmt: skip
        self.threshold, self.learning_rate, self.cell = threshold, learning_rate, cell
        self.min_cells, self.draw, self.colour, self.thickness = min_cells, draw, tuple(colour), thickness
        self._background: npt.NDArray[np.float32] | None = None

    def initialize(self) -> None:
        self._background = None

    def transform(self, frame: VideoFrame) -> VideoFrame:
        boxes = self._boxes(frame)
        marked = replace(frame, metadata={**frame.metadata, "boxes": boxes})
        if not self.draw:
            return marked
        out = self.empty_like(frame.array)
        np.copyto(out, frame.array)
        for box in boxes:
            pixels.draw_box(out, box, self._colour_in(frame.pixel_format), self.thickness)
        return replace(marked, array=out)

    def _boxes(self, frame: VideoFrame) -> list[tuple[int, int, int, int]]:
        small = self._small(frame)
        if self._background is None or self._background.shape != small.shape:
            self._background = small.astype(np.float32)
            return []
        change = self.scratch.get("change", small.shape, np.float32)
        np.subtract(small, self._background, out=change)
        differs = np.abs(change) > self.threshold
        self._background += np.multiply(change, np.float32(self.learning_rate), out=change)
        found = pixels.connected_boxes(self._active(differs), self.min_cells)
        size, width, height = self.cell, frame.width, frame.height
        return [
            (x * size, y * size, min(w * size, width - x * size), min(h * size, height - y * size))
            for x, y, w, h in found
        ]

    def _small(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """Every cell/4-th pixel, as luma."""
        step = self.cell // self._GRID
        sampled = frame.array[::step, ::step]
        if frame.pixel_format == "gray":
            return sampled
        small = self.scratch.get("small", sampled.shape[:2], np.uint8)
        return pixels.luma(sampled, small, self.scratch, blue_first=frame.pixel_format == "bgr24")

    def _active(self, differs: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Per cell (cells cut off at the right and lower border included): do a quarter of its samples differ?"""
        counts = differs.view(np.uint8)
        for axis in (0, 1):
            counts = np.add.reduceat(counts, np.arange(0, counts.shape[axis], self._GRID), axis=axis, dtype=np.uint8)
        return counts >= self._GRID * self._GRID // 4

    def _colour_in(self, pixel_format: str) -> Any:
        red, green, blue = self.colour
        if pixel_format == "gray":
            return (77 * red + 150 * green + 29 * blue + 128) >> 8
        return self.colour if pixel_format == "rgb24" else (blue, green, red)

    def cleanup(self) -> None:
        super().cleanup()
        self._background = None
