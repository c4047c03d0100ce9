"""The built-in nodes, each imported when it is first used: those for media need the extra [media] only then."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from remotemedia.nodes.registry import BUILT_IN_MODULES, get_node_class, register_node, registered_nodes

if TYPE_CHECKING:
    from remotemedia.nodes.audio import Chunk, EnergyVad, Gain, Resample, ToMono
    from remotemedia.nodes.basic import BatchNode, CalculatorNode, FunctionNode, PassThroughNode, node
    from remotemedia.nodes.endpoints import CollectSink, IterableSource, PrintSink
    from remotemedia.nodes.filters import FilterGraph, LoudnessMeter
    from remotemedia.nodes.loudness import Loudness
    from remotemedia.nodes.media_io import (
        AudioFileSink,
        AudioFileSource,
        MediaFileSink,
        MediaFileSource,
        VideoFileSink,
        VideoFileSource,
    )
    from remotemedia.nodes.media_sink import MediaSink
    from remotemedia.nodes.media_source import MediaSource
    from remotemedia.nodes.mixing import Mix
    from remotemedia.nodes.raw_pipes import RawAudioSource, RawVideoSource
    from remotemedia.nodes.raw_sinks import RawAudioSink, RawVideoSink
    from remotemedia.nodes.scaling import ConvertPixelFormat, Resize
    from remotemedia.nodes.stacking import TensorStack
    from remotemedia.nodes.sync import Interleave, Label, Sync
    from remotemedia.nodes.tensors import TensorCast, TensorNormalize, TensorReshape, ToTensor
    from remotemedia.nodes.text import (
        TextChunkNode,
        TextReplaceNode,
        TextSplitNode,
        TextTemplateNode,
        TextTransformNode,
        UppercaseNode,
    )
    from remotemedia.nodes.video import Denoise, EdgeFilter, MotionDetector

__all__ = [
    "AudioFileSink",
    "AudioFileSource",
    "BatchNode",
    "CalculatorNode",
    "Chunk",
    "CollectSink",
    "ConvertPixelFormat",
    "Denoise",
    "EdgeFilter",
    "EnergyVad",
    "FilterGraph",
    "FunctionNode",
    "Gain",
    "Interleave",
    "IterableSource",
    "Label",
    "Loudness",
    "LoudnessMeter",
    "MediaFileSink",
    "MediaFileSource",
    "MediaSink",
    "MediaSource",
    "Mix",
    "MotionDetector",
    "PassThroughNode",
    "PrintSink",
    "RawAudioSink",
    "RawAudioSource",
    "RawVideoSink",
    "RawVideoSource",
    "Resample",
    "Resize",
    "Sync",
    "TensorCast",
    "TensorNormalize",
    "TensorReshape",
    "TensorStack",
    "TextChunkNode",
    "TextReplaceNode",
    "TextSplitNode",
    "TextTemplateNode",
    "TextTransformNode",
    "ToMono",
    "ToTensor",
    "UppercaseNode",
    "VideoFileSink",
    "VideoFileSource",
    "get_node_class",
    "node",
    "register_node",
    "registered_nodes",
]


def __getattr__(name: str) -> Any:
    module = "remotemedia.nodes.basic" if name == "node" else BUILT_IN_MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
