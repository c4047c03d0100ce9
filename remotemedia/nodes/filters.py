"""FFmpeg's filters as nodes (extra [media]): any chain of them, and its EBU R128 loudness meter."""

from __future__ import annotations

from collections.abc import Iterator
from math import log10
from typing import Any

from remotemedia.core.frames import AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.node import Node
from remotemedia.core.pixel_formats import pixel_format as known_format
from remotemedia.nodes.filter_chain import FilterChain, parsed_chain


class _Filtered(Node):
    """Sends frames of one kind through a FilterChain; frames of the other kind pass as they are."""

    def __init__(self, text: str, picture_format: str | None, name: str | None, **config: Any) -> None:
        super().__init__(name, **config)
        self._text, self._picture_format = text, picture_format
        parsed_chain(text)
        self._chain: FilterChain | None = None

    def initialize(self) -> None:
        """Look at the filters. Raises NodeError if one is not there or refuses its arguments."""
        self._chain = FilterChain(self.name, self._text, self.empty, pixel_format=self._picture_format)

    def process(self, frame: MediaFrame) -> Iterator[MediaFrame] | MediaFrame:
        """What comes out after this frame. Raises TypeError for what is no typed frame, NodeError if it is refused."""
        if self._chain is None:
            self.initialize()
        assert self._chain is not None
        wanted = VideoFrame if self._chain.kind == "video" else AudioFrame
        if isinstance(frame, (VideoFrame, AudioFrame)) and isinstance(frame, wanted):
            return self._framed(self._chain.push(frame))
        if isinstance(frame, MediaFrame):
            return frame
        raise TypeError(f"{self.name} takes {wanted.__name__}s, not {type(frame).__name__}")

    def flush(self) -> Iterator[MediaFrame] | None:
        """What the filters hold back."""
        return None if self._chain is None else self._framed(self._chain.finish())

    def _framed(self, frames: Iterator[MediaFrame]) -> Iterator[MediaFrame]:
        return frames

    def cleanup(self) -> None:
        self._chain = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_chain": None}


class FilterGraph(_Filtered):
    """A chain of FFmpeg's filters, written as for ffmpeg's -vf or -af: `FilterGraph("hflip,scale=320:-2")`.

    Takes the kind of frames that the first filter takes, and gives what the last one gives; frames of the other kind
    pass as they are. Pictures may have any format of `remotemedia.core.pixel_formats` and keep it, or get
    `pixel_format`; sound is float32 (samples, channels). pts and time base are those that the filters make; metadata
    is that of the last input, and what filters say ("lavfi.…") is added as text. Filters may make more or fewer frames
    than they take; `flush` gives the last ones.

    Raises ConfigurationError for what is no chain (labels, `;`); NodeError for a filter that this FFmpeg has not, for
    arguments or frames that it refuses; TypeError for what is no typed frame.

    >>> frame = VideoFrame(array=np.arange(12, dtype=np.uint8).reshape(1, 4, 3), pts=3)
    >>> flipped = run_pipeline([FilterGraph("hflip")], [frame])[0]
    >>> flipped.array[0, 0].tolist(), flipped.pts, flipped.time_base
    ([9, 10, 11], 3, Fraction(1, 1000))
    >>> quiet = run_pipeline([FilterGraph("volume=-20dB")], sine(440, level_db=0, seconds=1))
    >>> round(float(max(abs(frame.array).max() for frame in quiet)), 3)
    0.1
    """

    def __init__(
        self, filters: str, *, pixel_format: str | None = None, name: str | None = None, **options: Any
    ) -> None:
        if pixel_format is not None:
            known_format(pixel_format)
        super().__init__(filters, pixel_format, name, filters=filters, pixel_format=pixel_format, **options)


class LoudnessMeter(_Filtered):
    """Measure loudness by EBU R128 with FFmpeg's `ebur128`; the sound itself comes out unchanged.

    Takes sound of any frame size; gives float32 (samples, channels) in frames of 100 ms, each with
    metadata["loudness"]: "momentary_lufs" (the last 400 ms), "short_term_lufs" (3 s), "integrated_lufs" (all so far,
    gated), "range_lu", "true_peak_dbtp" (all so far; -inf for silence). The frame of the rest has the last numbers
    (None if there was no whole frame before). To bring sound to a loudness: `Loudness` while it runs,
    `FilterGraph("loudnorm=I=-16")` with a look-ahead of 3 s.

    Raises ConfigurationError without PyAV, TypeError for what is no typed frame, NodeError for what FFmpeg refuses.

    >>> frames = run_pipeline([LoudnessMeter()], sine(997, level_db=-20, channels=2, seconds=3))
    >>> loudness = frames[-1].metadata["loudness"]
    >>> round(loudness["integrated_lufs"]), round(loudness["true_peak_dbtp"])
    (-20, -20)
    """

    _KEYS = {"momentary_lufs": "M", "short_term_lufs": "S", "integrated_lufs": "I", "range_lu": "LRA"}  # noqa: RUF012

    def __init__(self, *, name: str | None = None, **options: Any) -> None:
        super().__init__("ebur128=metadata=1:peak=true", None, name, **options)
        self._last: dict[str, float] | None = None

    def initialize(self) -> None:
        """Look at the filter. Raises NodeError if this FFmpeg has it not."""
        super().initialize()
        self._last = None

    def _framed(self, frames: Iterator[MediaFrame]) -> Iterator[MediaFrame]:
        yield from map(self._measured, frames)  # no name holds a frame that was given: that would cost a copy

    def _measured(self, frame: MediaFrame) -> MediaFrame:
        texts = {key: text for key, text in frame.metadata.items() if key.startswith("lavfi.r128.")}
        if texts:
            peak = float(texts["lavfi.r128.true_peak"])
            self._last = {key: float(texts[f"lavfi.r128.{short}"]) for key, short in self._KEYS.items()}
            self._last["true_peak_dbtp"] = 20 * log10(peak) if peak > 0 else float("-inf")
        metadata = {key: value for key, value in frame.metadata.items() if key not in texts}
        assert isinstance(frame, AudioFrame)
        return AudioFrame(
            array=frame.array,
            pts=frame.pts,
            time_base=frame.time_base,
            sample_rate=frame.sample_rate,
            metadata={**metadata, "loudness": None if self._last is None else dict(self._last)},
        )
