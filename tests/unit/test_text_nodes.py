"""Text nodes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.nodes import TextReplaceNode, TextSplitNode, TextTransformNode, UppercaseNode


def split(unit: str, *pieces: str) -> list[str]:
    node = TextSplitNode(unit)
    found = [text for piece in pieces for text in node.process(piece)]
    last = node.flush()
    return found if last is None else [*found, last]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("uppercase", " STRASSE 7 "),
        ("lowercase", " straße 7 "),
        ("capitalize", " straße 7 "),
        ("title", " Straße 7 "),
        ("strip", "straße 7"),
        ("reverse", " 7 eßarts "),
    ],
)
def test_transformations(operation: str, expected: str) -> None:
    assert TextTransformNode(operation).process(" straße 7 ") == expected


def test_uppercase() -> None:
    assert UppercaseNode().process("aé") == "AÉ"


def test_replacing_text_takes_the_pattern_literally() -> None:
    assert TextReplaceNode("a.b", r"\1").process("a.b axb") == r"\1 axb"
    assert TextReplaceNode("x").process("axbx") == "ab"


def test_replacing_by_a_regular_expression_knows_groups() -> None:
    assert TextReplaceNode(r"(\w)\.", r"\1!", regex=True).process("a. b.") == "a! b!"


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"operation='upper'.*expected one of uppercase, lowercase"):
        TextTransformNode("upper")
    with pytest.raises(ConfigurationError, match=r"unit='pages'.*lines, words, sentences"):
        TextSplitNode("pages")
    with pytest.raises(ConfigurationError, match="no regular expression"):
        TextReplaceNode("(", regex=True)


@pytest.mark.parametrize("wrong", [b"bytes", 3, None])
def test_only_text_is_taken(wrong: Any) -> None:
    for node in (TextTransformNode("strip"), UppercaseNode(), TextReplaceNode("a"), TextSplitNode()):
        with pytest.raises(TypeError, match=f"{node.name} takes str, not {type(wrong).__name__}"):
            list(node.process(wrong) or ())


def test_sentences_end_with_a_stop_and_a_blank() -> None:
    text = 'It costs 3.5 euros. "Really?" he said... Yes!'
    assert split("sentences", text) == ["It costs 3.5 euros.", '"Really?"', "he said...", "Yes!"]
    assert split("sentences", "你好。再见！好") == ["你好。", "再见！", "好"]  # noqa: RUF001


def test_a_sentence_comes_as_soon_as_it_is_complete() -> None:
    node = TextSplitNode("sentences")
    assert list(node.process("One. Tw")) == ["One."]
    assert list(node.process("o.")) == []
    assert list(node.process(" Three")) == ["Two."]
    assert node.flush() == "Three"
    assert node.flush() is None


def test_lines_end_however_lines_end() -> None:
    assert split("lines", "a\r", "\nb\rc\n\n", "d") == ["a", "b", "c", "d"]


def test_a_cleaned_splitter_forgets_the_rest() -> None:
    node = TextSplitNode()
    list(node.process("half a"))
    node.cleanup()
    assert node.flush() is None


@given(text=st.text("ab. \n!", max_size=40), cuts=st.lists(st.integers(0, 40), max_size=5))
@pytest.mark.parametrize("unit", ["lines", "words", "sentences"])
def test_how_the_text_is_cut_does_not_matter(unit: str, text: str, cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(ends)]
    assert split(unit, *pieces) == split(unit, text)
    if unit == "words":
        assert split(unit, text) == text.split()
