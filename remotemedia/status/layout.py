"""Where the nodes of a graph are drawn: in columns from left to right, with few crossings. Pure.

The usual steps for layered graphs: each node stands one column behind the last of those that feed it; an edge over
several columns passes through a place of its own in each; the places in a column are sorted by where their neighbours
stand, several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_SWEEPS = 4


class Layout(NamedTuple):
    """`places`: (column from 0, row) of each node; rows are in the middle around 0, and may be halves.

    `paths`: the places that each edge passes through, with those of its ends.
    """

    places: list[tuple[int, float]]
    paths: list[list[tuple[int, float]]]


def layout(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """For `count` nodes, and (from, to) by index, without cycles."""
    columns = _columns(count, edges)
    # Beside the nodes, more vertices: where long edges pass.
    column_of = list(columns)
    routes = []
    for start, end in edges:
        passing = list(range(len(column_of), len(column_of) + columns[end] - columns[start] - 1))
        column_of += range(columns[start] + 1, columns[end])
        routes.append([start, *passing, end])
    rows = _rows(column_of, [pair for route in routes for pair in pairwise(route)])
    places = [(column_of[vertex], rows[vertex]) for vertex in range(len(column_of))]
    return Layout(places[:count], [[places[vertex] for vertex in route] for route in routes])


def _columns(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest way to each node."""
    columns = [0] * count
    for _ in range(count):  # as many times as the longest way is long, at most
        before = list(columns)
        for start, end in edges:
            columns[end] = max(columns[end], columns[start] + 1)
        if columns == before:
            break
    return columns


def _rows(column_of: Sequence[int], links: Sequence[tuple[int, int]]) -> list[float]:
    """The row of each vertex. `links` lead from one column to the next."""
    columns: list[list[int]] = [[] for _ in range(max(column_of, default=-1) + 1)]
    for vertex, column in enumerate(column_of):
        columns[column].append(vertex)
    before: list[list[int]] = [[] for _ in column_of]
    after: list[list[int]] = [[] for _ in column_of]
    for start, end in links:
        after[start].append(end)
        before[end].append(start)
    rows = [0.0] * len(column_of)

    def place(members: list[int]) -> None:
        for index, vertex in enumerate(members):
            rows[vertex] = index - (len(members) - 1) / 2

    for members in columns:
        place(members)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        neighbours = before if forth else after
        for members in columns if forth else reversed(columns):
            near = {v: [rows[n] for n in neighbours[v]] or [rows[v]] for v in members}
            members.sort(key=lambda v, near=near: sum(near[v]) / len(near[v]))  # type: ignore[misc]
            place(members)
    return rows
