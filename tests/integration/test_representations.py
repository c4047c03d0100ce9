"""What a pool and its snapshots look like in a console and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

from remotemedia.core.html import table
from remotemedia.workers.pool import WorkerPool
from tests.nodes import Add


class Cells(HTMLParser):
    """The texts of all cells of an HTML table; fails for tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.cells[-1] += data


async def test_a_pool_shows_its_state_and_its_workers() -> None:
    pool = WorkerPool([Add(1, name="<a>"), Add(1, name="b", executor="inline")])
    assert repr(pool) == "<WorkerPool <a> → b (new)>"
    assert Cells(pool._repr_html_()).cells == ["<a>", "Add", "b", "Add"]
    async with pool:
        assert repr(pool) == "<WorkerPool <a> → b (running)>"
        await pool.process(1)
        snapshot = pool.snapshot()
        first, second = str(snapshot).splitlines()
        assert first.startswith(f"<a> (ready, pid {snapshot.workers[0].pid}, generation 0): 1 frames, ")
        assert second.startswith("b (inline, generation 0): 1 frames, ")
        for html in (snapshot._repr_html_(), pool._repr_html_()):
            cells = Cells(html).cells
            assert len(cells) == 2 * len(snapshot.workers[0].cells())
            assert cells[:5] == ["<a>", str(snapshot.workers[0].pid), "ready", "0", "1"]
    assert repr(pool) == "<WorkerPool <a> → b (closed)>"
    assert Cells(pool._repr_html_()).cells == ["<a>", "Add", "b", "Add"]


def test_everything_in_a_table_is_escaped() -> None:
    assert "<script>" not in table("<script>", ["<script>"], [["<script>"]])
