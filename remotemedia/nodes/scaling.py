"""Size and pixel format of pictures: plain RGB and gray in numpy, everything else by FFmpeg's swscale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.frames import VideoFrame
from remotemedia.core.pixel_formats import PIXEL_FORMATS, PixelFormat
from remotemedia.core.pixel_formats import pixel_format as known_format
from remotemedia.nodes import pixels, resampling
from remotemedia.nodes.conversion import Converter, colour_space
from remotemedia.nodes.fitting import FITS, Area, Fitted, fitted
from remotemedia.nodes.typed import VideoNode

_PLAIN = ("rgb24", "bgr24", "gray")
_SWSCALE = {"area": "AREA", "bilinear": "BILINEAR", "nearest": "POINT", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}


class _AnyFormatNode(VideoNode):
    """Takes pictures in any known format: plain ones are computed by numpy, the others by FFmpeg's swscale."""

    pixel_formats = tuple(PIXEL_FORMATS)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._converter: Converter | None = None

    @property
    def converter(self) -> Converter:
        """Raises ConfigurationError without PyAV."""
        if self._converter is None:
            self._converter = Converter()
        return self._converter

    def cleanup(self) -> None:
        super().cleanup()
        self._converter = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_converter": None}


class Resize(_AnyFormatNode):
    """Resize to `width` x `height` pixels; give one of the two as None to keep the proportions.

    `method`: "area" (the mean of what a pixel covers: for shrinking), "bilinear" (for enlarging), "nearest"; with the
    extra [media] also "bicubic" and "lanczos". `fit`, where the proportions differ: "stretch"; "contain": the whole
    picture with bars of colour `fill` (RGB) beside it; "cover": no bars, what is too much is cut off evenly.

    Takes and gives pictures of any format of `remotemedia.core.pixel_formats` (rgb24: uint8 (height, width, 3)); those
    other than rgb24, bgr24 and gray need the extra [media]. pts, time base and metadata are kept.

    Raises ConfigurationError for bad settings; TypeError for what is no picture; ValueError for an array that does not
    fit its pixel format, and a size that the format cannot have.

    >>> picture = np.full((48, 64, 3), 200, np.uint8)
    >>> Resize(32, 32).process(picture).shape
    (32, 32, 3)
    >>> boxed = Resize(32, 32, fit="contain").process(picture)
    >>> boxed[::4, 0, 0].tolist()
    [0, 200, 200, 200, 200, 200, 200, 0]
    """

    def __init__(
        self,
        width: int | None = None,
        height: int | None = None,
        *,
        method: str = "area",
        fit: str = "stretch",
        fill: Sequence[int] = (0, 0, 0),
        **options: Any,
    ) -> None:
        super().__init__(width=width, height=height, method=method, fit=fit, fill=list(fill), **options)
        for setting, value in (("width", width), ("height", height)):
            self.check(value is None or (isinstance(value, int) and value > 0), setting, value, "pixels, 1 or more")
        self.check(width is not None or height is not None, "width", width, "a width, a height or both")
        self.check(method in _SWSCALE, "method", method, f"one of {', '.join(_SWSCALE)}")
        self.check(fit in FITS, "fit", fit, f"one of {', '.join(FITS)}")
        self.check(fit == "stretch" or None not in (width, height), "fit", fit, "a width and a height with it")
        self.check(
            len(fill) == 3 and all(level in range(256) for level in fill),  # noqa: PLR2004 - RGB
            "fill", fill, "three levels 0 to 255: red, green, blue",
        )  # fmt: skip
        self.width, self.height, self.method, self.fit, self.fill = width, height, method, fit, tuple(fill)

    def transform(self, frame: VideoFrame) -> VideoFrame:
        height = self.height or max(1, round(frame.height * (self.width or 0) / frame.width))
        width = self.width or max(1, round(frame.width * height / frame.height))
        known = known_format(frame.pixel_format)
        out = self.empty(known.shape(width, height), known.dtype)
        if self.fit == "stretch":
            self._resize(frame, out)
        else:
            self._fit(frame, out, known, fitted(self.fit, (frame.width, frame.height), (width, height), known))
        metadata = frame.metadata
        if known.kind == "yuv":  # by convention the colour space follows from the height, which has changed
            metadata = {**metadata, "colour_space": colour_space(metadata, frame.height)}
        return replace(frame, array=out, metadata=metadata)

    def _resize(self, frame: VideoFrame, out: npt.NDArray[Any]) -> None:
        """All of the picture into all of `out`."""
        if frame.pixel_format in _PLAIN and self.method in resampling.METHODS:
            resampling.resize(np.ascontiguousarray(frame.array), out, self.method, self.scratch)
            return
        width, height = known_format(frame.pixel_format).size(out)
        self.converter.array(frame, lambda *_: out, width=width, height=height, interpolation=_SWSCALE[self.method])

    def _fit(self, frame: VideoFrame, out: npt.NDArray[Any], known: PixelFormat, fit: Fitted) -> None:
        source = frame if fit.source.whole else replace(frame, array=_cut(frame, known, fit.source))
        if fit.target.whole:
            self._resize(source, out)
            return
        part = self.scratch.get("fitted", known.shape(fit.target.width, fit.target.height), known.dtype)
        self._resize(source, part)
        colour = self._colour(frame, known)
        planes = zip(known.planes, known.views(out), known.views(part), colour, strict=True)
        for plane, target, inner, patch in planes:
            for column in range(known.multiples()[0] // plane.across):  # of the pixels that share their colours
                target[:, column :: known.multiples()[0] // plane.across] = patch[0, column]
            top, left = fit.target.y // plane.down, fit.target.x // plane.across
            target[top : top + inner.shape[0], left : left + inner.shape[1]] = inner

    def _colour(self, frame: VideoFrame, known: PixelFormat) -> list[Any]:
        """The colour of the bars, as a patch of each plane."""
        patch = VideoFrame(array=np.full((4, 4, 3), self.fill, np.uint8), metadata={
            "colour_space": colour_space(frame.metadata, frame.height)
        })  # fmt: skip
        if known.name in _PLAIN:
            array = ConvertPixelFormat(known.name).transform(patch).array
        else:
            array = self.converter.array(patch, np.empty, to=known.name)
        return list(known.views(array))


def _cut(frame: VideoFrame, known: PixelFormat, area: Area) -> npt.NDArray[Any]:
    """A part of the picture as an array of its own."""
    array = np.empty(known.shape(area.width, area.height), known.dtype)
    for plane, source, target in zip(known.planes, frame.planes, known.views(array), strict=True):
        top, left = area.y // plane.down, area.x // plane.across
        np.copyto(target, source[top : top + target.shape[0], left : left + target.shape[1]])
    return array


class ConvertPixelFormat(_AnyFormatNode):
    """Convert to `pixel_format`, by FFmpeg's name. A frame that has it passes as it is.

    Between "rgb24", "bgr24" and "gray" (BT.601 luma) by numpy; all other formats of `remotemedia.core.pixel_formats`
    by FFmpeg's swscale, with the extra [media]. Between RGB and YUV by BT.709 from 720 lines on, else BT.601, unless
    metadata["colour_space"] ("bt709", "bt601") says otherwise. `VideoFrame.planes` gives the planes without copies.

    Raises ConfigurationError for an unknown format and without PyAV; TypeError for what is no picture; ValueError for
    an array that does not fit its pixel format, and a size that the format cannot have.

    >>> frame = VideoFrame(array=np.full((4, 4, 3), 255, np.uint8), pts=7)
    >>> converted = ConvertPixelFormat("yuv420p").process(frame)
    >>> converted.array.shape, converted.pixel_format, converted.pts
    ((6, 4), 'yuv420p', 7)
    >>> [plane[0, 0].item() for plane in converted.planes]
    [235, 128, 128]
    """

    def __init__(self, pixel_format: str = "rgb24", **options: Any) -> None:
        super().__init__(pixel_format=pixel_format, **options)
        known_format(pixel_format)
        self.pixel_format = pixel_format

    def transform(self, frame: VideoFrame) -> VideoFrame:
        if frame.pixel_format == self.pixel_format:
            return frame
        if frame.pixel_format not in _PLAIN or self.pixel_format not in _PLAIN:
            space = colour_space(frame.metadata, frame.height)
            array = self.converter.array(frame, self.empty, to=self.pixel_format)
            yuv = known_format(self.pixel_format).kind == "yuv"
            metadata = {**frame.metadata, "colour_space": space} if yuv else frame.metadata
            return replace(frame, array=array, pixel_format=self.pixel_format, metadata=metadata)
        if self.pixel_format == "gray":
            out = self.empty((frame.height, frame.width))
            pixels.luma(frame.array, out, self.scratch, blue_first=frame.pixel_format == "bgr24")
        else:
            out = self.empty((frame.height, frame.width, 3))
            source = frame.array[..., None] if frame.pixel_format == "gray" else frame.array[..., ::-1]
            np.copyto(out, source)
        return replace(frame, array=out, pixel_format=self.pixel_format)
