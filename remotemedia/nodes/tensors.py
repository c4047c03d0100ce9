"""Tensor nodes: from pictures and sound to what models take. Bare arrays give arrays, typed frames TensorFrames."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import AudioFrame, MediaFrame, TensorFrame, VideoFrame
from remotemedia.core.node import Node

Array = npt.NDArray[Any]

_DTYPES = (
    "bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip


class _TensorNode(Node):
    """Base: subclasses implement `array_of`; pts, time base and metadata of typed frames are kept."""

    def process(self, data: Any) -> Any:
        """The tensor. Raises TypeError for what is neither an array nor a typed frame, ValueError for a wrong shape."""
        if isinstance(data, MediaFrame):
            return tensor_frame(data, self.array_of(data.array), self.dims_of(data))
        if isinstance(data, np.ndarray):
            return self.array_of(data)
        raise TypeError(f"{self.name} takes arrays and typed frames, not {type(data).__name__}")

    def array_of(self, array: Array) -> Array:
        """The new array."""
        raise NotImplementedError

    def dims_of(self, frame: MediaFrame) -> tuple[str, ...]:
        """The names of the new dimensions; as they were."""
        return frame.dims if isinstance(frame, TensorFrame) else ()

    def check(self, condition: bool, setting: str, value: object, expected: str) -> None:
        if not condition:
            raise ConfigurationError(f"{type(self).__name__}({setting}={value!r}): expected {expected}")


def tensor_frame(frame: MediaFrame, array: Array, dims: tuple[str, ...]) -> TensorFrame:
    """A tensor with the time and metadata of `frame`."""
    return TensorFrame(
        array=array, pts=frame.pts, time_base=frame.time_base, metadata=frame.metadata,
        dims=dims if len(dims) == array.ndim else (),
    )  # fmt: skip


class ToTensor(Node):
    """Pictures and sound as float32 tensors with the channels first, as models take them.

    A VideoFrame in rgb24, bgr24 or gray becomes (channel, height, width) in 0..1 (`layout="HWC"`: (height, width,
    channel)); an AudioFrame (channel, time) in -1..1 (`layout="HWC"`: (time, channel)). A bare uint8 array (height,
    width [, 3]) is taken as a picture and gives an array. pts, time base and metadata are kept; `dims` names the
    dimensions.

    Raises ConfigurationError for an unknown layout, TypeError for what is no picture or sound, ValueError for a picture
    in another pixel format.

    >>> tensor = ToTensor().process(VideoFrame(array=np.full((2, 3, 3), 255, np.uint8), pts=5))
    >>> tensor.array.shape, tensor.array.dtype, tensor.array.max().item(), tensor.dims, tensor.pts
    ((3, 2, 3), dtype('float32'), 1.0, ('channel', 'height', 'width'), 5)
    """

    def __init__(self, *, layout: str = "CHW", name: str | None = None, **options: Any) -> None:
        if layout not in {"CHW", "HWC"}:
            raise ConfigurationError(f"ToTensor(layout={layout!r}): expected CHW or HWC")
        super().__init__(name, layout=layout, **options)
        self.channels_first = layout == "CHW"

    def process(self, data: Any) -> Any:
        """The tensor. Raises TypeError for what is no picture or sound."""
        if isinstance(data, VideoFrame):
            if data.pixel_format not in {"rgb24", "bgr24", "gray"}:
                raise ValueError(
                    f"{self.name} takes rgb24, bgr24 and gray, not {data.pixel_format}; "
                    'put ConvertPixelFormat("rgb24") before it'
                )
            dims = ("channel", "height", "width") if self.channels_first else ("height", "width", "channel")
            return tensor_frame(data, self._picture(data.array), dims)
        if isinstance(data, AudioFrame):
            axes = ("channel", "time") if self.channels_first else ("time", "channel")
            return tensor_frame(data, self._sound(data.array), axes)
        if isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim in {2, 3}:
            return self._picture(data)
        raise TypeError(f"{self.name} takes pictures and sound, not {type(data).__name__}")

    def _picture(self, array: Array) -> Array:
        pixels = array[..., None] if array.ndim == 2 else array  # noqa: PLR2004 - a gray picture has 2 axes
        source = np.moveaxis(pixels, -1, 0) if self.channels_first else pixels
        out = self.empty(source.shape, np.float32)
        np.multiply(source, np.float32(1 / 255), out=out)
        return out

    def _sound(self, array: Array) -> Array:
        samples = array[:, None] if array.ndim == 1 else array
        source = samples.T if self.channels_first else samples
        out = self.empty(source.shape, np.float32)
        np.multiply(source, np.float32(1 / 32768 if array.dtype == np.int16 else 1), out=out)
        return out


class TensorCast(_TensorNode):
    """Convert to `dtype`, after multiplying by `scale`; integers are rounded and saturate at the ends of their range.

    Takes arrays and typed frames of any shape and numeric dtype; the shape stays. Raises ConfigurationError for an
    unknown dtype, TypeError for what is no array.

    >>> TensorCast("uint8", scale=255).process(np.array([0.0, 0.5, 2.0], np.float32)).tolist()
    [0, 128, 255]
    """

    def __init__(self, dtype: str, *, scale: float = 1.0, name: str | None = None, **options: Any) -> None:
        super().__init__(name, dtype=dtype, scale=scale, **options)
        self.check(dtype in _DTYPES, "dtype", dtype, f"one of {', '.join(_DTYPES)}")
        self.dtype, self.scale = np.dtype(dtype), scale

    def array_of(self, array: Array) -> Array:
        """The values in the new dtype."""
        out = self.empty(array.shape, self.dtype)
        values = array if self.scale == 1 else array * np.float64(self.scale)
        if self.dtype.kind in "iu" and not np.can_cast(values.dtype, self.dtype):
            limits = np.iinfo(self.dtype)
            if values.dtype.kind == "f":
                values = np.rint(values)
            values = np.clip(values, *_bounds(values.dtype, limits))
        np.copyto(out, values, casting="unsafe")
        return out


def _bounds(dtype: np.dtype[Any], limits: np.iinfo[Any]) -> tuple[Any, Any]:
    """The limits of an integer type, in the type that is converted to it: not beyond what that can hold itself."""
    if dtype.kind == "f":  # the greatest float that is not greater: 2**31 - 1 is no float32
        most = np.array(limits.max, dtype)
        return dtype.type(limits.min), np.nextafter(most, dtype.type(0)) if int(most) > limits.max else most
    own = np.iinfo(dtype) if dtype.kind in "iu" else limits
    return max(int(limits.min), int(own.min)), min(int(limits.max), int(own.max))


class TensorNormalize(_TensorNode):
    """(x - `mean`) / `std` as float32; one number for all, or one for each index along `axis`.

    Takes arrays and typed frames of any shape and numeric dtype; the shape stays. Raises ConfigurationError for bad
    settings, ValueError if the axis has another length than mean and std, TypeError for what is no array.

    >>> node = TensorNormalize(mean=[0.5, 0.0], std=[0.5, 2.0])
    >>> node.process(np.array([[1.0, 0.0], [1.0, 4.0]])).tolist()
    [[1.0, -1.0], [0.5, 2.0]]
    """

    def __init__(
        self,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        *,
        axis: int = 0,
        name: str | None = None,
        **options: Any,
    ) -> None:
        mean, std = (value if isinstance(value, (int, float)) else list(value) for value in (mean, std))
        super().__init__(name, mean=mean, std=std, axis=axis, **options)
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self.check(bool(np.all(self.std > 0)), "std", std, "numbers greater than 0")
        sizes = {value.size for value in (self.mean, self.std) if value.ndim}
        self.check(len(sizes) <= 1, "mean", mean, "as many numbers as std has")
        self.axis, self._size = axis, sizes.pop() if sizes else None

    def array_of(self, array: Array) -> Array:
        """The normalized values."""
        if self._size is not None and (
            not -array.ndim <= self.axis < array.ndim or array.shape[self.axis] != self._size
        ):
            raise ValueError(f"{self.name}: axis {self.axis} of {array.shape} must have {self._size} values")
        out = self.empty(array.shape, np.float32)
        np.subtract(array, self._along(self.mean, array), out=out, casting="unsafe")
        np.divide(out, self._along(self.std, array), out=out)
        return out

    def _along(self, value: Array, array: Array) -> Array:
        if not value.ndim:
            return value
        shape = [1] * array.ndim
        shape[self.axis] = -1
        return value.reshape(shape)


class TensorReshape(_TensorNode):
    """Reorder the axes (`axes`, as numpy.transpose takes them), then give the array another `shape` (one may be -1).

    Takes arrays and typed frames of any dtype, which stays. `dims` names the dimensions of the result. Raises
    ConfigurationError if there is nothing to do, ValueError if the array does not fit, TypeError for what is no array.

    >>> array = np.arange(6).reshape(2, 3)
    >>> TensorReshape(axes=(1, 0)).process(array).tolist()
    [[0, 3], [1, 4], [2, 5]]
    >>> TensorReshape((1, -1)).process(array).tolist()
    [[0, 1, 2, 3, 4, 5]]
    """

    def __init__(
        self,
        shape: Sequence[int] | None = None,
        *,
        axes: Sequence[int] | None = None,
        dims: Sequence[str] = (),
        name: str | None = None,
        **options: Any,
    ) -> None:
        lists: dict[str, Any] = {
            key: None if value is None else list(value) for key, value in (("shape", shape), ("axes", axes))
        }
        super().__init__(name, **lists, dims=list(dims), **options)
        self.check(shape is not None or axes is not None, "shape", shape, "a shape, axes or both")
        self.check(shape is None or list(shape).count(-1) <= 1, "shape", shape, "at most one -1")
        self.shape = None if shape is None else tuple(shape)
        self.axes = None if axes is None else tuple(axes)
        self.dims = tuple(dims)

    def array_of(self, array: Array) -> Array:
        """The values in their new places."""
        try:
            turned = array if self.axes is None else array.transpose(self.axes)
        except ValueError as error:
            raise ValueError(f"{self.name}: the axes of {array.shape} cannot become {self.axes}: {error}") from error
        out = self.empty(turned.shape if self.shape is None else self._filled(array), array.dtype)
        np.copyto(out.reshape(turned.shape), turned)
        return out

    def _filled(self, array: Array) -> tuple[int, ...]:
        """The shape, with the number that -1 stands for."""
        assert self.shape is not None
        known = prod(size for size in self.shape if size >= 0)
        shape = tuple(array.size // known if size < 0 and known else size for size in self.shape)
        if prod(shape) != array.size or min(shape, default=0) < 0:
            raise ValueError(f"{self.name}: {array.shape} has {array.size} values and cannot become {self.shape}")
        return shape

    def dims_of(self, frame: MediaFrame) -> tuple[str, ...]:
        """The names that were given; those of the input in their new order if only the axes were reordered."""
        if self.dims or self.shape is not None or self.axes is None:
            return self.dims
        old = super().dims_of(frame)
        return tuple(old[axis] for axis in self.axes) if old else ()
