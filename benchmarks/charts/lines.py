"""Lines: how a figure changes with a load; panels in a grid, y from 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.charts.scales import Linear, with_unit
from benchmarks.charts.svg import Picture
from benchmarks.summary import median

TOP, BOTTOM, MARGIN = 92.0, 38.0, 24.0
PANEL, GAP = 190.0, 26.0
LEFT, UNDER = 46.0, 40.0
"""Inside of a panel: room for the labels of the axes."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One figure over one load."""

    title: str
    unit: str
    load: str
    """What is on the x axis."""
    points: Mapping[float, Sequence[float]]
    """Of each round, by load."""


def draw(
    panels: Sequence[Panel], *, columns: int, title: str, subtitle: str, footnote: str, width: float = 980.0
) -> Picture:
    """The panels row by row; the x axes are logarithmic, each point has a label."""
    height = TOP + math.ceil(len(panels) / columns) * (PANEL + GAP) + BOTTOM
    picture = Picture(width, height, title, subtitle, footnote)
    panel_width = (width - 2 * MARGIN + GAP) / columns
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        corner = MARGIN + panel_width * column, TOP + (PANEL + GAP) * row
        _draw_panel(picture, panel, corner, panel_width - GAP)
    return picture


def _draw_panel(picture: Picture, panel: Panel, corner: tuple[float, float], width: float) -> None:
    x, y = corner
    picture.text(x, y, panel.title, size=13, is_bold=True)
    left, top, right, bottom = x + LEFT, y + 24, x + width - 18, y + PANEL - UNDER
    scale = Linear.for_values(value for rounds in panel.points.values() for value in rounds)
    for tick in scale.ticks:
        at = bottom - (bottom - top) * scale.place(tick)
        picture.line(left, at, right, at)
        picture.text(left - 6, at + 4, with_unit(tick, panel.unit), kind="muted", size=10.5, anchor="end")
    loads = sorted(panel.points)
    first, last = math.log10(loads[0]), math.log10(loads[-1])
    places = []
    for load in loads:
        part = (math.log10(load) - first) / (last - first) if last > first else 0.5
        at = left + 24 + (right - left - 44) * part
        values = panel.points[load]
        least, middle, most = (
            bottom - (bottom - top) * scale.place(value) for value in (min(values), median(values), max(values))
        )
        picture.line(at, least, at, most, "whisker")
        places.append((at, middle))
        picture.text(at, bottom + 16, _load(load), kind="muted", size=10.5, anchor="middle")
    picture.text((left + right) / 2, bottom + 32, f"{panel.load} (log scale)", kind="muted", size=10.5, anchor="middle")
    picture.path(places, "ours-line")
    for (at, middle), load in zip(places, loads, strict=True):
        picture.dot(at, middle, "ours")
        label = with_unit(median(panel.points[load]), panel.unit)
        picture.text(at, middle - 9 if middle - 9 > top - 8 else middle + 18, label, size=11, anchor="middle")


def _load(load: float) -> str:
    power = round(math.log10(load))
    if load >= 1000 and math.isclose(load, 10.0**power):
        return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(power))
    return f"{load:g}"
