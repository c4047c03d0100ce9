"""Counters and the latency histogram, against numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core import stats
from remotemedia.core.stats import BUCKETS, SIZE, NodeStats, bucket, bucket_value

durations = st.integers(0, 2**40 - 1)


@given(durations)
def test_a_bucket_stands_for_its_durations_within_a_sixteenth(ns):
    assert bucket_value(bucket(ns)) == pytest.approx(ns, rel=1 / 16, abs=0.5)


@given(durations, durations)
def test_buckets_are_in_order(a, b):
    low, high = sorted((a, b))
    assert 0 <= bucket(low) <= bucket(high) < BUCKETS


def test_bucket_and_its_value_are_inverse():
    assert [bucket(int(bucket_value(index))) for index in range(BUCKETS)] == list(range(BUCKETS))


def test_durations_beyond_the_range_count_in_the_last_bucket():
    assert bucket(2**60) == BUCKETS - 1


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_agree_with_numpy(values, q):
    node = NodeStats()
    for value in values:
        node.record(value)
    exact = np.quantile(np.array(values, dtype=np.float64), q, method="inverted_cdf")
    neighbours = {exact, *(np.quantile(values, np.clip(q + d, 0, 1), method="inverted_cdf") for d in (-1e-9, 1e-9))}
    assert any(node.quantile_us(q) * 1e3 == pytest.approx(value, rel=1 / 16, abs=0.5) for value in neighbours)


@given(st.lists(durations, max_size=50))
def test_counts_and_mean(values):
    node = NodeStats()
    for value in values:
        node.record(value)
    metrics = node.as_dict("n")
    assert metrics["calls"] == len(values)
    assert metrics["avg_duration_us"] == pytest.approx(np.mean(values) / 1e3 if values else 0)


def test_without_calls_everything_is_zero():
    metrics = NodeStats().as_dict("detector")
    assert metrics.pop("node_id") == "detector"
    assert set(metrics.values()) == {0}
    assert set(metrics) == {
        "calls", "avg_duration_us", "p50_us", "p99_us", "errors", "restarts", "bytes_in", "bytes_out", "copies",
        "bytes_copied",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["errors", "restarts", "bytes_in", "bytes_out", "copies", "bytes_copied"])
def test_each_counter_has_a_place_of_its_own(name):
    node = NodeStats()
    node.values[getattr(stats, name.upper())] = 7
    metrics = node.as_dict("n")
    assert [key for key, value in metrics.items() if value == 7] == [name]


def test_it_counts_in_foreign_memory():
    memory = np.zeros(SIZE, np.int64)
    writer, reader = NodeStats(memoryview(memory)), NodeStats(memory)
    writer.record(1500)
    assert reader.as_dict("n")["calls"] == 1
    assert reader.quantile_us(0.5) == pytest.approx(1.5, rel=1 / 16)
