"""What has happened in a pool lately, for those who look at it from outside: little, bounded, and cheap to keep."""

from __future__ import annotations

from time import monotonic
from typing import TypeAlias

from remotemedia.events import Died, Event, FrameFailed, FrameSkipped, Stalled
from remotemedia.ipc.observer_messages import EventView

_MOST_EVENTS, _MOST_ERRORS = 20, 10
_MOST_TEXT, _MOST_ERROR_TEXT = 200, 2000
_ABOUT_FRAMES = (FrameFailed, FrameSkipped)
_ERRORS = (Died, Stalled, *_ABOUT_FRAMES)

_Key: TypeAlias = tuple[type[Event], str, int | None, int, str]


class _Latest:
    """The last different events of one kind, the newest last; the same again counts up and moves to the end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[_Key, tuple[Event, int]] = {}

    def add(self, event: Event) -> None:
        key = type(event), event.node, event.pid, event.generation, event.reason
        _, count = self._entries.pop(key, (event, 0))
        self._entries[key] = event, count + 1
        if len(self._entries) > self._most:
            del self._entries[next(iter(self._entries))]

    def views(self, most_text: int) -> list[EventView]:
        """The newest first."""
        now = monotonic()
        return [_view(event, count, now, most_text) for event, count in reversed(self._entries.values())]


class History:
    """The last events, without those of single frames, and the last errors. A sink of the pool's events."""

    def __init__(self) -> None:
        self._events, self._errors = _Latest(_MOST_EVENTS), _Latest(_MOST_ERRORS)

    def add(self, event: Event) -> None:
        if isinstance(event, _ERRORS):
            self._errors.add(event)
        if not isinstance(event, _ABOUT_FRAMES):
            self._events.add(event)

    def events(self) -> list[EventView]:
        """At most 20, the newest first, each with the first line of its reason."""
        return self._events.views(_MOST_TEXT)

    def errors(self) -> list[EventView]:
        """At most 10: deaths, stalls and frames that failed, the newest first, with up to 2000 characters of each."""
        return self._errors.views(_MOST_ERROR_TEXT)


def _view(event: Event, count: int, now: float, most_text: int) -> EventView:
    reason = event.reason if most_text == _MOST_ERROR_TEXT else event.reason.partition("\n")[0]
    text = f"{event._details()}: {reason}" if event._details() and reason else event._details() or reason
    return EventView(
        kind=type(event).__name__,
        node=event.node,
        pid=event.pid,
        generation=event.generation,
        text=text.strip()[:most_text],
        count=count,
        age_s=max(0.0, now - event.time_s),
    )
