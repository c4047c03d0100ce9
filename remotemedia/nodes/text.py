"""Text nodes: str in, str out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.node import Node

_OPERATIONS: dict[str, Callable[[str], str]] = {
    "uppercase": str.upper,
    "lowercase": str.lower,
    "capitalize": str.capitalize,
    "title": str.title,
    "strip": str.strip,
    "reverse": lambda text: text[::-1],
}

# What ends a unit: the text up to the end of the match is complete as soon as something follows it.
_UNIT_ENDS = {
    "lines": re.compile(r"\r\n|\r(?!\Z)|\n"),
    "words": re.compile(r"\s+"),
    "sentences": re.compile(
        r"""[.!?\u2026]+["')\]\u00bb\u201d\u2019]*\s+"""
        r"""|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d\u2019]*"""  # full-width stops need no blank after them
    ),
}


class _TextNode(Node):
    def text(self, data: Any) -> str:
        """`data`, which must be a str."""
        if not isinstance(data, str):
            raise TypeError(f"{self.name} takes str, not {type(data).__name__}")
        return data


class TextTransformNode(_TextNode):
    """Changes each text: `operation` is "uppercase", "lowercase", "capitalize", "title", "strip" or "reverse"."""

    def __init__(self, operation: str, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, operation=operation, **options)
        self.operation = operation
        _check_choice(self, "operation", operation, _OPERATIONS)

    def process(self, data: Any) -> str:
        return _OPERATIONS[self.operation](self.text(data))


class UppercaseNode(_TextNode):
    """Each text in upper case."""

    def process(self, data: Any) -> str:
        return self.text(data).upper()


class TextReplaceNode(_TextNode):
    """Replaces every `pattern` by `replacement`; with `regex=True` a regular expression, groups as `\\1`."""

    def __init__(
        self, pattern: str, replacement: str = "", *, regex: bool = False, name: str | None = None, **options: Any
    ) -> None:
        super().__init__(name, pattern=pattern, replacement=replacement, regex=regex, **options)
        try:
            self._pattern = re.compile(pattern if regex else re.escape(pattern))
        except re.error as error:
            raise ConfigurationError(f"TextReplaceNode(pattern={pattern!r}): no regular expression: {error}") from error
        self._replacement = replacement if regex else replacement.replace("\\", r"\\")

    def process(self, data: Any) -> str:
        return self._pattern.sub(self._replacement, self.text(data))


class TextSplitNode(_TextNode):
    """Joins pieces of text, however they are cut, and gives whole `unit`s: "lines", "words" or "sentences".

    Each comes without its line end or surrounding blanks, empty ones are left out; what is incomplete at the end of the
    stream comes last. So the tokens of a language model become the sentences of a voice.
    """

    def __init__(self, unit: str = "sentences", *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, unit=unit, **options)
        self.unit = unit
        self._rest = ""
        _check_choice(self, "unit", unit, _UNIT_ENDS)

    def process(self, data: Any) -> Iterator[str]:
        text, start = self._rest + self.text(data), 0
        for match in _UNIT_ENDS[self.unit].finditer(text):
            unit, start = text[start : match.end()].strip(), match.end()
            if unit:
                yield unit
        self._rest = text[start:]

    def flush(self) -> str | None:
        rest, self._rest = self._rest.strip(), ""
        return rest or None

    def cleanup(self) -> None:
        self._rest = ""


def _check_choice(node: Node, setting: str, value: Any, choices: dict[str, Any]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{type(node).__name__}({setting}={value!r}): expected one of {', '.join(choices)}")
