"""Frames as OpenTelemetry spans: whose child they are, what the nodes did, and what a death makes of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, use_span

from remotemedia import AudioFrame, NodeProcessError, PoolConfig, RestartPolicy, Tracing, WorkerDied, WorkerPool
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from tests.nodes import Add

REMOTE = SpanContext(int("ab" * 16, 16), int("cd" * 8, 16), is_remote=True, trace_flags=TraceFlags(1))
REMOTE_TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Spans:
    """A tracer provider, and what it has exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def config(self, sample: float = 1.0, **more: Any) -> PoolConfig:
        return PoolConfig(tracing=Tracing(sample=sample, tracer_provider=self.provider), **more)

    def take(self) -> tuple[list[ReadableSpan], dict[int, list[ReadableSpan]]]:
        """The spans of frames since the last time, by their number, and below each the nodes', as they began."""
        finished = self._exporter.get_finished_spans()
        self._exporter.clear()
        frames = [span for span in finished if span.name == "remotemedia.frame"]
        frames.sort(key=lambda span: span.attributes["remotemedia.frame"])
        below: dict[int, list[ReadableSpan]] = {frame.context.span_id: [] for frame in frames}
        for span in sorted(finished, key=lambda s: s.start_time):
            if span.parent is not None and span.parent.span_id in below:
                below[span.parent.span_id].append(span)
        return frames, below


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.provider.shutdown()


def traceparent(span: ReadableSpan) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"


class Tell(Node):
    """Adds to a list what it sees of the trace; raises for "bad"."""

    def process(self, data: Any) -> Any:
        if data == "bad":
            raise ValueError("bad data")
        return data.array.tolist() if isinstance(data, AudioFrame) else [data, self.traceparent]


class TellAsync(Tell):
    async def process(self, data: Any) -> Any:
        return [*data, self.traceparent]


class Twice(Node):
    """Two arrays that lie in the outgoing memory."""

    def process(self, data: Any) -> Iterator[Any]:
        for _ in range(2):
            yield self.empty(3)


class TwiceAsync(Twice):
    async def process(self, data: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        for _ in range(2):
            yield self.empty(3)


class Once(Node):
    def process(self, data: Any) -> Any:
        return self.empty(3)


class Sums(Node):
    """Iterates over its inputs itself."""

    is_streaming = True

    async def process(self, data: Any) -> AsyncIterator[Any]:
        async for value in data:
            yield value, self.traceparent


class DiesOnce(Node):
    def process(self, data: Any) -> Any:
        if data == "always" or (data == "once" and self.restart_count == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return data


async def test_a_frame_is_a_child_of_its_caller_and_has_the_nodes_below_it(spans: Spans, loop_kind: str) -> None:
    nodes = [Tell(name="a"), TellAsync(name="b"), Tell(name="c", executor="inline")]
    async with WorkerPool(nodes, config=spans.config()) as pool:
        with spans.tracer.start_as_current_span("caller") as caller:
            result = await pool.process(1)
        (frame,), below = spans.take()
        assert frame.parent is not None
        assert frame.parent.span_id == caller.get_span_context().span_id
        assert frame.context.trace_id == caller.get_span_context().trace_id
        assert result == [[1, *[traceparent(frame)] * 2], traceparent(frame)]
        assert {"remotemedia.frame": 0, "remotemedia.outputs": 1}.items() <= dict(frame.attributes).items()
        children = below[frame.context.span_id]
        assert [child.name for child in children] == ["process a", "process b", "process c"]
        times = [time for child in children for time in (child.start_time, child.end_time)]
        assert [frame.start_time, *times, frame.end_time] == sorted([frame.start_time, *times, frame.end_time])
        pids = [worker.pid or os.getpid() for worker in pool.snapshot(memory=False).workers]
        assert [child.attributes["process.pid"] for child in children] == pids
        assert {span.status.status_code for span in (frame, *children)} == {StatusCode.UNSET}

        async with pool.session("caller-42") as call:
            await call.send(2)
            await call.receive()
        (frame,), _ = spans.take()
        assert frame.parent is None
        assert frame.attributes["remotemedia.session"] == "caller-42"

        # A frame that brings its own context, in a stream that belongs to somebody else.
        with spans.tracer.start_as_current_span("stream"):
            sounds = [
                AudioFrame(array=np.zeros((4, 1)), metadata={"traceparent": carried})
                for carried in (REMOTE_TRACEPARENT, "not one", 7)
            ]
            assert len([output async for output in pool.stream(sounds)]) == 3
        frames, _ = spans.take()
        assert [frame.context.trace_id == REMOTE.trace_id for frame in frames] == [True, False, False]
        assert frames[0].parent.span_id == REMOTE.span_id

        # What the caller does not record is not recorded here.
        with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0)))):
            assert await pool.process(3) == [[3, None, None], None]
        assert spans.take() == ([], {})


async def test_what_a_node_raises_is_the_error_of_its_span_and_of_the_frames(spans: Spans) -> None:
    async with WorkerPool([Add("", name="add"), Tell(name="tell"), Tell(name="on")], config=spans.config()) as pool:
        with pytest.raises(NodeProcessError):
            await pool.process("bad")
        assert (await pool.process("good"))[0][0] == "good"
    (bad, good), below = spans.take()
    assert (bad.status.status_code, good.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert bad.status.description == "process() of 'tell' raised ValueError: bad data"
    add, tell = below[bad.context.span_id]
    assert (add.status.status_code, tell.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    (event,) = tell.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert 'raise ValueError("bad data")' in event.attributes["exception.stacktrace"]
    assert [span.name for span in below[good.context.span_id]] == ["process add", "process tell", "process on"]


async def test_nothing_is_copied_for_it_and_several_calls_for_a_frame_are_one_span(spans: Spans) -> None:
    nodes = [Once(name="once"), Twice(name="twice"), TwiceAsync(name="async"), Once(name="last")]
    async with WorkerPool(nodes, config=spans.config()) as pool:
        assert len(await pool.process(0)) == 4
        assert [worker.copies for worker in pool.snapshot(memory=False).workers] == [0, 0, 0, 0]
    (frame,), below = spans.take()
    assert frame.attributes["remotemedia.outputs"] == 4
    calls = {span.name: span.attributes["remotemedia.calls"] for span in below[frame.context.span_id]}
    assert calls == {"process once": 1, "process twice": 1, "process async": 2, "process last": 4}


async def test_branches_and_a_node_that_iterates_itself_have_spans(spans: Spans) -> None:
    nodes = (Add(1), Add(10), Add(100), Sums())
    graph = Graph(nodes, ("a", "b", "c", "sums"), ((0, 1), (0, 2), (1, 3), (2, 3)))
    async with WorkerPool(graph, config=spans.config(restart=RestartPolicy.never())) as pool:
        found = [output async for output in pool.stream([0, 1])]
    frames, below = spans.take()
    contexts = [traceparent(frame) for frame in frames]
    assert found == [(11, contexts[0]), (101, contexts[0]), (12, contexts[1]), (102, contexts[1])]
    for frame in frames:
        children = {span.name: span.attributes["remotemedia.calls"] for span in below[frame.context.span_id]}
        assert children == {"process a": 1, "process b": 1, "process c": 1, "process sums": 2}


async def test_a_frame_that_is_replayed_after_kill_9_is_one_finished_trace(spans: Spans) -> None:
    config = spans.config(restart=RestartPolicy(max_restarts=10, backoff_s=(0.001, 0.002)))
    async with WorkerPool([Add("", name="a"), DiesOnce(name="b"), Add("", name="c")], config=config) as pool:
        assert [output async for output in pool.stream(["x", "once", "y"])] == ["x", "once", "y"]
        frames, below = spans.take()
        assert [frame.attributes["remotemedia.outputs"] for frame in frames] == [1, 1, 1]
        assert {frame.status.status_code for frame in frames} == {StatusCode.UNSET}
        victim = frames[1]
        (died,) = (event for event in victim.events if event.name == "worker died")
        assert died.attributes["remotemedia.node"] == "b"
        assert "SIGKILL" in died.attributes["remotemedia.reason"]
        of_b = [span for span in below[victim.context.span_id] if span.name == "process b"]
        assert [span.attributes["remotemedia.generation"] for span in of_b] == [0, 1]
        assert [span.status.status_code for span in of_b] == [StatusCode.ERROR, StatusCode.UNSET]
        assert of_b[0].status.description == "the worker died at it"
        assert of_b[0].end_time <= of_b[1].start_time
        for frame in frames:
            done = [s.name for s in below[frame.context.span_id] if s.status.status_code is StatusCode.UNSET]
            assert {"process a", "process b", "process c"} <= set(done)

        with pytest.raises(WorkerDied):
            await pool.process("always")
        (frame,), below = spans.take()
        assert frame.status.status_code is StatusCode.ERROR
        assert frame.status.description == "given up: it has killed the worker of 'b' too often"
        of_b = [span for span in below[frame.context.span_id] if span.name == "process b"]
        assert [span.status.status_code for span in of_b] == [StatusCode.ERROR] * 2


@pytest.mark.parametrize("tracing", [False, True])
async def test_frames_that_are_not_sampled_leave_no_trace(spans: Spans, tracing: bool) -> None:
    config = spans.config(sample=0) if tracing else PoolConfig()
    pool = WorkerPool([Tell(name="a"), TellAsync(name="b", executor="inline")], config=config)
    async with pool:
        with spans.tracer.start_as_current_span("caller"):
            assert await pool.process(1) == [1, None, None]
        assert pool._parts is not None
        assert (pool._parts.fabric.traces is not None) == tracing
    frames, _ = spans.take()
    assert frames == []


def test_the_context_of_a_thread_reaches_the_pool(spans: Spans) -> None:
    with WorkerPool([Tell()], config=spans.config()) as pool:
        with spans.tracer.start_as_current_span("caller") as caller:
            pool.run(1)
            list(pool.map([2, 3]))
        frames, _ = spans.take()
        assert len(frames) == 3
        assert {frame.context.trace_id for frame in frames} == {caller.get_span_context().trace_id}
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_example_in_the_documents_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "services.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    command = [sys.executable, tmp_path / "example.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    seen = re.match(r"picture, in trace 00-(\w{32})-(\w{16})-01\n", done.stdout)
    assert seen is not None
    assert done.stdout.count(f'"trace_id": "0x{seen[1]}"') == 3
    for name in ("request", "remotemedia.frame", "process Detect"):
        assert f'"name": "{name}"' in done.stdout
