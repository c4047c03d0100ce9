"""Bars: contestants in rows, questions in columns, each column with an axis of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.charts.scales import Linear, Log, Scale, with_unit
from benchmarks.charts.svg import Picture, text_width
from benchmarks.peers import OURS
from benchmarks.summary import median

ROW, BAR = 24.0, 13.0
TOP = 122.0
"""Where the first row begins: below the titles and the labels of floors."""
BOTTOM = 92.0
"""Below the last row: labels of the ticks, what the axis is, the footnote."""
MARGIN, GAP = 24.0, 26.0
VALUE_WIDTH = 62.0
"""Room to the right of the longest bar for its value."""
LABEL_SIZE = 12.5


@dataclass(frozen=True, kw_only=True)
class Column:
    """What one column shows."""

    title: str
    unit: str
    """"µs", "ms", "/s", "MB", "%" or "": how values are labelled."""
    values: Mapping[str, Sequence[float]]
    """Of each round, by contestant."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What stands in the place of a bar: "never"."""
    is_log: bool = False
    floor: tuple[str, float] | None = None
    """A line that is drawn through all rows, and its name."""

    def scale(self) -> Scale:
        values = [value for rounds in self.values.values() for value in (median(rounds),)]
        if self.floor is not None:
            values.append(self.floor[1])
        return Log.for_values(value for value in values if value > 0) if self.is_log else Linear.for_values(values)


def draw(columns: Sequence[Column], *, title: str, subtitle: str, footnote: str, width: float = 980.0) -> Picture:
    """Rows in the order in which the contestants are named first; the product's is marked."""
    names = list(dict.fromkeys(name for column in columns for name in (*column.values, *column.words)))
    label_width = max(text_width(name, LABEL_SIZE) for name in names) + 8
    height = TOP + ROW * len(names) + BOTTOM
    picture = Picture(width, height, title, subtitle, footnote)
    for row, name in enumerate(names):
        y = TOP + ROW * row
        if name == OURS:
            picture.box(MARGIN - 10, y, width - 2 * MARGIN + 20, ROW, "stripe", radius=5)
        end, is_ours = MARGIN + label_width - 8, name == OURS
        kind = "ours" if is_ours else "text"
        picture.text(end, y + 16.5, name, kind=kind, size=LABEL_SIZE, anchor="end", is_bold=is_ours)
    column_width = (width - 2 * MARGIN - label_width) / len(columns)
    for index, column in enumerate(columns):
        x = MARGIN + label_width + column_width * index
        _draw_column(picture, column, names, x, column_width - GAP)
    return picture


def _draw_column(picture: Picture, column: Column, names: Sequence[str], x: float, width: float) -> None:
    scale, bottom, length = column.scale(), TOP + ROW * len(names), width - VALUE_WIDTH
    picture.text(x, TOP - 30, column.title, size=13, is_bold=True)
    ticks = scale.ticks if len(scale.ticks) <= length / 34 else scale.ticks[:: -(-len(scale.ticks) // 3)]
    for tick in ticks:
        at = x + length * scale.place(tick)
        picture.line(at, TOP - 4, at, bottom + 4)
        picture.text(at, bottom + 18, with_unit(tick, column.unit), kind="muted", size=10.5, anchor="middle")
    if column.is_log:
        picture.text(x, bottom + 34, "log scale", kind="muted", size=10.5)
    for row, name in enumerate(names):
        _draw_bar(picture, column, scale, name, (x, TOP + ROW * row), length)
    if column.floor is not None:
        name, value = column.floor
        at = x + length * scale.place(value)
        picture.line(at, TOP - 4, at, bottom + 4, "floor-line")
        picture.text(x, TOP - 12, f"{name}: {with_unit(value, column.unit)}", kind="floor", size=10.5)


def _draw_bar(
    picture: Picture, column: Column, scale: Scale, name: str, corner: tuple[float, float], length: float
) -> None:
    x, y = corner
    rounds = column.values.get(name)
    if not rounds:
        word = column.words.get(name, "-")
        picture.text(x + 4, y + 16.5, word, kind="floor" if name in column.words else "muted", size=11.5)
        return
    value = median(rounds)
    end = x + length * scale.place(value)
    kind = "ours" if name == OURS else "kin" if name.startswith(OURS) else "other"
    picture.box(x, y + (ROW - BAR) / 2, max(end - x, 1.0), BAR, kind, radius=2)
    least, most = (x + length * scale.place(edge(rounds)) for edge in (min, max))
    if most - least > 2:
        picture.line(least, y + ROW / 2, most, y + ROW / 2, "whisker")
    place = max(end, most) + 6
    picture.text(place, y + 16.5, with_unit(value, column.unit), size=11.5, is_bold=name == OURS)
