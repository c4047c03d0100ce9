"""Text nodes: str in, str out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from string import Formatter
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
    """Changes each text: `operation` is "uppercase", "lowercase", "capitalize", "title", "strip" or "reverse".

    Takes and gives str. Raises ConfigurationError for an unknown operation, TypeError for what is no str.

    >>> run_pipeline([TextTransformNode("title")], ["one two"])
    ['One Two']
    """

    def __init__(self, operation: str, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, operation=operation, **options)
        self.operation = operation
        _check_choice(self, "operation", operation, _OPERATIONS)

    def process(self, data: Any) -> str:
        return _OPERATIONS[self.operation](self.text(data))


class UppercaseNode(_TextNode):
    """Each text in upper case. Takes and gives str; raises TypeError for anything else.

    >>> run_pipeline([UppercaseNode()], ["one"])
    ['ONE']
    """

    def process(self, data: Any) -> str:
        return self.text(data).upper()


class TextReplaceNode(_TextNode):
    """Replaces every `pattern` by `replacement`; with `regex=True` a regular expression, groups as `\\1`.

    Takes and gives str. Raises ConfigurationError for what is no regular expression, TypeError for what is no str.

    >>> run_pipeline([TextReplaceNode("[0-9]+", "#", regex=True)], ["call 112"])
    ['call #']
    """

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
    stream comes last. So the tokens of a language model become the sentences of a voice. Takes and gives str. Raises
    ConfigurationError for an unknown unit, TypeError for what is no str.

    >>> run_pipeline([TextSplitNode()], ["Good mor", "ning. How are", " you?"])
    ['Good morning.', 'How are you?']
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


class TextChunkNode(_TextNode):
    """Cuts each text into pieces of at most `max_chars` characters, between words where it can.

    So long documents fit into a model. With `overlap`, each piece begins with whole words from the last `overlap`
    characters of the one before, so that nothing is torn out of its context. Takes and gives str; empty texts give
    nothing. Raises ConfigurationError for bad settings, TypeError for what is no str.

    >>> run_pipeline([TextChunkNode(12)], ["the quick brown fox jumps"])
    ['the quick', 'brown fox', 'jumps']
    >>> run_pipeline([TextChunkNode(15, overlap=6)], ["the quick brown fox jumps"])
    ['the quick brown', 'brown fox jumps']
    """

    def __init__(self, max_chars: int = 1000, *, overlap: int = 0, name: str | None = None, **options: Any) -> None:
        super().__init__(name, max_chars=max_chars, overlap=overlap, **options)
        if not isinstance(max_chars, int) or max_chars < 1:
            raise ConfigurationError(f"TextChunkNode(max_chars={max_chars!r}): expected characters, 1 or more")
        if not isinstance(overlap, int) or not 0 <= overlap < max_chars:
            raise ConfigurationError(f"TextChunkNode(overlap={overlap!r}): expected 0 or more, less than max_chars")
        self.max_chars, self.overlap = max_chars, overlap

    def process(self, data: Any) -> Iterator[str]:
        text, start = self.text(data).strip(), 0
        while start < len(text):
            end = start + self.max_chars
            if end < len(text):
                end = _last_blank(text, start + 1, end + 1) or end
            yield text[start:end].strip()
            if end >= len(text):
                return
            start = self._next_start(text, start, end)

    def _next_start(self, text: str, start: int, end: int) -> int:
        """The first word after `end`, or the first that begins in the overlap before it."""
        if self.overlap:
            blank = _BLANK.search(text, max(end - self.overlap - 1, start), end)
            if blank is not None and blank.end() < end:
                return blank.end()
        rest = _BLANK.match(text, end)
        return end if rest is None else rest.end()


_BLANK = re.compile(r"\s+")


def _last_blank(text: str, start: int, end: int) -> int | None:
    """Where the last run of blanks within text[start:end] begins, or reaches into it."""
    return next((at for at in range(min(end, len(text)) - 1, start - 1, -1) if text[at].isspace()), None)


class TextTemplateNode(_TextNode):
    """Puts each input into `template`, as str.format does: `{}` is the input; for a dict, `{key}` is what it has there.

    Takes anything; gives str. Raises ConfigurationError for what is no template, ValueError for an input that has not
    what the template asks for.

    >>> run_pipeline([TextTemplateNode("Translate: {}")], ["Guten Tag"])
    ['Translate: Guten Tag']
    >>> run_pipeline([TextTemplateNode("{name} is {age:d}")], [{"name": "Ada", "age": 36}])
    ['Ada is 36']
    """

    def __init__(self, template: str, *, name: str | None = None, **options: Any) -> None:
        super().__init__(name, template=template, **options)
        try:
            self._fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"TextTemplateNode(template={template!r}): no template: {error}") from error
        self.template = template

    def process(self, data: Any) -> str:
        try:
            return self.template.format(data, **data) if isinstance(data, Mapping) else self.template.format(data)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            there = f"a dict with {', '.join(map(str, data))}" if isinstance(data, Mapping) else type(data).__name__
            raise ValueError(
                f"{self.name}: the template asks for {', '.join(f'{{{field}}}' for field in self._fields)}, "
                f"which {there} does not give: {error!r}"
            ) from error


def _check_choice(node: Node, setting: str, value: Any, choices: dict[str, Any]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{type(node).__name__}({setting}={value!r}): expected one of {', '.join(choices)}")
