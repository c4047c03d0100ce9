"""SVG pictures of a result: `draw_all`. Written by ourselves, because they must be legible on light and dark pages: the
reader's preference is asked for inside of the picture, which no plotting library's SVG does.
"""

from __future__ import annotations

from benchmarks.charts.pictures import draw_all

__all__ = ["draw_all"]
