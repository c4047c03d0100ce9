"""A picture as SVG text: a card with a title and a footnote; classes of elements are coloured for light and dark."""

from __future__ import annotations

from html import escape

LIGHT = {
    "card": "#ffffff", "edge": "#d0d7de", "text": "#1f2328", "muted": "#59636e", "grid": "#e4e8ec",
    "other": "#9aa5b1", "ours": "#0969da", "kin": "#80b3ec", "floor": "#bc4c00", "stripe": "#eaf3fe",
}  # fmt: skip
DARK = {
    "card": "#0d1117", "edge": "#3d444d", "text": "#f0f6fc", "muted": "#9198a1", "grid": "#262c36",
    "other": "#656c76", "ours": "#4493f8", "kin": "#2b5c9e", "floor": "#f0883e", "stripe": "#121d2f",
}  # fmt: skip
FONT = "-apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
CHARACTER = 0.56
"""Width of a character on average, in parts of the font's size."""


def _rules(colours: dict[str, str]) -> str:
    fills = [f".{name} {{ fill: {colour} }}" for name, colour in colours.items() if name != "edge"]
    lines = [
        f".card {{ stroke: {colours['edge']} }}",
        f".rule {{ stroke: {colours['grid']} }}",
        f".whisker {{ stroke: {colours['text']} }}",
        f".floor-line {{ stroke: {colours['floor']} }}",
        f".ours-line {{ stroke: {colours['ours']} }}",
    ]
    return " ".join([*fills, *lines])


STYLE = (
    f"text {{ font-family: {FONT} }} .whisker {{ stroke-opacity: 0.55 }} "
    ".floor-line { stroke-width: 1.5; stroke-dasharray: 5 3 } .ours-line { stroke-width: 2.5; fill: none } "
    f"{_rules(LIGHT)} @media (prefers-color-scheme: dark) {{ {_rules(DARK)} }}"
)


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in the units of the picture."""
    return len(text) * size * CHARACTER


class Picture:
    """Elements in the order in which they are drawn. Coordinates and sizes in pixels, y downwards.

    The footnote may have several lines.
    """

    def __init__(self, width: float, height: float, title: str, subtitle: str, footnote: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._elements: list[str] = []
        self.text(24, 34, title, size=18, is_bold=True)
        self.text(24, 56, subtitle, kind="muted", size=12.5)
        lines = footnote.splitlines()
        for index, line in enumerate(lines):
            self.text(24, height - 16 - 16 * (len(lines) - 1 - index), line, kind="muted", size=11)

    def text(
        self, x: float, y: float, text: str, *, kind: str = "text", size: float = 12.0, anchor: str = "start",
        is_bold: bool = False,
    ) -> None:  # fmt: skip
        """`anchor`: "start", "middle" or "end"; y is the base line."""
        weight = ' font-weight="600"' if is_bold else ""
        self._elements.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"{weight}>'
            f"{escape(text)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, kind: str, radius: float = 0.0) -> None:
        self._elements.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
            f'rx="{radius:g}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "rule") -> None:
        self._elements.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def path(self, points: list[tuple[float, float]], kind: str) -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._elements.append(f'<polyline class="{kind}" points="{places}"/>')

    def dot(self, x: float, y: float, kind: str) -> None:
        self._elements.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')

    def __str__(self) -> str:
        width, height = self.width, self.height
        size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{STYLE}</style>",
                f'<rect class="card" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8"/>',
                *self._elements,
                "</svg>",
                "",
            ]
        )
