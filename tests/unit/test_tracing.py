"""Which frames are traced, and what is written of them, without any process."""

from __future__ import annotations

import itertools
import logging
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from remotemedia.config import PoolConfig, Tracing
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.node import Node
from remotemedia.events import Closed, Died, Restarted
from remotemedia.ipc.channel import END, FAILED, LAST, MARK, OPEN, Frame, Stamp
from remotemedia.ipc.ledger import WORD
from remotemedia.workers import tracing
from remotemedia.workers.pool import WorkerPool
from remotemedia.workers.traced_node import TracedNode
from remotemedia.workers.traces import TraceTable, row_words, rows_for

ROWS = 4


@pytest.fixture
def table() -> TraceTable:
    return TraceTable(memoryview(bytearray(ROWS * row_words(2) * WORD)).cast("Q"), 2)


class Parcel:
    nbytes = 5


class Ends:
    """Both ends of a pool: what is sent comes out when it is asked for."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.out: list[Frame] = []
        self.has_credit = self.attend = self.demand = self.acknowledge = lambda *_: True

    def pack(self, _value: Any) -> Any:
        return Parcel()

    def send(self, parcel: Any, stamp: Stamp) -> None:
        assert isinstance(parcel, Parcel)
        self.sent.append((stamp.number, stamp.flags))

    def take(self) -> Frame | None:
        return self.out.pop(0) if self.out else None


class Traced:
    """A PoolTracing between such ends."""

    def __init__(self, table: TraceTable, sample: float = 1.0, processor: SpanProcessor | None = None) -> None:
        self.exporter, self.ends = InMemorySpanExporter(), Ends()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor or SimpleSpanProcessor(self.exporter))
        self.tracing = tracing.PoolTracing(Tracing(sample=sample, tracer_provider=provider), ("a", "b"))
        ends = cast("Any", self.ends)
        self.feed, self.collect = self.tracing.around(ends, ends, table, {3: "call"})

    def send(self, number: int, flags: int = LAST, session: int = 0) -> None:
        self.feed.send(self.feed.pack(0), Stamp(number, 0, flags, session))

    def take(self, number: int, value: Any = 0, flags: int = LAST) -> None:
        self.ends.out.append(Frame(value, number, 0, 0, flags, 5, None, 0))
        assert self.collect.take() is not None

    @property
    def frames(self) -> dict[int, ReadableSpan]:
        spans = self.exporter.get_finished_spans()
        frames = [span for span in spans if span.name == "remotemedia.frame"]
        return {cast("int", (span.attributes or {})["remotemedia.frame"]): span for span in frames}


def test_as_many_are_traced_as_are_to_be_sampled(table: TraceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.cycle([0.0, 0.49, 0.5, 0.99])
    monkeypatch.setattr(tracing.random, "random", lambda: next(numbers))
    traced = Traced(table, sample=0.5)
    for number in range(8):
        traced.send(number)
        traced.take(number)
    assert sorted(traced.frames) == [0, 1, 4, 5]
    assert traced.ends.sent == [(number, LAST) for number in range(8)]
    assert traced.collect.take() is None


def test_what_carries_no_data_is_not_traced(table: TraceTable) -> None:
    traced = Traced(table)
    for number, flags in enumerate([OPEN | LAST, LAST | END]):
        traced.send(number, flags, session=3)
        traced.take(number, MARK, flags)
    traced.send(2, session=3)
    traced.take(2, MARK)
    assert list(traced.frames) == [2]
    attributes = traced.frames[2].attributes or {}
    assert (attributes["remotemedia.session"], attributes["remotemedia.outputs"]) == ("call", 0)


def test_a_frame_that_finds_no_row_is_not_traced(table: TraceTable) -> None:
    traced = Traced(table)
    for number in range(ROWS + 1):
        traced.send(number)
    for number in range(ROWS + 1):
        traced.take(number)
    traced.send(2 * ROWS)
    traced.take(2 * ROWS)
    assert sorted(traced.frames) == [0, 1, 2, 3, 2 * ROWS]


def test_frames_that_never_come_out_end_with_the_pool(table: TraceTable) -> None:
    traced = Traced(table)
    traced.send(0)
    traced.tracing.fail("the pool broke\nwith many words")
    traced.send(1)
    traced.tracing.on_event(Closed())
    assert [traced.frames[n].status.description for n in (0, 1)] == ["the pool broke", "the pool was closed"]
    assert all(span.status.status_code is StatusCode.ERROR for span in traced.frames.values())
    assert all(table.has_room(number) for number in range(ROWS))


def test_what_an_exporter_raises_does_no_harm(table: TraceTable, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("begins badly")

    traced = Traced(table, processor=Broken())
    with caplog.at_level(logging.ERROR, "remotemedia.tracing"):
        traced.send(0)
        traced.take(0)
    assert traced.ends.sent == [(0, LAST)]
    assert "begins badly" in caplog.text
    assert table.has_room(0)


def test_an_error_that_cannot_be_read_is_one_still(table: TraceTable) -> None:
    traced = Traced(table)
    traced.send(0)
    traced.take(0, b"no message", FAILED | LAST)
    assert traced.frames[0].status.status_code is StatusCode.ERROR


class Double(Node):
    def process(self, data: int) -> int:
        if data < 0:
            raise ValueError(data)
        return 2 * data


def test_a_node_writes_what_it_does_and_only_for_frames_that_are_traced(table: TraceTable) -> None:
    node, number = Double(), 0
    process = TracedNode(node, table, 1, generation=3).process_of(lambda: number)
    assert process(5) == 10
    assert table.runs(0) == []
    table.open(6, (7 << 64) + 8, 9)
    number = 6 + ROWS  # another frame in the same row
    assert process(5) == 10
    assert table.runs(6) == table.runs(6 + ROWS) == []
    number = 6
    for calls in (1, 2):
        assert process(5) == 10
        (run,) = table.runs(6)
        assert (run.worker_id, run.generation, run.calls, run.failed) == (1, 3, calls, False)
        assert 0 < run.began_ns <= run.ended_ns
    with pytest.raises(ValueError, match="-1"):
        process(-1)
    assert table.runs(6)[0].failed
    assert table.traceparent(6) == f"00-{7:016x}{8:016x}-{9:016x}-01"
    assert node.traceparent is None
    TracedNode(node, table, 1, generation=4).begin(6)
    (run,) = table.runs(6)
    assert (run.generation, run.calls, run.ended_ns, run.failed) == (4, 1, 0, False)


def test_the_work_of_an_old_generation_is_kept(table: TraceTable) -> None:
    traced = Traced(table)
    node = TracedNode(Double(), table, 1)
    for number in (0, 1):
        traced.send(number)
        node.begin(number)
        if number == 0:
            node.end()
    traced.tracing.on_event(Died(node="b", worker_id=1, reason="killed\nby somebody"))
    traced.tracing.on_event(Restarted(node="b", worker_id=1, generation=1))
    for number in (0, 1):
        TracedNode(Double(), table, 1, generation=1).begin(number)
        table.entry(number, 1)[2] = table.entry(number, 1)[1]  # ended as it began
        traced.take(number)
    of_node = [s for s in traced.exporter.get_finished_spans() if s.name == "process b"]
    facts = [((s.attributes or {})["remotemedia.generation"], s.status.description) for s in of_node]
    assert facts == [(0, None), (1, None), (0, "the worker died at it"), (1, None)]
    for frame in traced.frames.values():
        assert frame.status.status_code is StatusCode.UNSET
        (event,) = frame.events
        assert (event.name, (event.attributes or {})["remotemedia.reason"]) == ("worker died", "killed")


def test_there_are_no_more_rows_than_frames_under_way() -> None:
    assert (rows_for(1), rows_for(32), rows_for(10**9)) == (1, 32, 256)


@pytest.mark.parametrize(
    "settings",
    [{"sample": -0.1}, {"sample": 1.5}, {"sample": True}, {"sample": "1"}, {"tracer_provider": object()}],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Tracing(**settings)


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "remotemedia.workers.tracing", None)
    with pytest.raises(ConfigurationError, match=r"remotemedia\[otel\]"):
        WorkerPool([Double()], config=PoolConfig(tracing=Tracing()))
    with pytest.raises(ConfigurationError, match="a Tracing"):
        PoolConfig(tracing=cast("Any", 0.1))
