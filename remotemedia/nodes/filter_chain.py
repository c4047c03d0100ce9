"""A chain of FFmpeg's filters: its text in parts, and the chain at work on frames of one kind."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import Array, AudioFrame, MediaFrame, VideoFrame
from remotemedia.core.pixel_formats import PIXEL_FORMATS
from remotemedia.nodes.conversion import as_picture, copy_planes
from remotemedia.nodes.dsp import as_samples
from remotemedia.nodes.pyav import import_av

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def parsed_chain(text: str) -> list[tuple[str, str]]:
    """ "scale=64:-1,hflip" → [("scale", "64:-1"), ("hflip", "")], with FFmpeg's quotes and backslashes taken away once.

    Raises ConfigurationError where it is no chain: empty parts, labels, several inputs or outputs.
    """
    found = []
    for part in _split(text):
        match = re.fullmatch(r"\s*([a-z0-9_]+)\s*(?:=(.*))?", part, re.DOTALL)
        if match is None:
            raise ConfigurationError(
                f"filters={text!r}: {part.strip()!r} is no filter; expected name or name=arguments, comma between "
                "filters, and ' ' around arguments that have commas"
            )
        found.append((match[1], (match[2] or "").strip()))
    return found


def _split(text: str) -> Iterator[str]:
    """At the commas that are neither quoted nor escaped, as FFmpeg does."""
    part, rest = "", iter(text)
    for character in rest:
        if character == "\\":
            part += next(rest, "")
        elif character == "'":
            for inner in rest:
                if inner == "'":
                    break
                part += inner
            else:
                raise ConfigurationError(f"filters={text!r}: a quote (') is not closed")
        elif character in "[];":
            raise ConfigurationError(
                f"filters={text!r}: {character!r} is for graphs with several inputs or outputs; only a chain is "
                "possible here: connect nodes instead, or quote it ('…')"
            )
        elif character == ",":
            yield part
            part = ""
        else:
            part += character
    yield part


class FilterChain:
    """One input, one output; made anew when the format of the frames changes. It does not travel: make it anew.

    `kind`: "video" or "audio", what the first filter takes. Raises NodeError if this FFmpeg has no such filter, if the
    arguments are wrong, or the filters do not fit together.
    """

    def __init__(self, node: str, text: str, empty: Callable[..., Array], *, pixel_format: str | None = None) -> None:
        self._av, self._node, self._text, self._empty = import_av(), node, text, empty
        self._filters, self._pixel_format = parsed_chain(text), pixel_format
        self.kind = self._probe(first=True)
        self.gives = self._probe(first=False)
        self._format: Any = None
        self._graph: Any = None
        self._source: Any = None
        self._sink: Any = None
        self._facts: MediaFrame | None = None  # the last input without its array: metadata and more for the outputs

    def push(self, frame: VideoFrame | AudioFrame) -> Iterator[MediaFrame]:
        """What comes out after one more frame. Raises NodeError if a filter refuses it."""
        shape = _format_of(frame)
        if self._format != shape:
            yield from self.finish()
            self._build(frame)
            self._format = shape
        self._facts = frame.with_array(frame.array[:0])
        if self._source is None:
            return  # the chain has ended by itself (trim)
        self._guard(self._source.push, _picture(frame) if isinstance(frame, VideoFrame) else _sound(self._av, frame))
        yield from self._pulled()

    def finish(self) -> Iterator[MediaFrame]:
        """The last frames; then it can begin anew."""
        if self._source is not None:
            self._guard(self._source.push, None)
            yield from self._pulled()
        self._format = self._source = self._sink = self._graph = None

    def _probe(self, *, first: bool) -> str:
        """The kind of medium at the first filter's input, or at the last one's output: what can be linked to it."""
        for kind in ("video", "audio"):
            graph = self._av.filter.Graph()
            contexts = [self._added(graph, *part) for part in self._filters]
            try:
                if first:
                    _source(graph, kind).link_to(contexts[0])
                else:
                    contexts[-1].link_to(graph.add("buffersink" if kind == "video" else "abuffersink"))
            except (self._av.error.FFmpegError, ValueError):
                continue
            return kind
        name, what = self._filters[0 if first else -1][0], "takes" if first else "gives"
        raise NodeError(
            self._node, f"filter {name!r} {what} neither one picture nor one sound stream; only chains can run here"
        )

    def _added(self, graph: Any, name: str, arguments: str) -> Any:
        if name not in self._av.filter.filters_available:
            near = difflib.get_close_matches(name, self._av.filter.filters_available, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise NodeError(self._node, f"this FFmpeg has no filter {name!r}{hint}")
        try:
            return graph.add(name, arguments or None)
        except (self._av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise NodeError(self._node, f"filter {name!r} refuses {arguments!r}: {reason}") from error

    def _build(self, frame: VideoFrame | AudioFrame) -> None:
        graph = self._av.filter.Graph()
        if isinstance(frame, VideoFrame):
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.pixel_format, time_base=frame.time_base
            )
        else:
            source = graph.add_abuffer(
                sample_rate=frame.sample_rate, format="flt", layout=_layout(frame.channels), time_base=frame.time_base
            )
        contexts = [source, *(self._added(graph, *part) for part in self._filters)]
        if self.gives == "video":
            wanted = self._pixel_format or (frame.pixel_format if isinstance(frame, VideoFrame) else "rgb24")
            contexts += [graph.add("format", f"pix_fmts={wanted}"), graph.add("buffersink")]
        else:
            contexts += [graph.add("aformat", "sample_fmts=flt"), graph.add("abuffersink")]
        try:
            graph.link_nodes(*contexts)
            graph.configure()
        except (self._av.error.FFmpegError, ValueError) as error:
            facts = _format_of(frame)[:-1]
            raise NodeError(self._node, f"the filters {self._text!r} do not work on {facts}: {error}") from error
        self._graph, self._source, self._sink = graph, source, contexts[-1]

    def _pulled(self) -> Iterator[MediaFrame]:
        while self._source is not None:
            try:
                out = self._sink.pull()
            except self._av.error.BlockingIOError:
                return
            except self._av.error.EOFError:
                self._source = None
                return
            except self._av.error.FFmpegError as error:
                raise NodeError(self._node, f"the filters {self._text!r} failed: {error}") from error
            yield self._frame(out)

    def _guard(self, push: Callable[[Any], None], value: Any) -> None:
        try:
            push(value)
        except self._av.error.EOFError:
            pass  # the chain wants no more (trim)
        except (self._av.error.FFmpegError, ValueError) as error:
            raise NodeError(self._node, f"the filters {self._text!r} refused a frame: {error}") from error

    def _frame(self, out: Any) -> MediaFrame:
        assert self._facts is not None
        metadata = {**self._facts.metadata, **out.metadata}
        if self.gives == "video":
            known = PIXEL_FORMATS[out.format.name]
            array = copy_planes(out, known, self._empty(known.shape(out.width, out.height), known.dtype))
            return VideoFrame(
                array=array, pts=out.pts, time_base=out.time_base, pixel_format=known.name, metadata=metadata
            )
        samples = self._empty((out.samples, out.layout.nb_channels), np.float32)
        np.copyto(samples, np.frombuffer(out.planes[0], np.float32, count=samples.size).reshape(samples.shape))
        return AudioFrame(
            array=samples, pts=out.pts, time_base=out.time_base, sample_rate=out.sample_rate, metadata=metadata
        )


def _source(graph: Any, kind: str) -> Any:
    if kind == "video":
        return graph.add_buffer(width=64, height=64, format="yuv420p", time_base=Fraction(1, 25))
    return graph.add_abuffer(sample_rate=48_000, format="flt", layout="stereo", time_base=Fraction(1, 48_000))


def _layout(channels: int) -> str:
    return LAYOUTS.get(channels, f"{channels} channels")


def _format_of(frame: VideoFrame | AudioFrame) -> tuple[Any, ...]:
    if isinstance(frame, VideoFrame):
        return f"{frame.width}x{frame.height}", frame.pixel_format, frame.time_base
    return f"{frame.sample_rate} Hz", f"{frame.channels} channels", frame.time_base


def _picture(frame: VideoFrame) -> Any:
    picture, rate = as_picture(frame), frame.metadata.get("frame_rate")
    if rate:
        picture.duration = round(1 / (Fraction(rate) * frame.time_base))  # so that the last one has its full length
    return picture


def _sound(av: Any, frame: AudioFrame) -> Any:
    samples = np.ascontiguousarray(as_samples(frame.array))
    sound = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "flt", _layout(samples.shape[1]))
    sound.sample_rate, sound.pts, sound.time_base = frame.sample_rate, frame.pts, frame.time_base
    return sound
