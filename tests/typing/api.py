"""Never run, only checked by `mypy --strict`: what the public API promises to type checkers."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

from remotemedia import (
    AudioFrame,
    ChannelConfig,
    Node,
    Pipeline,
    PoolConfig,
    SerializationError,
    Session,
    Timeouts,
    VideoFrame,
    WorkerDied,
    WorkerLimits,
    WorkerPool,
    execute_pipeline,
    execute_pipeline_with_input,
    run_pipeline,
)
from remotemedia.core.node_serialization import (
    deserialize_node_from_ipc,
    serialize_node_async,
    serialize_node_for_ipc,
    validate_node_serializable,
)
from remotemedia.events import Event, FrameFailed

Picture = npt.NDArray[np.uint8]


class Brighten(Node):
    executor = "multiprocess"

    def process(self, data: Picture) -> Picture:
        out = self.empty_like(data)
        np.add(data, 40, out=out)
        return out


class Detector(Node):
    def __init__(self, threshold: float, name: str | None = None) -> None:
        super().__init__(name, threshold=threshold)

    async def initialize(self) -> None:
        self.seen = 0

    async def process(self, data: VideoFrame) -> AsyncIterator[dict[str, int]]:
        self.seen += data.width
        yield {"seen": self.seen}

    def flush(self) -> Iterator[int]:
        yield self.seen

    async def cleanup(self) -> None:
        self.seen = 0


class Source(Node):
    def process(self) -> Iterator[AudioFrame]:  # type: ignore[override] # a source takes nothing
        yield AudioFrame(array=self.empty((480, 2), np.float32), sample_rate=48_000)


async def pipelines(manifest: dict[str, Any], text: str, frames: list[Picture]) -> None:
    nodes = [Brighten(), Detector(0.5)]
    await execute_pipeline(nodes, frames, executor="multiprocess", queue_frames=8)
    await execute_pipeline(manifest)
    await execute_pipeline(text, iter(frames), enable_metrics=True)
    await execute_pipeline([{"node_type": "PassThroughNode", "params": {}}, Brighten()])
    await execute_pipeline_with_input(nodes, frames)
    run_pipeline(nodes, frames)


async def pipeline_objects() -> None:
    pipeline = Pipeline([Brighten()], name="p").add_node(Detector(0.1))
    assert_type(len(pipeline), int)
    assert_type(pipeline.serialize(), str)
    assert_type(Pipeline.from_manifest(pipeline.serialize()), Pipeline)
    async with pipeline:
        await pipeline.run([1, 2])


async def pools(frames: list[Picture]) -> None:
    limits = {"detector": WorkerLimits(memory_limit_bytes=2**30, environment={"CUDA_VISIBLE_DEVICES": "0"})}
    config = PoolConfig(channel=ChannelConfig(queue_frames=4), timeouts=Timeouts(initialize_s=600), limits=limits)
    async with WorkerPool([Brighten()], config=config) as pool:
        await pool.process(frames[0])
        async for _ in pool.stream(frames):
            pass
        async with pool.session("caller-42") as call:
            assert_type(call, Session)
            await call.send(frames[0])
            await call.receive()
            await call.finish()
            async for _ in call:
                pass
        await pool.send_control("Brighten", {"threshold": 0.4})
        async for event in pool.events():
            assert_type(event, Event)
            if isinstance(event, FrameFailed):
                assert_type(event.frame, int)
        assert_type(pool.snapshot().workers[0].pss_bytes, int | None)
        page = await pool.serve_status(8090, allowed_hosts=["status.example.org"])
        assert_type((page.url, page.port), tuple[str, int])
        await page.aclose()
        await pool.drain()


def pools_without_asyncio(frames: list[Picture]) -> None:
    with WorkerPool([Brighten()]) as pool:
        assert_type(pool, WorkerPool)
        pool.run(frames[0])
        for _ in pool.map(frames, copy=True):
            pass
        assert_type(pool.call(serialize_node_async, Brighten()), bytes)
        pool.show_status(host="::1").close()


async def serialization(node: Node) -> None:
    data = serialize_node_for_ipc(node)
    assert_type(data, bytes)
    assert_type(await serialize_node_async(node), bytes)
    assert_type(deserialize_node_from_ipc(memoryview(data)), Node)
    assert_type(validate_node_serializable(node), bool)


def errors(error: SerializationError, death: WorkerDied) -> None:
    assert_type(error.attribute_path, str)
    assert_type(death.signal, str | None)
    assert_type(death.pid, int | None)


def outputs(node: Node, array: Picture) -> None:
    assert_type(node.empty((2, 3), np.float32), npt.NDArray[Any])
    assert_type(node.empty_like(array), npt.NDArray[Any])
    assert_type(node.get_session_state("caller"), dict[str, Any] | None)
    assert_type(node.get_session_state(), dict[str, Any] | None)
