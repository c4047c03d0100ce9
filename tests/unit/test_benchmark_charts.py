"""Pictures of results: scales, labels, and that the SVG shows what the report says."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

import benchmarks.__main__ as command_line
from benchmarks import charts, floors, growth, w1_roundtrip, w2_streaming
from benchmarks.charts import bars, svg
from benchmarks.charts.bars import Column
from benchmarks.charts.scales import Linear, Log, with_unit
from benchmarks.peers import OURS
from benchmarks.report import NOT_RECOVERED, Report

WHERE = {"cpu_model": "A <fast> CPU & more", "cores": 2, "python": "3.11", "commit": "abc", "date": "2026-01-02T03:04"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("values", "end", "step"),
    [([97.0], 100, 50), ([100.0], 100, 50), ([101.0], 150, 50), ([0.37], 0.4, 0.1), ([3, 4], 4, 1), ([], 1.0, 0.5)],
)
def test_a_linear_scale_ends_at_a_round_value_above_all(values, end, step):
    scale = Linear.for_values(values)
    assert scale.end == pytest.approx(end)
    assert scale.step == pytest.approx(step)
    assert scale.ticks[0] == 0
    assert scale.ticks[-1] == pytest.approx(end)
    assert 2 <= len(scale.ticks) <= 5
    assert [scale.place(value) for value in (0, end / 2, end, 2 * end)] == pytest.approx([0, 0.5, 1, 1])


def test_a_scale_of_zeros_has_a_length():
    assert Linear.for_values([0, 0]).place(0) == 0


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([49, 3900], [10, 100, 1000, 10_000]), ([100, 1000], [100, 1000]), ([5], [1, 10]), ([0.7, 0.9], [0.1, 1])],
)
def test_a_log_scale_runs_between_powers_of_ten(values, ticks):
    scale = Log.for_values(values)
    assert scale.ticks == pytest.approx(ticks)
    assert scale.place(ticks[0]) == 0
    assert scale.place(ticks[-1]) == 1
    assert all(0 <= scale.place(value) <= 1 for value in values)


def test_equal_ratios_are_equal_lengths_on_a_log_scale():
    scale = Log(first=1, last=4)
    assert scale.place(200) - scale.place(20) == pytest.approx(scale.place(2000) - scale.place(200))
    assert scale.place(0) == 0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (75.16, "µs", "75.2 µs"), (1040, "µs", "1.04 ms"), (0.7, "µs", "0.7 µs"), (999.9, "µs", "1 ms"),
        (100, "µs", "100 µs"), (27, "ms", "27 ms"), (2500, "ms", "2.5 s"), (0, "ms", "0"), (24239, "/s", "24.2k"),
        (37, "/s", "37"), (100_000, "/s", "100k"), (388, "MB", "388 MB"), (0.15, "%", "0.15 %"), (4, "", "4"),
    ],
)  # fmt: skip
def test_labels_have_the_unit_that_suits_them(value, unit, text):
    assert with_unit(value, unit) == text


def texts(path_or_text) -> list[str]:
    return [element.text for element in ET.fromstring(str(path_or_text)).iter(f"{SVG}text")]


def elements(picture, kind: str) -> list[dict[str, str]]:
    return [element.attrib for element in ET.fromstring(str(picture)).iter() if element.get("class") == kind]


def columns() -> list[Column]:
    times = {"ring": [45.0, 50.0, 60.0], OURS: [100.0], f"{OURS}, no restarts": [98.0], "theirs": [1000.0]}
    floor = ("bare wake-up", 44.0)
    return [
        Column(title="4 KB", unit="µs", values=times, is_log=True, floor=floor),
        Column(title="recovery", unit="ms", values={OURS: [90.0]}, words={"theirs": "never"}),
    ]


def test_bars_mark_the_product_the_floor_and_the_log_scale():
    picture = bars.draw(columns(), title="T", subtitle="S", footnote="F")
    shown = {"T", "S", "F", "4 KB", "log scale", "bare wake-up: 44 µs", "50 µs", "1 ms", "never", "-"}
    assert shown <= set(texts(picture))
    bars_of_ours = [item for item in elements(picture, "ours") if "height" in item]
    assert len(bars_of_ours) == 2  # one in each column
    assert len([item for item in elements(picture, "kin") if "height" in item]) == 1
    assert len(elements(picture, "stripe")) == 1
    assert len(elements(picture, "floor-line")) == 1
    assert len(elements(picture, "whisker")) == 1  # only the ring's rounds differ


def test_a_bar_ends_where_its_value_is():
    picture = bars.draw(columns()[:1], title="", subtitle="", footnote="")
    (ring, theirs) = [float(item["width"]) for item in elements(picture, "other")]
    (floor,) = elements(picture, "floor-line")
    left = float(elements(picture, "other")[0]["x"])
    assert theirs / ring == pytest.approx((3 - 1) / (Log(1, 3).place(50) * 2), rel=0.02)
    assert float(floor["x1"]) - left == pytest.approx(theirs * Log(1, 3).place(44), abs=0.2)


def test_every_class_has_a_colour_in_light_and_in_dark():
    assert svg.LIGHT.keys() == svg.DARK.keys()
    light, _, dark = svg.STYLE.partition("@media (prefers-color-scheme: dark)")
    for kind in ("card", "text", "muted", "other", "ours", "kin", "floor", "stripe", "rule", "floor-line", "whisker"):
        assert f".{kind} {{" in light
        assert f".{kind} {{" in dark


def sample() -> Report:
    report = Report()
    for name, us in ((OURS, 100.0), ("theirs", 300.0), (w1_roundtrip.FLOOR, 44.0)):
        report.add("W1", "4 KB", name, {"median_us": us, "p99_us": us})
    report.add(floors.NAME, "4 KB", floors.COPY, {"median_us": 0.7})
    for case in w2_streaming.CASES:
        report.add("W2", case, OURS, {"frames_per_s": 5000.0, "cpu_s_per_1000": 0.2, "pss_mb": 150.0})
    report.add("W3", "4 stages", OURS, {"first_result_ms": 58.0})
    report.add("W5", "4 KB", OURS, {"next_result_ms": 90.0, "full_rate_ms": 120.0})
    report.fail("W5", "4 KB", "theirs", NOT_RECOVERED, "no result within 5 s")
    for number, case in enumerate(growth.STAGES):
        report.add("growth", case, OURS, {"cpu_us_per_hop": 40.0 + number, "pss_mb": 80.0})
    return report


def test_a_result_file_becomes_pictures(tmp_path, monkeypatch, capsys):
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"environment": WHERE, **sample().as_json()}))
    monkeypatch.setattr(command_line, "IMAGES", tmp_path / "images")
    assert command_line.main(["--plot", str(result)]) == 0
    images = {path.stem: path.read_text() for path in (tmp_path / "images").iterdir()}
    assert set(images) == {"round-trip", "streaming", "cost", "start", "recovery", "growth"}
    assert capsys.readouterr().out.count(".svg") == len(images)
    for text in images.values():
        assert any("A <fast> CPU & more" in line for line in texts(text))
    assert {"100 µs", "300 µs", "bare wake-up: 44 µs"} <= set(texts(images["round-trip"]))
    assert "one copy: 0.7 µs" in texts(images["cost"])
    assert {"90 ms", "120 ms", "never"} <= set(texts(images["recovery"]))
    assert {"16", "44 µs", "stages (log scale)"} <= set(texts(images["growth"]))


def test_no_text_leaves_its_picture(tmp_path):
    where = WHERE | {"cpu_model": "AMD EPYC 9654 96-Core Processor with a long name"}
    for path in charts.draw_all(sample(), where, tmp_path):
        root = ET.fromstring(path.read_text())
        for text in root.iter(f"{SVG}text"):
            part = {"start": 1.0, "middle": 0.5, "end": 0.0}[text.get("text-anchor")]
            right = float(text.get("x")) + part * svg.text_width(text.text, float(text.get("font-size")))
            assert right < float(root.get("width")), text.text


def test_what_was_not_measured_has_no_picture(tmp_path):
    report = Report()
    report.add("W3", "4 stages", OURS, {"first_result_ms": 58.0})
    assert [path.stem for path in charts.draw_all(report, WHERE, tmp_path)] == ["start"]
