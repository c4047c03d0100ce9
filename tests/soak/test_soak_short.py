"""A soak of some seconds, and that a soak notices what it is there to notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remotemedia.testing import soak as soaks
from remotemedia.testing.soak import Soak, live, main, report, tolerances


@pytest.mark.timeout(120)
async def test_sessions_and_streams_come_and_go_while_workers_are_killed() -> None:
    soak = await live(3.0, 1.0)
    assert soak.wrong == []
    assert soak.kills > 0
    assert soak.streams > 0
    assert soak.sessions > 0
    assert soak.frames >= soak.streams * 50
    assert soak.readings
    assert max(reading.descriptors for reading in soak.readings) > 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_seconds_as_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", str(10 / 60), "--kill-every", "3"]) == 0
    printed = capsys.readouterr().out
    assert "passed: nothing grows, every output was right" in printed
    for gauge in ("own_pss", "tree_pss", "descriptors", "threads", "shm_bytes", "latency_us", "verdict"):
        assert gauge in printed


async def test_what_grows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors leak between the readings of pools that are made one after the other."""
    left: list[Any] = []
    gauges_read = soaks.Gauges.read

    def read_after_leak() -> Any:
        left.extend(Path("/dev/null").open() for _ in range(2))  # noqa: SIM115 - that is the leak
        return gauges_read()

    monkeypatch.setattr(soaks.Gauges, "read", read_after_leak)
    soak = await soaks.cycle(6, workers=0)
    for file in left:
        file.close()
    lines = soak.trends(tolerances(hours=0.0))
    assert [line.name for line in lines if not line.is_flat] == ["descriptors"]
    assert "failed: descriptors" in report(soak, lines, "cycle")


async def test_a_soak_whose_gauges_fail_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise OSError("no /proc")

    monkeypatch.setattr(soaks.Gauges, "read", broken)
    monkeypatch.setattr(soaks, "_READ_S", 0.01)
    with pytest.raises(OSError, match="no /proc"):
        await live(0.3, 3600.0)


def test_a_slower_and_slower_pool_is_noticed() -> None:
    soak = Soak()
    for second in range(20):
        for _ in range(50):
            soak.took(0.001 * second)
        soak.read(float(second))
    (latency,) = [line for line in soak.trends({}) if line.name == "latency_us"]
    assert not latency.is_flat
    assert latency.slope == pytest.approx(1000.0)


async def test_a_wrong_output_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class AddTwo(soaks.Add):
        def process(self, data: Any) -> Any:
            return super().process(data) + 1

    monkeypatch.setattr(soaks, "Add", AddTwo)
    soak = await live(0.1, 3600.0)
    assert any(line.startswith("stream 1: output 0 is wrong") for line in soak.wrong)
    assert any(line.startswith("session 1: output 0 is wrong") for line in soak.wrong)
    assert "failed: wrong outputs" in report(soak, [], "second")


def test_what_is_too_short_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--minutes", "0.001"])
    assert caught.value.code == 2
    assert "too short" in capsys.readouterr().err
