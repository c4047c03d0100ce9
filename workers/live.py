"""Live sources, which do not wait: a camera goes on while the pipeline is behind. What comes then is dropped, at the
entrance, before anybody has worked on it; inside the pool nothing is ever lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Any, Literal, Self, TypeAlias, get_args

from remotemedia.core.exceptions import ConfigurationError

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest"]


def check_overflow(overflow: str, backlog: int, source: object) -> None:
    """Raise ConfigurationError for what cannot be asked of a stream."""
    if overflow not in get_args(Overflow):
        raise ConfigurationError(f'overflow={overflow!r}: expected "block", "drop_oldest" or "drop_newest"')
    if isinstance(backlog, bool) or not isinstance(backlog, int) or backlog < 1:
        raise ConfigurationError(f"backlog={backlog!r}: expected at least 1 item")
    if overflow != "block" and not isinstance(source, AsyncIterable):
        raise ConfigurationError(
            f"overflow={overflow!r} needs an async iterable as source: a plain one is only asked for its next item "
            "when there is room for it"
        )


class Live:
    """Reads `source` as fast as it comes, and gives the items that there was time for, in order.

    At most `backlog` items wait to be taken. One more, and the oldest of them is dropped, or the newest, which is the
    one that comes; `on_drop(count)` is called with how many that makes. An error of the source comes behind the items
    before it. An async context manager, which reads from its beginning to its end.
    """

    def __init__(
        self, source: AsyncIterable[Any], overflow: Overflow, backlog: int, on_drop: Callable[[int], None]
    ) -> None:
        self._source, self._overflow, self._backlog, self._on_drop = source, overflow, backlog, on_drop
        self._items: deque[Any] = deque()
        self._dropped = 0
        self._ended = False
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._items.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._items.popleft()

    async def _read(self) -> None:
        try:
            async for item in self._source:
                self._take(item)
                await asyncio.sleep(0)  # a source that never waits itself must not keep the loop for ever
        except Exception as error:  # noqa: BLE001 - raised where the items are taken
            self._error = error
        finally:
            self._ended = True
            self._wake()

    def _take(self, item: Any) -> None:
        if len(self._items) >= self._backlog:
            self._dropped += 1
            if self._overflow == "drop_oldest":
                self._items.popleft()
                self._items.append(item)
            self._on_drop(self._dropped)
        else:
            self._items.append(item)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)
