"""Batches for models: several tensors as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import MediaFrame, TensorFrame
from remotemedia.core.node import Node
from remotemedia.nodes.tensors import Array, tensor_frame


class TensorStack(Node):
    """Collect `size` inputs of equal shape and dtype into one tensor with a new first axis: a batch.

    Takes arrays or typed frames; gives arrays, or TensorFrames with the pts and metadata of the first and
    metadata["pts"] of all. `flush` gives the rest as a shorter batch, or nothing with `rest="drop"`.

    Raises ConfigurationError for bad settings, NodeError for an input of another shape or dtype than the first of its
    batch, TypeError for what is no array.

    >>> batches = run_pipeline([TensorStack(2)], [np.full((3,), n, np.float32) for n in range(5)])
    >>> [batch.shape for batch in batches]
    [(2, 3), (2, 3), (1, 3)]
    """

    def __init__(self, size: int, *, rest: str = "give", name: str | None = None, **options: Any) -> None:
        super().__init__(name, size=size, rest=rest, **options)
        if not isinstance(size, int) or size < 1:
            raise ConfigurationError(f"TensorStack(size={size!r}): expected a number, 1 or more")
        if rest not in {"give", "drop"}:
            raise ConfigurationError(f"TensorStack(rest={rest!r}): expected give or drop")
        self.size, self.rest = size, rest
        self._begin()

    def _begin(self) -> None:
        self._batch: Array | None = None
        self._frames: list[MediaFrame | None] = []

    def initialize(self) -> None:
        """Begin anew."""
        self._begin()

    def process(self, data: Any) -> Any:
        """The batch, when it is full. The inputs are copied into it as they come; none is held."""
        array = data.array if isinstance(data, MediaFrame) else data
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{self.name} takes arrays and typed frames, not {type(data).__name__}")
        if self._batch is None:
            self._batch = np.empty((self.size, *array.shape), array.dtype)
        if (array.shape, array.dtype) != (self._batch.shape[1:], self._batch.dtype):
            raise NodeError(
                self.name, f"{array.dtype} {array.shape} cannot be stacked on {self._batch.dtype} "
                f"{self._batch.shape[1:]}; make the inputs alike before",
            )  # fmt: skip
        np.copyto(self._batch[len(self._frames)], array)
        self._frames.append(data.with_array(array[:0]) if isinstance(data, MediaFrame) and array.ndim else None)
        return self._finished() if len(self._frames) == self.size else None

    def _finished(self) -> Any:
        batch, frames = self._batch, self._frames
        self._begin()
        assert batch is not None
        out = self.empty((len(frames), *batch.shape[1:]), batch.dtype)
        np.copyto(out, batch[: len(frames)])
        first = frames[0]
        if first is None:
            return out
        old = first.dims if isinstance(first, TensorFrame) else ()
        facts = {**first.metadata, "pts": [frame.pts for frame in frames if frame is not None]}
        return tensor_frame(replace(first, metadata=facts), out, ("batch", *old) if old else ())

    def flush(self) -> Any:
        """The rest."""
        if not self._frames or self.rest == "drop":
            self._begin()
            return None
        return self._finished()

    def cleanup(self) -> None:
        """Let go of the batch."""
        self._begin()
