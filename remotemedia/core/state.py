"""Per-session state of a node: one dict per session, forgotten by age or when there are too many."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from remotemedia.core.exceptions import ConfigurationError


@dataclass(slots=True)
class _Session:
    state: dict[str, Any]
    used_s: float


class StateManager:
    """A dict for each session id, made on first use. Thread-safe.

    `ttl_s`: seconds after its last use at which a session is forgotten (None: never). `max_sessions`: how many are
    kept; a further one replaces the least recently used (None: no limit). `get` counts as use, looking (`in`, `len`,
    iteration) does not. Raises ConfigurationError if a limit is not a positive number.

    It pickles with its content. What travels of the time stamps is the age, since no two machines share a monotonic
    clock: a session that had 5 s left has 5 s left where it arrives.
    """

    def __init__(self, ttl_s: float | None = None, max_sessions: int | None = None) -> None:
        _check("ttl_s", ttl_s, (int, float), "seconds greater than 0, or None")
        _check("max_sessions", max_sessions, (int,), "a whole number of at least 1, or None")
        self.ttl_s, self.max_sessions = ttl_s, max_sessions
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # least recently used first, so oldest first

    def get(self, session_id: str) -> dict[str, Any]:
        """The session's dict, the same object each time until the session is forgotten."""
        with self._lock:
            now = self._forget_expired()
            session = self._sessions.get(session_id)
            if session is None:
                session = self._sessions[session_id] = _Session({}, now)
                if self.max_sessions is not None and len(self._sessions) > self.max_sessions:
                    self._sessions.popitem(last=False)
            else:
                session.used_s = now
                self._sessions.move_to_end(session_id)
            return session.state

    def drop(self, session_id: str) -> None:
        """Forget one session; nothing happens if it is not there."""
        with self._lock:
            self._sessions.pop(session_id, None)

    def clear(self) -> None:
        """Forget all sessions."""
        with self._lock:
            self._sessions.clear()

    def __len__(self) -> int:
        return len(self._ids())

    def __contains__(self, session_id: object) -> bool:
        with self._lock:
            self._forget_expired()
            return session_id in self._sessions

    def __iter__(self) -> Iterator[str]:
        """The session ids of this moment, least recently used first."""
        return iter(self._ids())

    def __bool__(self) -> bool:
        return True  # a manager without sessions is still a manager: `if node.state` asks whether there is one

    def __repr__(self) -> str:
        return f"StateManager(ttl_s={self.ttl_s}, max_sessions={self.max_sessions}, sessions={len(self)})"

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            now = self._forget_expired()
            sessions = [(key, dict(session.state), now - session.used_s) for key, session in self._sessions.items()]
        attributes = {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_sessions")}
        return {**attributes, "_sessions": sessions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        attributes = dict(state)
        sessions, now = attributes.pop("_sessions"), monotonic()
        self.__dict__.update(attributes)
        self._lock = threading.Lock()
        self._sessions = OrderedDict((key, _Session(content, now - age_s)) for key, content, age_s in sessions)

    def _ids(self) -> list[str]:
        with self._lock:
            self._forget_expired()
            return list(self._sessions)

    def _forget_expired(self) -> float:
        """Drop what is too old; returns the present time. The caller holds the lock."""
        now = monotonic()
        if self.ttl_s is not None:
            while self._sessions:
                session_id, session = next(iter(self._sessions.items()))
                if now - session.used_s < self.ttl_s:
                    break
                del self._sessions[session_id]
        return now


def _check(setting: str, value: float | None, types: tuple[type, ...], expected: str) -> None:
    if value is None:
        return
    if not isinstance(value, types) or isinstance(value, bool) or not value > 0:
        raise ConfigurationError(f"{setting}={value!r}: expected {expected}")
