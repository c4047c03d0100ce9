"""A frame that nodes pass on untouched is copied once, on its way in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remotemedia.config import PoolConfig, RestartPolicy
from remotemedia.core.node import Node
from remotemedia.workers.pool import WorkerPool

PICTURE = (1080, 1920, 3)


class Pass(Node):
    def process(self, data: Any) -> Any:
        return data


class Crop(Node):
    """The lower half."""

    def process(self, data: Any) -> Any:
        return data[540:]


class AsyncPass(Node):
    async def process(self, data: Any) -> Any:
        return data


@pytest.mark.parametrize("policy", [RestartPolicy(), RestartPolicy.never()])
async def test_large_frames_go_through_three_stages_without_a_copy(policy: RestartPolicy) -> None:
    pictures = [np.full(PICTURE, value, np.uint8) for value in range(4)]
    nodes = [Pass("a"), Crop("b"), AsyncPass("c")]
    async with WorkerPool(nodes, config=PoolConfig(restart=policy)) as pool:
        count = 0
        async for output in pool.stream(pictures[number % 4] for number in range(40)):
            assert output.shape == (540, 1920, 3)
            assert (output[::100, ::100] == count % 4).all()
            count += 1
        assert count == 40
        assert [worker.copies for worker in pool.snapshot().workers] == [0, 0, 0]
        assert all(worker.bytes_out >= 40 * 540 * 1920 * 3 for worker in pool.snapshot().workers)


async def test_inline_stages_pass_on_as_well() -> None:
    nodes = [Pass("a"), Pass("b"), Pass("c")]
    nodes[1].executor = "inline"
    picture = np.arange(np.prod(PICTURE), dtype=np.uint8).reshape(PICTURE)
    async with WorkerPool(nodes) as pool:
        for _ in range(10):
            output = await pool.process(picture)
            assert np.array_equal(output, picture)
        assert sum(worker.copies for worker in pool.snapshot().workers) == 0
