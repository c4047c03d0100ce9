"""Pictures between numpy and FFmpeg: planes as views, and conversion of size and pixel format by FFmpeg's swscale."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from remotemedia.core.frames import Array, VideoFrame
from remotemedia.core.pixel_formats import PixelFormat, pixel_format
from remotemedia.nodes.pyav import import_av

_HD_HEIGHT = 720  # from this height on, untagged video means BT.709 by convention, below BT.601
COLOUR_SPACES = {"bt601": "ITU601", "bt709": "ITU709"}  # ours → swscale's
# What PyAV can take over as a frame without a copy; a frame of any other format is filled plane by plane.
_WRAPPED = frozenset(
    {"gray", "gray16le", "rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "rgb48le", "yuv420p", "yuvj420p", "nv12"}
)


def colour_space(metadata: Mapping[str, Any], height: int) -> str:
    """ "bt709" or "bt601": as the frame's metadata["colour_space"] says, else by convention from the height."""
    named = metadata.get("colour_space")
    return str(named) if named in COLOUR_SPACES else "bt709" if height >= _HD_HEIGHT else "bt601"


def plane_views(picture: Any) -> tuple[Array, ...]:
    """The planes of a PyAV video frame as numpy views of its memory: no copy, and no padding at the line ends.

    FFmpeg pads each line to whole vectors (`line_size` bytes), so a view's rows are strided: use it as it is, or copy
    it; do not reshape it. The views live as long as they are held. Shapes and dtypes are those of
    `remotemedia.core.pixel_formats`. Raises ConfigurationError for a format that is not there.
    """
    known = pixel_format(picture.format.name)
    views = []
    for plane, layout in zip(picture.planes, known.planes, strict=True):
        shape = layout.shape(picture.width, picture.height)
        lines = np.frombuffer(plane, known.dtype).reshape(-1, plane.line_size // known.dtype.itemsize)
        row = shape[1] * layout.values
        views.append(lines[: shape[0], :row].reshape(shape) if layout.values == 1 else _grouped(lines, shape))
    return tuple(views)


def _grouped(lines: Array, shape: tuple[int, ...]) -> Array:
    """Lines of values as (rows, columns, values), still a view; reshape would copy where lines are padded."""
    step = lines.strides[1]
    return np.lib.stride_tricks.as_strided(
        lines, shape, (lines.strides[0], step * shape[2], step), writeable=lines.flags.writeable
    )


def copy_planes(picture: Any, known: PixelFormat, out: Array) -> Array:
    """Fill `out`, an array of the picture's format and size, with the planes of a PyAV frame."""
    for target, source in zip(known.views(out), plane_views(picture), strict=True):
        np.copyto(target, source)
    return out


def as_picture(frame: VideoFrame) -> Any:
    """The frame as a PyAV frame, without a copy where PyAV can; pts and time base as in the frame.

    Raises ConfigurationError for an unknown pixel format, ValueError if the array does not fit it.
    """
    av = import_av()
    known = pixel_format(frame.pixel_format)
    width, height = known.size(frame.array)
    array = np.ascontiguousarray(frame.array)
    picture = None
    if frame.pixel_format in _WRAPPED:
        with contextlib.suppress(ValueError):  # an older PyAV knows fewer formats
            picture = av.VideoFrame.from_numpy_buffer(array, frame.pixel_format)
    if picture is None:
        picture = av.VideoFrame(width, height, frame.pixel_format)
        for target, source in zip(plane_views(picture), known.views(array), strict=True):
            np.copyto(target, source)
    picture.pts, picture.time_base = frame.pts, frame.time_base
    return picture


class Converter:
    """Changes size and pixel format by swscale; keeps its tables between pictures. It does not travel: make it anew."""

    def __init__(self) -> None:
        self._reformatter = import_av().video.reformatter.VideoReformatter()

    def array(
        self,
        frame: VideoFrame,
        empty: Callable[..., Array],
        *,
        width: int | None = None,
        height: int | None = None,
        to: str | None = None,
        interpolation: str = "BICUBIC",
    ) -> Array:
        """The picture at another size and in the format `to`, in an array made by `empty(shape, dtype)`.

        Raises ConfigurationError for an unknown format, ValueError for a size the format cannot have.
        """
        known = pixel_format(to or frame.pixel_format)
        shape = known.shape(width or frame.width, height or frame.height)  # before work is done
        picture = self.picture(frame, width=width, height=height, to=to, interpolation=interpolation)
        return copy_planes(picture, known, empty(shape, known.dtype))

    def picture(
        self,
        frame: VideoFrame,
        *,
        width: int | None = None,
        height: int | None = None,
        to: str | None = None,
        interpolation: str = "BICUBIC",
    ) -> Any:
        """The same as a PyAV frame."""
        space = COLOUR_SPACES[colour_space(frame.metadata, frame.height)]
        return self._reformatter.reformat(
            as_picture(frame),
            width=width,
            height=height,
            format=to or frame.pixel_format,
            src_colorspace=space,
            dst_colorspace=space,
            interpolation=interpolation,
        )
