"""The coordinator's side of tracing: from frames to OpenTelemetry spans. Imported by pools that trace, and by no other.

It stands around the two ends of a pool, where frames go in and where they come out. A frame that is traced gets a span
when it goes in, whose parent is the caller's; when its last output has come out, what the nodes have written in the
table (remotemedia.workers.traces) becomes their spans below it.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from remotemedia._version import __version__
from remotemedia.config import Tracing
from remotemedia.core.exceptions import ProtocolError
from remotemedia.core.frames import MediaFrame
from remotemedia.core.remote_errors import RemoteTraceback
from remotemedia.events import Closed, Died, Event, Restarted
from remotemedia.ipc.channel import FAILED, LAST, MARK, Frame, Sender, Stamp
from remotemedia.ipc.messages import Failed, decode
from remotemedia.workers.inbox import Inbox
from remotemedia.workers.traces import Run, TraceTable

_logger = logging.getLogger("remotemedia.tracing")
_propagator = TraceContextTextMapPropagator()


class _Traced:
    """A frame that is traced, from its going in to its last output."""

    __slots__ = ("failures", "outputs", "runs", "span", "to_wall_ns")

    def __init__(self, span: Span, to_wall_ns: int) -> None:
        self.span, self.to_wall_ns = span, to_wall_ns
        """What is to be added to the monotonic clock: taken once, so that a wall clock that is set does not tear the
        trace apart."""
        self.outputs = 0
        self.runs: list[tuple[Run, str]] = []
        """Of workers that have been replaced meanwhile, with what went wrong ("": nothing)."""
        self.failures: list[Failed] = []

    def wall_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns + self.to_wall_ns


class PoolTracing:
    """The traces of one pool. Belongs to its loop's thread."""

    def __init__(self, settings: Tracing, node_ids: tuple[str, ...]) -> None:
        self._sample = settings.sample
        self._tracer = trace.get_tracer("remotemedia", __version__, settings.tracer_provider)
        self._node_ids = node_ids
        self._session_names: Mapping[int, str] = {}
        self._table: TraceTable | None = None
        self._open: dict[int, _Traced] = {}

    def around(
        self, feed: Sender, collect: Inbox, table: TraceTable, session_names: Mapping[int, str]
    ) -> tuple[Sender, Inbox]:
        """The two ends of the pool, watched. `session_names`: of those that are under way, by number."""
        self._table, self._session_names = table, session_names
        return cast("Sender", _Feed(feed, self)), cast("Inbox", _Collect(collect, self))

    # -- a frame -------------------------------------------------------------------------------------------------------

    def went_in(self, parcel: Any, stamp: Stamp) -> None:
        """A frame is about to be sent. Most are not traced: that is found out first."""
        if random.random() >= self._sample or stamp.flags != LAST:  # noqa: S311 - no secret; others carry no data
            return
        with _harmless():
            self._begin(parcel, stamp)

    def _begin(self, parcel: Any, stamp: Stamp) -> None:
        number, table = stamp.number, self._table
        if table is None or not table.has_room(number):
            return
        began_ns = time.perf_counter_ns()
        to_wall_ns = time.time_ns() - began_ns
        attributes: dict[str, Any] = {"remotemedia.frame": number, "remotemedia.bytes": parcel.nbytes}
        if stamp.session in self._session_names:
            attributes["remotemedia.session"] = self._session_names[stamp.session]
        span = self._tracer.start_span(
            "remotemedia.frame", parcel.parent, attributes=attributes, start_time=began_ns + to_wall_ns
        )
        if span.is_recording():
            context = span.get_span_context()
            table.open(number, context.trace_id, context.span_id)
            self._open[number] = _Traced(span, to_wall_ns)

    def came_out(self, frame: Frame) -> None:
        """A frame was taken at the end of the pipeline."""
        traced = self._open.get(frame.number)
        if traced is None:
            return
        if frame.flags & FAILED:
            traced.failures.append(_failure_in(frame.value))
        elif frame.value is not MARK:
            traced.outputs += 1
        if frame.flags & LAST:
            self._finish(frame.number, "")

    def _finish(self, number: int, problem: str) -> None:
        """Nothing more will happen to this frame. `problem`: why it has not come out, "" if it has."""
        assert self._table is not None
        traced = self._open.pop(number)
        with _harmless():
            self._tell(traced, self._table.runs(number), problem)
        self._table.close(number)

    def _tell(self, traced: _Traced, runs: list[Run], problem: str) -> None:
        """Make the spans of the nodes, and end the frame's. `runs`: the last one of each node."""
        known = {(run.worker_id, run.generation) for run, _ in traced.runs}
        last = [run for run in runs if (run.worker_id, run.generation) not in known]
        now_ns = time.perf_counter_ns()
        failures = {failure.worker_id: failure for failure in traced.failures}
        for run, why in sorted([*traced.runs, *((run, "") for run in last)], key=lambda item: item[0].began_ns):
            failure = failures.get(run.worker_id) if run.failed and run in last else None
            self._node_span(traced, run, now_ns, why, failure)
        span = traced.span
        span.set_attribute("remotemedia.outputs", traced.outputs)
        if traced.failures:
            problem = _told(traced.failures[0], self._node_ids)
        if problem:
            span.set_status(StatusCode.ERROR, problem)
        span.end(traced.wall_ns(now_ns))

    def _node_span(self, traced: _Traced, run: Run, now_ns: int, why: str, failure: Failed | None) -> None:
        node = self._node_ids[run.worker_id]
        span = self._tracer.start_span(
            f"process {node}",
            trace.set_span_in_context(traced.span, Context()),
            attributes={
                "remotemedia.node": node,
                "remotemedia.worker": run.worker_id,
                "remotemedia.generation": run.generation,
                "remotemedia.calls": run.calls,
                "process.pid": run.pid,
            },
            start_time=traced.wall_ns(run.began_ns),
        )
        ended_ns = traced.wall_ns(run.ended_ns or now_ns)
        if failure is not None:
            span.add_event("exception", _as_attributes(failure), ended_ns)
        if why or run.failed or not run.ended_ns:
            told = f"process() raised {_name_of(failure)}" if failure is not None else "process() raised"
            span.set_status(StatusCode.ERROR, why or (told if run.ended_ns else "it had not ended"))
        span.end(ended_ns)

    # -- the pool ------------------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """A sink for the events of the pool: deaths and restarts belong to the frames that they have touched."""
        if isinstance(event, Died):
            self._keep_runs(event, "the worker died at it")
        elif isinstance(event, Restarted):
            self._keep_runs(event, "the worker was replaced at it")
        elif isinstance(event, Closed):
            self.fail("the pool was closed")

    def _keep_runs(self, event: Event, why: str) -> None:
        """What the old generation of a worker has written, before the next one overwrites it."""
        assert self._table is not None
        assert event.worker_id is not None
        now_ns = time.perf_counter_ns()
        for number, traced in self._open.items():
            run = self._table.run(number, event.worker_id)
            known = {(kept.worker_id, kept.generation) for kept, _ in traced.runs}
            if run is None or (run.worker_id, run.generation) in known:
                continue
            at_it = not run.ended_ns
            traced.runs.append((run._replace(ended_ns=run.ended_ns or now_ns), why if at_it else ""))
            attributes: dict[str, Any] = {
                "remotemedia.node": event.node,
                "remotemedia.generation": event.generation,
                "remotemedia.reason": event.reason.partition("\n")[0],
            }
            traced.span.add_event(f"worker {event.words}", attributes, traced.wall_ns(now_ns))

    def fail(self, problem: str) -> None:
        """Nothing will come out any more."""
        for number in list(self._open):
            self._finish(number, problem.partition("\n")[0])


@contextmanager
def _harmless() -> Iterator[None]:
    """Whatever samplers, processors and exporters of the user raise is logged: frames go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the user's own matter
        # As text: who keeps log records must not keep the pool with them.
        _logger.error("OpenTelemetry raised for a frame\n%s", RemoteTraceback.of(error).traceback)  # noqa: TRY400


class _Parcel(NamedTuple):
    """A frame that is ready to be sent, and the context that it belongs to (None: of whoever sends it)."""

    parcel: Any
    nbytes: int
    parent: Context | None


class _Feed:
    """The sending end of the coordinator, watched (see remotemedia.ipc.channel.Sender)."""

    def __init__(self, feed: Sender, tracing: PoolTracing) -> None:
        self._feed, self._tracing = feed, tracing
        self.has_credit, self.attend, self.demand = feed.has_credit, feed.attend, feed.demand

    def pack(self, value: Any) -> _Parcel:
        parcel = self._feed.pack(value)
        return _Parcel(parcel, parcel.nbytes, _own_context(value))

    def send(self, parcel: _Parcel, stamp: Stamp) -> None:
        self._tracing.went_in(parcel, stamp)
        self._feed.send(parcel.parcel, stamp)


class _Collect:
    """The collecting end of the coordinator, watched (see Inbox)."""

    def __init__(self, collect: Inbox, tracing: PoolTracing) -> None:
        self._take, self._tracing = collect.take, tracing
        self.acknowledge = collect.acknowledge

    def take(self) -> Frame | None:
        frame = self._take()
        if frame is not None:
            self._tracing.came_out(frame)
        return frame


def _own_context(value: Any) -> Context | None:
    """The context that a typed frame carries in its metadata, if it does."""
    if not isinstance(value, MediaFrame):
        return None
    carried = value.metadata.get("traceparent")
    return _propagator.extract({"traceparent": carried}) if isinstance(carried, str) else None


def _failure_in(data: bytes) -> Failed:
    with suppress(ProtocolError):
        report = decode(data, "to_coordinator")
        if isinstance(report, Failed):
            return report
    unknown = RemoteTraceback(type_name="", text="what was raised cannot be read").as_mapping()
    return Failed(phase="process", error=unknown)


def _name_of(failure: Failed) -> str:
    return str(failure.error["type_name"]).replace(":", ".").removeprefix("builtins.")


def _told(failure: Failed, node_ids: tuple[str, ...]) -> str:
    node = node_ids[failure.worker_id] if failure.worker_id is not None else "?"
    if failure.phase == "died":
        return f"given up: it has killed the worker of {node!r} too often"
    return f"{failure.phase}() of {node!r} raised {_name_of(failure)}: {failure.error['text']}"


def _as_attributes(failure: Failed) -> dict[str, Any]:
    """As OpenTelemetry's conventions call the parts of an exception."""
    return {
        "exception.type": _name_of(failure),
        "exception.message": str(failure.error["text"]),
        "exception.stacktrace": str(failure.error.get("traceback", "")),
    }
