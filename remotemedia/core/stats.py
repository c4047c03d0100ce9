"""Counters and a latency histogram of one node; as plain integers, so that they can live in shared memory."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

_SUB = 8  # buckets per octave: a quantile is right within 1/16 of its value
_OCTAVES = 40  # 2**40 ns = 18 minutes
BUCKETS = _SUB * _OCTAVES

CALLS, ERRORS, RESTARTS, BUSY_NS, BYTES_IN, BYTES_OUT, COPIES, BYTES_COPIED, SKIPPED, TAKEN, PASSED_ON = range(11)
"""SKIPPED: inputs without output because of an error. TAKEN, PASSED_ON: the numbers, plus one, of the input that was
taken last and of what was sent last.
"""
FIELDS = 16  # the histogram starts here
SIZE = FIELDS + BUCKETS


def bucket(ns: int) -> int:
    """Index of the histogram bucket of a duration: log-linear, 8 per octave."""
    exponent = ns.bit_length() - 4
    if exponent <= 0:
        return ns
    return min(exponent * _SUB + (ns >> exponent), BUCKETS - 1)


def bucket_value(index: int) -> float:
    """The middle of a bucket, in ns; inverse of `bucket`."""
    if index < 2 * _SUB:
        return float(index)
    exponent, rest = index // _SUB - 1, index % _SUB + _SUB
    return (rest + 0.5) * (1 << exponent)


class NodeStats:
    """Counts calls and durations. `values` (default: a list) may be any sequence of at least SIZE integers."""

    __slots__ = ("values",)

    def __init__(self, values: MutableSequence[int] | memoryview | None = None) -> None:
        self.values: Any = [0] * SIZE if values is None else values

    def record(self, duration_ns: int) -> None:
        """One finished call."""
        values = self.values
        values[CALLS] += 1
        values[BUSY_NS] += duration_ns
        values[bucket(duration_ns) + FIELDS] += 1

    @property
    def progress(self) -> int:
        """A number that has changed if there was a call since."""
        return int(self.values[CALLS])

    def quantile_us(self, q: float) -> float:
        """The q-quantile (0..1) of the durations, in µs; 0 if there were none."""
        histogram = self.values[FIELDS:SIZE]
        total = sum(histogram)
        rank, seen = q * total, 0
        for index, count in enumerate(histogram):
            seen += count
            if count and seen >= rank:
                return bucket_value(index) / 1e3
        return 0.0

    def as_dict(self, node_id: str) -> dict[str, Any]:
        """The metrics of one node, as `execute_pipeline(enable_metrics=True)` gives them."""
        v = self.values
        calls = int(v[CALLS])
        return {
            "node_id": node_id,
            "calls": calls,
            "avg_duration_us": v[BUSY_NS] / calls / 1e3 if calls else 0.0,
            "p50_us": self.quantile_us(0.5),
            "p99_us": self.quantile_us(0.99),
            "errors": int(v[ERRORS]),
            "restarts": int(v[RESTARTS]),
            "bytes_in": int(v[BYTES_IN]),
            "bytes_out": int(v[BYTES_OUT]),
            "copies": int(v[COPIES]),
            "bytes_copied": int(v[BYTES_COPIED]),
        }
