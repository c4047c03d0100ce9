"""`remotemedia top`: the running pools at work."""

from __future__ import annotations

import argparse
import os
import re
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from remotemedia.cli import output
from remotemedia.core.exceptions import ConfigurationError, PoolClosed

if TYPE_CHECKING:
    from remotemedia.watching import Watcher

HELP = "watch the running pools: rates, latencies, queues, memory of each worker"
DESCRIPTION = (
    "Show the pools that this user runs on this machine, one row per worker, as they are now. Looking costs a pool "
    "next to nothing: it answers when asked, from shared memory. On a terminal the screen is live: arrows select a "
    "worker, s shows what its threads are doing, r restarts it (no frame is lost), p pauses, q quits."
)
EPILOG = """\
examples:
  remotemedia top                  all pools, live
  remotemedia top 3fa9 --once      one of them, by the beginning of its id or the pid of its process, as text
  remotemedia top --json | jq '.[].workers[] | {node, fps, p99_us}'

columns:
  gen       how often the worker was replaced, counted from 0
  frames/s  calls of process() since the last refresh;  p50, p99: how long they take
  queue     frames that wait for the worker
  pss       memory, what is shared with other processes counted in proportion
  drops     frames without output because of on_error="skip"
"""
_ONCE_S = 0.5
_ANSWER_S = 2.5
_MESSAGE_S = 5.0
_KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b": "escape", b"q": "quit", b"p": "pause", b"s": "stacks", b"r": "restart",
}  # fmt: skip
_KEY = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", nargs="?", help="only this one: the beginning of its id, or the pid of its process")
    parser.add_argument("--once", action="store_true", help="print the numbers of half a second as text, and end")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.add_argument("--interval", type=float, default=0.25, metavar="S", help="seconds between refreshes: 0.25")


def run(arguments: argparse.Namespace) -> int:
    from remotemedia.watching import Watcher

    if not arguments.interval > 0:
        raise ConfigurationError(f"--interval {arguments.interval}: expected seconds greater than 0")
    watcher = Watcher(arguments.pool)
    try:
        watcher.look()
        watcher.require_wanted()
        if arguments.json or arguments.once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            _once(watcher, as_json=arguments.json)
        else:
            _live(watcher, arguments.interval)
    finally:
        watcher.close()
    return output.OK


def _once(watcher: Watcher, *, as_json: bool) -> None:
    """The first answer is where rates begin; the second has them."""
    from remotemedia.cli.top_view import plain_text

    watcher.ask()
    watcher.wait_for_answers(_ANSWER_S)
    due = monotonic() + _ONCE_S
    while watcher.pools and monotonic() < due:
        watcher.wait(due - monotonic())
    watcher.ask()
    watcher.wait_for_answers(_ANSWER_S)
    pools = list(watcher.pools.values())
    if as_json:
        output.print_json([pool.facts() for pool in pools])
    else:
        output.say(plain_text(pools))


def _live(watcher: Watcher, interval_s: float) -> None:
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError as error:
        raise ImportError("the live screen needs rich: pip install 'remotemedia[cli]'; or use --once") from error
    console = Console()
    keyboard = sys.stdin.fileno()
    with _unbuffered(keyboard), Live(console=console, screen=True, auto_refresh=False) as live:
        _Screen(watcher, live, keyboard, interval_s).run()


@contextmanager
def _unbuffered(fd: int) -> Iterator[None]:
    """Keys one by one, not shown; Ctrl-C still interrupts."""
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def keys_in(data: bytes) -> list[str]:
    """What the keys mean whose bytes have come, several at once or not; others are left out."""
    return [_KEYS[key] for key in _KEY.findall(data) if key in _KEYS]


class _Screen:
    """The live screen: sleeps until a key, an answer or the next refresh."""

    def __init__(self, watcher: Watcher, live: Any, keyboard: int, interval_s: float) -> None:
        from remotemedia.cli.top_view import ScreenState

        self._watcher, self._live, self._keyboard, self._interval_s = watcher, live, keyboard, interval_s
        self._state = ScreenState()
        self._message_until = 0.0
        self._quit = False

    def run(self) -> None:
        next_at = monotonic()
        while not self._quit:
            now = monotonic()
            if now >= next_at:
                next_at = now + self._interval_s
                if not self._state.paused:
                    self._watcher.look()
                    self._watcher.ask()
            replies, readable = self._watcher.wait(next_at - monotonic(), [self._keyboard])
            for reply in replies:
                self._on_reply(reply)
            if readable:
                self._on_keys(os.read(self._keyboard, 64))
            self._draw()

    def _draw(self) -> None:
        from remotemedia.cli.top_view import screen

        rows = self._rows()
        if monotonic() > self._message_until:
            self._state.message = ""
        if self._state.selected not in rows:
            self._state.selected = rows[0] if rows else None
        pools = list(self._watcher.pools.values())
        self._live.update(screen(pools, self._state, self._live.console.size.height), refresh=True)

    def _rows(self) -> list[tuple[str, int]]:
        pools = self._watcher.pools.values()
        return [(pool.pool_id, worker.worker_id) for pool in pools if pool.view for worker in pool.view.workers]

    def _on_reply(self, reply: Any) -> None:
        from remotemedia.ipc.observer_messages import Done, Refused, StacksText

        match reply:
            case StacksText(text=text):
                self._state.stacks = text
                self._say("s: again   esc: close")
            case Refused(reason=reason):
                self._say(reason.partition("\n")[0])
            case Done():
                self._say("it finishes its frame and starts afresh")

    def _say(self, message: str) -> None:
        self._state.message, self._message_until = message, monotonic() + _MESSAGE_S

    def _on_keys(self, data: bytes) -> None:
        for key in keys_in(data):
            match key:
                case "quit":
                    self._quit = True
                case "pause":
                    self._state.paused = not self._state.paused
                case "escape":
                    self._state.stacks = self._state.message = ""
                case "up" | "down":
                    self._move(1 if key == "down" else -1)
                case _:
                    self._ask_for(key)

    def _move(self, by: int) -> None:
        rows = self._rows()
        if rows and self._state.selected in rows:
            self._state.selected = rows[(rows.index(self._state.selected) + by) % len(rows)]
            self._state.stacks = self._state.message = ""

    def _ask_for(self, what: str) -> None:
        from remotemedia.ipc.observer_messages import GetStacks, RestartWorker

        if self._state.selected is None:
            return
        pool_id, worker_id = self._state.selected
        view = self._watcher.pools[pool_id].view
        node = next((worker.node for worker in view.workers if worker.worker_id == worker_id), "") if view else ""
        try:
            self._watcher.send(pool_id, GetStacks(node=node) if what == "stacks" else RestartWorker(node=node))
            self._say(f"{what} of {node!r} asked for")
        except (PoolClosed, TimeoutError):
            self._say("the pool does not answer")
