"""What has happened in a pool lately, for those who look at it from outside: little, bounded, and cheap to keep."""

from __future__ import annotations

from time import monotonic
from typing import TypeAlias

from remotemedia.events import Died, Event, FrameFailed, FrameSkipped, Stalled, Started
from remotemedia.ipc.observer_messages import EventView

_MOST_EVENTS, _MOST_ERRORS = 20, 10
_MOST_TEXT, _MOST_ERROR_TEXT = 200, 2000
_ABOUT_FRAMES = (FrameFailed, FrameSkipped)
_UNTOLD = (Started, *_ABOUT_FRAMES)
"""No news by themselves: a worker that is started becomes ready, or dies; frames have the list of errors."""
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

    def newest_first(self) -> list[tuple[Event, int]]:
        """Each with how often it has come."""
        return list(reversed(self._entries.values()))


class History:
    """The last events of workers, and the last errors. A sink of the pool's events."""

    def __init__(self) -> None:
        self._events, self._errors = _Latest(_MOST_EVENTS), _Latest(_MOST_ERRORS)

    def add(self, event: Event) -> None:
        if isinstance(event, _ERRORS):
            self._errors.add(event)
        if not isinstance(event, _UNTOLD):
            self._events.add(event)

    def events(self) -> list[EventView]:
        """At most 20, the newest first, each with the first sentence of its reason."""
        return [_view(event, count, _first_sentence(event.reason)) for event, count in self._events.newest_first()]

    def errors(self) -> list[EventView]:
        """At most 10: deaths, stalls and frames that failed, the newest first, with up to 2000 characters of each."""
        return [_view(event, count, event.reason[:_MOST_ERROR_TEXT]) for event, count in self._errors.newest_first()]


def _first_sentence(text: str) -> str:
    sentence = text.partition("\n")[0].partition(". ")[0]
    return sentence if len(sentence) <= _MOST_TEXT else f"{sentence[: _MOST_TEXT - 1]}…"


def _view(event: Event, count: int, reason: str) -> EventView:
    return EventView(
        kind=type(event).__name__,
        node=event.node,
        pid=event.pid,
        generation=event.generation,
        text=": ".join(filter(None, [event._details().strip(), reason])),
        count=count,
        age_s=max(0.0, monotonic() - event.time_s),
    )
