"""Base of the nodes that work on one kind of typed frame."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.node import Node
from remotemedia.core.pixel_formats import PIXEL_FORMATS
from remotemedia.nodes.scratch import Scratch

F = TypeVar("F", bound=MediaFrame)


class TypedNode(Node, Generic[F]):
    """Works on frames of one kind; `other` says what happens to frames of another kind: "pass" or "drop".

    So a mixed stream of sound and picture can run through a chain ("pass"), or a branch of a graph can pick its own
    kind out of it ("drop"). Subclasses implement `transform`.
    """

    frame_type: ClassVar[type[MediaFrame]]

    def __init__(self, *, name: str | None = None, other: str = "pass", **options: Any) -> None:
        self.check(other in ("pass", "drop"), "other", other, '"pass" or "drop"')
        super().__init__(name, other=other, **options)
        self.other = other
        self.scratch = Scratch()

    def process(self, data: Any) -> Any:
        """`transform(data)` for the node's own kind of frame. Raises TypeError for anything that is no frame."""
        if isinstance(data, self.frame_type):
            return self.transform(data)  # type: ignore[arg-type]  # frame_type is F
        if isinstance(data, MediaFrame):
            return data if self.other == "pass" else None
        raise TypeError(
            f"{self.name} takes {self.frame_type.__name__}s, not {type(data).__name__}; "
            f"wrap the array: remotemedia.{self.frame_type.__name__}(array=..., ...)"
        )

    def transform(self, frame: F) -> Any:
        """Turn one frame into its output; the same forms as `process`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement transform()")

    def cleanup(self) -> None:
        self.scratch.clear()

    def check(self, condition: bool, setting: str, value: object, expected: str) -> None:
        """Raise ConfigurationError unless `condition` holds."""
        if not condition:
            raise ConfigurationError(f"{type(self).__name__}({setting}={value!r}): expected {expected}")


class VideoNode(TypedNode[VideoFrame]):
    """Base of the video nodes. A bare uint8 array (height, width[, 3]) is taken as gray / rgb24 and gives an array."""

    frame_type = VideoFrame
    pixel_formats: ClassVar[tuple[str, ...]] = ("rgb24", "bgr24", "gray")
    """What `transform` can work on."""

    def process(self, data: Any) -> Any:
        """The transformed picture. Raises TypeError for what is no picture, ValueError for a wrong shape or dtype."""
        if hasattr(data, "__array_interface__"):
            pixel_format = "gray" if data.ndim == 2 else "rgb24"  # noqa: PLR2004 - a gray picture has 2 axes
            result = self.process(VideoFrame(array=data, pixel_format=pixel_format))
            return result.array if isinstance(result, VideoFrame) else result
        if isinstance(data, VideoFrame):
            self._check_picture(data)
        return super().process(data)

    def _check_picture(self, frame: VideoFrame) -> None:
        if frame.pixel_format not in self.pixel_formats:
            known = frame.pixel_format in PIXEL_FORMATS
            hint = '; put ConvertPixelFormat("rgb24") before it' if known else ""
            names = ", ".join(self.pixel_formats)
            raise ValueError(f"{self.name}: pixel_format {frame.pixel_format!r} is unknown; expected {names}{hint}")
        try:
            PIXEL_FORMATS[frame.pixel_format].size(frame.array)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None


class AudioNode(TypedNode[AudioFrame]):
    """Base of the audio nodes: float32 (samples, channels) in -1..1; int16 and one-dimensional arrays are converted."""

    frame_type = AudioFrame
