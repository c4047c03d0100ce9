"""remotemedia: a multiprocess worker pool over zero-copy shared memory, for media and ML pipelines.

    from remotemedia import Node, execute_pipeline

    outputs = await execute_pipeline([Decode(), Detect()], frames, executor="multiprocess")

Everything public can be imported from here; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from remotemedia._version import __version__

logging.getLogger("remotemedia").addHandler(logging.NullHandler())  # silent where the program configures no logging

if TYPE_CHECKING:
    from remotemedia.config import ChannelConfig, PoolConfig, RestartPolicy, Timeouts, Tracing, WorkerLimits
    from remotemedia.core.exceptions import (
        ChannelBroken,
        ChannelClosed,
        ChannelError,
        ChannelFull,
        ConfigurationError,
        FrameTooLarge,
        MalformedMessage,
        ManifestError,
        NodeError,
        NodeInitializeError,
        NodeNotLoadable,
        NodeProcessError,
        PipelineError,
        PipelineStalled,
        PoolBroken,
        PoolClosed,
        ProtocolError,
        ProtocolVersionMismatch,
        RemoteExceptionText,
        RemoteMediaError,
        RestartLimitExceeded,
        SerializationError,
        SharedMemoryExhausted,
        SizeLimitError,
        WorkerDied,
        WorkerError,
        WorkerIdentity,
        WorkerStartError,
        WorkerStartTimeout,
        WorkerUnresponsive,
    )
    from remotemedia.core.frames import AudioFrame, MediaFrame, TensorFrame, VideoFrame
    from remotemedia.core.node import Node
    from remotemedia.core.pipeline import Pipeline
    from remotemedia.manifest_types import manifest_schema
    from remotemedia.nodes.basic import node
    from remotemedia.nodes.registry import register_node
    from remotemedia.runtime import execute_pipeline, execute_pipeline_with_input, run_pipeline
    from remotemedia.workers.fork_server import keep_fork_server
    from remotemedia.workers.pool import WorkerPool
    from remotemedia.workers.sessions import Session

_NAMES = {
    "remotemedia.config": ("ChannelConfig", "PoolConfig", "RestartPolicy", "Timeouts", "Tracing", "WorkerLimits"),
    "remotemedia.core.exceptions": (
        "ChannelBroken",
        "ChannelClosed",
        "ChannelError",
        "ChannelFull",
        "ConfigurationError",
        "FrameTooLarge",
        "MalformedMessage",
        "ManifestError",
        "NodeError",
        "NodeInitializeError",
        "NodeNotLoadable",
        "NodeProcessError",
        "PipelineError",
        "PipelineStalled",
        "PoolBroken",
        "PoolClosed",
        "ProtocolError",
        "ProtocolVersionMismatch",
        "RemoteExceptionText",
        "RemoteMediaError",
        "RestartLimitExceeded",
        "SerializationError",
        "SharedMemoryExhausted",
        "SizeLimitError",
        "WorkerDied",
        "WorkerError",
        "WorkerIdentity",
        "WorkerStartError",
        "WorkerStartTimeout",
        "WorkerUnresponsive",
    ),
    "remotemedia.core.frames": ("AudioFrame", "MediaFrame", "TensorFrame", "VideoFrame"),
    "remotemedia.core.node": ("Node",),
    "remotemedia.core.pipeline": ("Pipeline",),
    "remotemedia.manifest_types": ("manifest_schema",),
    "remotemedia.nodes.basic": ("node",),
    "remotemedia.nodes.registry": ("register_node",),
    "remotemedia.runtime": ("execute_pipeline", "execute_pipeline_with_input", "run_pipeline"),
    "remotemedia.workers.fork_server": ("keep_fork_server",),
    "remotemedia.workers.pool": ("WorkerPool",),
    "remotemedia.workers.sessions": ("Session",),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "AudioFrame",
    "ChannelBroken",
    "ChannelClosed",
    "ChannelConfig",
    "ChannelError",
    "ChannelFull",
    "ConfigurationError",
    "FrameTooLarge",
    "MalformedMessage",
    "ManifestError",
    "MediaFrame",
    "Node",
    "NodeError",
    "NodeInitializeError",
    "NodeNotLoadable",
    "NodeProcessError",
    "Pipeline",
    "PipelineError",
    "PipelineStalled",
    "PoolBroken",
    "PoolClosed",
    "PoolConfig",
    "ProtocolError",
    "ProtocolVersionMismatch",
    "RemoteExceptionText",
    "RemoteMediaError",
    "RestartLimitExceeded",
    "RestartPolicy",
    "SerializationError",
    "Session",
    "SharedMemoryExhausted",
    "SizeLimitError",
    "TensorFrame",
    "Timeouts",
    "Tracing",
    "VideoFrame",
    "WorkerDied",
    "WorkerError",
    "WorkerIdentity",
    "WorkerLimits",
    "WorkerPool",
    "WorkerStartError",
    "WorkerStartTimeout",
    "WorkerUnresponsive",
    "__version__",
    "execute_pipeline",
    "execute_pipeline_with_input",
    "keep_fork_server",
    "manifest_schema",
    "node",
    "register_node",
    "run_pipeline",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
