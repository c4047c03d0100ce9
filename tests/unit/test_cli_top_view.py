"""What `remotemedia top` shows, rendered into text."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from remotemedia.cli.top import keys_in
from remotemedia.cli.top_view import COLUMNS, ScreenState, bar, duration_text, last_lines, plain_text, screen
from remotemedia.ipc.observer_messages import PoolView, WorkerView
from remotemedia.watching import WatchedPool
from remotemedia.workers.running import PoolPlace


def worker(node, worker_id, **changes):
    facts = {
        "node": node, "worker_id": worker_id, "pid": 100 + worker_id, "state": "ready", "generation": 0, "restarts": 0,
        "frames": 10, "fps": 25.04, "p50_us": 1500.0, "p99_us": 20_000.0, "queue": 0, "errors": 0, "drops": 0,
        "bytes_in": 0, "bytes_out": 0, "copies": 0, "cpu_percent": 49.6, "pss_bytes": None, "queue_frames": 64,
    }  # fmt: skip
    return WorkerView(**{**facts, **changes})


def pool(pool_id, *workers, **changes):
    view = PoolView(
        pool_id=pool_id, pid=99, state="running", package_version="1", uptime_s=3725.0, sessions=0,
        workers=list(workers),
    )  # fmt: skip
    pss = {w.pid: 30_000_000 for w in workers if w.pid is not None}
    watched = WatchedPool(PoolPlace(pool_id, Path("/nowhere"), alive=True), view=view, shm_bytes=5_000_000, pss=pss)
    return replace(watched, **changes)


TWO = pool(
    "00aa00aa00",
    worker("decode [red]", 0, queue=3, event="ready", event_age_s=61),
    worker("draw", 1, pid=None, state="inline", queue=64, drops=2),
    worker("encode", 2, state="backoff", generation=3, restarts=3, event="died: killed by SIGKILL", event_age_s=1),
)


def rendered(pools, state, width=150, height=40):
    console = Console(width=width, height=height, color_system=None, record=True, file=io.StringIO())
    console.print(screen(pools, state, height))
    return console.export_text().splitlines()


def test_plain_text_has_a_line_per_worker_under_the_names_of_the_columns():
    head, columns, decode, draw, encode = plain_text([TWO]).splitlines()
    assert head == "pool 00aa00aa00  pid 99  running  up 1 h 02 min  25.0 frames/s  shm 5.0 MB"
    assert [column for column in COLUMNS if column not in columns] == []
    assert decode.split() == [
        "decode", "[red]", "100", "ready", "0", "25.0", "1.50", "20.00", "█░░░░░", "3", "50", "30.0", "MB", "0", "0",
        "ready", "(1", "min", "01", "s", "ago)",
    ]  # fmt: skip
    assert draw.split() == ["draw", "-", "inline", "0", "25.0", "1.50", "20.00", "██████", "64", "-", "-", "2", "0"]
    assert encode.endswith("died: killed by SIGKILL (1 s ago)")
    for name in ("pid", "gen", "frames/s", "pss", "restarts"):  # numbers stand below the end of their names
        end = columns.index(name) + len(name)
        assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for line in (decode, draw, encode))


def test_the_screen_shows_the_same_rows_the_selected_one_and_the_keys():
    state = ScreenState(selected=("00aa00aa00", 2), message="asked for")
    lines = rendered([TWO], state)
    assert lines[0].startswith("pool 00aa00aa00  pid 99  running")
    assert [line.split()[0] for line in lines[1:5]] == ["node", "decode", "draw", "encode"]
    assert "decode [red]" in lines[2]  # a name is no markup
    assert "s stacks" in lines[-1]
    assert lines[-1].endswith("asked for")
    styled = Console(width=150, color_system="standard", force_terminal=True, record=True, file=io.StringIO())
    styled.print(screen([TWO], state))
    marked = [line for line in styled.export_text(styles=True).splitlines() if "\x1b[7m" in line]
    assert len(marked) == 1
    assert "encode" in marked[0]


def test_a_narrow_screen_keeps_one_line_per_worker():
    lines = rendered([TWO], ScreenState(), width=80)
    assert len(lines) == len(rendered([TWO], ScreenState()))
    assert all(len(line) <= 80 for line in lines)


def test_several_pools_problems_and_none():
    silent = pool("11bb11bb11", view=None, problem="no answer for 3 s")
    text = "\n".join(rendered([TWO, silent], ScreenState(paused=True)))
    assert "pool 11bb11bb11  no answer for 3 s" in text
    assert "paused" in text
    assert "no pool is running" in plain_text([])
    assert any("no pool is running" in line for line in rendered([], ScreenState()))
    assert plain_text([TWO, silent]).count("pool ") == 2


def test_stacks_are_cut_to_the_screen_from_above():
    stacks = "\n".join(f"line {number}" for number in range(100))
    lines = rendered([TWO], ScreenState(stacks=stacks), height=30)
    assert len(lines) <= 30
    assert "line 99" in lines[-2]
    assert any("lines above" in line for line in lines)
    assert last_lines("a\nb", 5) == "a\nb"
    assert last_lines("a\nb\nc", 2) == "… 2 lines above\nc"


@pytest.mark.parametrize(
    ("value", "most", "text"),
    [(0, 64, "░░░░░░"), (1, 64, "█░░░░░"), (32, 64, "███░░░"), (64, 64, "██████"), (99, 64, "██████"), (1, 0, "░" * 6)],
)
def test_the_bar(value, most, text):
    assert bar(value, most) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0 s"), (59.9, "59 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (90_000, "1 d 1 h")],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["quit"]),
        (b"\x1b\x1b[Br", ["escape", "down", "restart"]),
        (b"\x1bOAkj", ["up", "up", "down"]),
        (b"\x1b[5~\x1b[1;5Cx\xff\n", []),
        (b"", []),
    ],
)
def test_keys_may_come_several_at_once(data, keys):
    assert keys_in(data) == keys
