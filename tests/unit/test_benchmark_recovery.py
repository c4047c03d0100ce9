"""What the times of results say about a kill."""

from __future__ import annotations

import pytest

from benchmarks.recovery import WINDOW_S, recovery_of

STEP = 0.001


def stream(first: float, last: float, step: float = STEP) -> list[float]:
    return [first + step * index for index in range(round((last - first) / step))]


def test_the_standstill_ends_with_the_next_result_and_the_rate_is_back_later():
    leaving = [1.001, 1.002, 1.003]  # had passed the dead stage
    slow, full = stream(1.2, 1.3, step=0.01), stream(1.3, 1.6)
    figures = recovery_of([*stream(0.0, 1.0), *leaving, *slow, *full], killed=1.0, in_flight=8)
    assert figures["next_result_ms"] == pytest.approx(200)
    assert 280 <= figures["full_rate_ms"] <= 300
    assert figures["rate_before"] == pytest.approx(1000, rel=0.05)


def test_a_longer_pause_much_later_is_not_the_recovery():
    after = [*stream(1.1, 1.4), *stream(1.9, 2.2)]
    figures = recovery_of([*stream(0.0, 1.0), *after], killed=1.0, in_flight=8)
    assert figures["next_result_ms"] == pytest.approx(100)
    assert figures["full_rate_ms"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (stream(0.0, 1.0), "no result came after the kill"),
        ([*stream(0.0, 1.0), *stream(1.1, 2.0, step=WINDOW_S)], "never at 80% of the rate before"),
        (stream(1.1, 1.4), "no result came before the kill"),
        ([*stream(0.97, 1.0), 1.1], "are needed"),
    ],
)
def test_what_cannot_be_told_is_said(times, message):
    with pytest.raises(ValueError, match=message):
        recovery_of(times, killed=1.0, in_flight=8)
