"""Exceptions as data: how an error crosses a process border, and the words in which every executor tells of it."""

from __future__ import annotations

import builtins
import importlib
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remotemedia.core.exceptions import RemoteExceptionText


@dataclass(frozen=True, kw_only=True)
class RemoteTraceback:
    """An exception as plain data, to cross a process border: never a pickle."""

    type_name: str
    text: str
    args: tuple[Any, ...] | None = None
    traceback: str = ""
    notes: tuple[str, ...] = ()

    MAX_TEXT = 16_384

    @classmethod
    def of(cls, error: BaseException) -> RemoteTraceback:
        """Describe `error`; survives exceptions whose `__str__` raises."""
        try:
            text = str(error)
        except BaseException as broken:  # noqa: BLE001 - user code
            text = f"<str() of this exception raised {type(broken).__name__}>"
        try:
            trace = "".join(traceback.format_exception(error))
        except BaseException:  # noqa: BLE001 - user code
            trace = f"{type(error).__qualname__}: {text}"
        made_from = _made_from(error)
        args = made_from if all(_is_small_and_plain(a, cls.MAX_TEXT) for a in made_from) else None
        given = getattr(error, "__notes__", ())
        notes = tuple(note[: cls.MAX_TEXT] for note in given if isinstance(note, str)) if _is_list(given) else ()
        kind = type(error)
        return cls(
            type_name=f"{kind.__module__}:{kind.__qualname__}",
            text=_middle_cut(text, cls.MAX_TEXT),
            args=args,
            traceback=_middle_cut(trace, 4 * cls.MAX_TEXT),
            notes=notes,
        )

    @property
    def headline(self) -> str:
        """The name of the type, and the text if there is one."""
        name = re.split("[:.]", self.type_name)[-1]
        return f"{name}: {self.text}" if self.text else name

    def exception(self) -> BaseException:
        """The exception again: of its own type if that can be imported and rebuilt from its arguments."""
        rebuilt = self._rebuilt()
        return self.as_text() if rebuilt is None else self._add_notes(rebuilt)

    def as_text(self) -> BaseException:
        """The exception as a RemoteExceptionText, which is sure to pickle."""
        return self._add_notes(RemoteExceptionText(self.type_name.rpartition(":")[2], self.text))

    def _add_notes(self, error: BaseException) -> BaseException:
        for note in self.notes:
            error.add_note(note)
        return error

    def _rebuilt(self) -> BaseException | None:
        module_name, _, qualname = self.type_name.partition(":")
        if self.args is None:
            return None
        try:
            kind: Any = builtins if module_name == "builtins" else importlib.import_module(module_name)
            for part in qualname.split("."):
                kind = getattr(kind, part)
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                return None
            error = kind(*self.args)
            return error if isinstance(error, BaseException) and str(error) == self.text else None
        except (Exception, SystemExit):  # noqa: BLE001 - importing and building a user's class may do anything
            return None

    def as_mapping(self) -> Mapping[str, Any]:
        """Plain builtin values, for the control plane's codec."""
        return {
            "type_name": self.type_name,
            "text": self.text,
            "args": None if self.args is None else list(self.args),
            "traceback": self.traceback,
            "notes": list(self.notes),
        }

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> RemoteTraceback:
        return cls(
            type_name=data["type_name"],
            text=data["text"],
            args=None if data["args"] is None else tuple(data["args"]),
            traceback=data["traceback"],
            notes=tuple(data["notes"]),
        )


def described(error: BaseException) -> str:
    """Type and text of a user's exception: "ValueError: too large"; survives exceptions whose `__str__` raises."""
    return RemoteTraceback.of(error).headline


def raised(method: str, what: str, frame: int | None = None) -> str:
    """How every error tells that a method of a node raised: "process() raised ValueError: too large (frame 2)"."""
    return f"{method}() raised {what}" + (f" (frame {frame})" if method == "process" and frame is not None else "")


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _made_from(error: BaseException) -> tuple[Any, ...]:
    """The arguments that make `error` again: OSError, for one, takes the file name out of its `args`."""
    if isinstance(error, OSError):
        reduced = error.__reduce__()
        if isinstance(reduced, tuple) and reduced[0] is type(error) and isinstance(reduced[1], tuple):
            return reduced[1]
    return error.args


def _is_small_and_plain(value: Any, most: int) -> bool:
    """Asked through the base types: what a subclass does when it is looked at is anybody's guess."""
    if isinstance(value, str):
        return str.__len__(value) < most
    return value is None or isinstance(value, float) or (isinstance(value, int) and int.bit_length(value) < most)


def _middle_cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"
