"""Tensor nodes against numpy, and text nodes that feed models."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotemedia import run_pipeline
from remotemedia.core.exceptions import ConfigurationError, NodeProcessError
from remotemedia.core.frames import AudioFrame, TensorFrame, VideoFrame
from remotemedia.nodes import (
    TensorCast,
    TensorNormalize,
    TensorReshape,
    TensorStack,
    TextChunkNode,
    TextTemplateNode,
    ToTensor,
)

RANDOM = np.random.default_rng(0)
numbers = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-(2**62), 2**62))


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_pictures_and_sound_become_tensors(layout):
    first = layout == "CHW"
    rgb = RANDOM.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    tensor = ToTensor(layout=layout).process(VideoFrame(array=rgb, pts=3, time_base=Fraction(1, 25)))
    expected = rgb.astype(np.float32) / 255
    assert np.allclose(tensor.array, expected.transpose(2, 0, 1) if first else expected)
    assert (tensor.pts, tensor.time_base, tensor.array.flags.c_contiguous) == (3, Fraction(1, 25), True)
    assert tensor.dims == (("channel", "height", "width") if first else ("height", "width", "channel"))
    gray = ToTensor(layout=layout).process(rgb[..., 0].copy())
    assert gray.shape == ((1, 4, 6) if first else (4, 6, 1))
    samples = np.array([[16384, -32768]] * 5, np.int16)
    sound = ToTensor(layout=layout).process(AudioFrame(array=samples))
    assert sound.array.shape == ((2, 5) if first else (5, 2))
    assert sorted(set(sound.array.ravel().tolist())) == [-1.0, 0.5]


@given(
    st.sampled_from(["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]),
    st.lists(numbers, min_size=1, max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_casting_rounds_and_saturates(dtype, values):
    limits = np.iinfo(dtype)
    for source in (np.array(values, np.float32), np.array([int(v) % 2**40 for v in values], np.int64)):
        found = TensorCast(dtype).process(source)
        assert found.dtype == dtype
        for value, got in zip(source.tolist(), found.tolist(), strict=True):
            exact = min(max(round(value), limits.min), limits.max)
            # the greatest float32 within the range may be a little less than its end
            assert got == exact or (source.dtype.kind == "f" and abs(exact - got) <= limits.max / 2**23)
            assert limits.min <= got <= limits.max


def test_casting_keeps_frames_and_scales():
    frame = TensorFrame(array=np.array([[0.5, 1.0]], np.float32), pts=9, dims=("a", "b"), metadata={"x": 1})
    found = TensorCast("uint8", scale=255).process(frame)
    assert found.array.tolist() == [[128, 255]]
    assert (found.pts, found.dims, found.metadata) == (9, ("a", "b"), {"x": 1})
    assert TensorCast("float16").process(np.array([1, 2])).dtype == np.float16


@pytest.mark.parametrize("axis", [0, -1])
def test_normalizing_is_along_an_axis(axis):
    array = RANDOM.standard_normal((3, 4, 3)).astype(np.float32)
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]
    shape = [1, 1, 3] if axis == -1 else [3, 1, 1]
    expected = (array - np.reshape(mean, shape)) / np.reshape(std, shape)
    found = TensorNormalize(mean, std, axis=axis).process(array)
    assert np.allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    assert np.allclose(TensorNormalize(1, 2).process(np.array([3, 5], np.uint8)), [1, 2])


def test_reshaping_equals_numpy():
    array = RANDOM.standard_normal((2, 3, 4))
    for axes, shape in (((2, 0, 1), None), (None, (6, -1)), ((1, 0, 2), (3, 8)), (None, (24,)), (None, (1, 2, 3, 4))):
        turned = array if axes is None else array.transpose(axes)
        expected = turned if shape is None else turned.reshape(shape)
        assert np.array_equal(TensorReshape(shape, axes=axes).process(array), expected)
    frame = TensorFrame.of(array, "a", "b", "c")
    assert TensorReshape(axes=(2, 0, 1)).process(frame).dims == ("c", "a", "b")
    assert TensorReshape((6, 4)).process(frame).dims == ()
    assert TensorReshape((6, 4), dims=("x", "y")).process(frame).dims == ("x", "y")


def test_stacks_have_the_time_of_the_first_and_of_all():
    frames = [TensorFrame(array=np.full((2, 2), n), pts=10 * n, dims=("a", "b")) for n in range(5)]
    found = run_pipeline([TensorStack(3)], frames)
    assert [f.array.shape for f in found] == [(3, 2, 2), (2, 2, 2)]
    assert [f.pts for f in found] == [0, 30]
    assert [f.metadata["pts"] for f in found] == [[0, 10, 20], [30, 40]]
    assert found[0].dims == ("batch", "a", "b")
    assert [f.array[:, 0, 0].tolist() for f in found] == [[0, 1, 2], [3, 4]]
    assert len(run_pipeline([TensorStack(3, rest="drop")], frames)) == 1


@pytest.mark.parametrize(
    ("node", "inputs", "part"),
    [
        (ToTensor(), ["text"], "takes pictures and sound, not str"),
        (ToTensor(), [VideoFrame(array=np.zeros((6, 4), np.uint8), pixel_format="yuv420p")], "ConvertPixelFormat"),
        (TensorCast("uint8"), ["text"], "takes arrays and typed frames, not str"),
        (TensorNormalize([1, 2], [1, 2]), [np.zeros((3, 2))], r"axis 0 of \(3, 2\) must have 2 values"),
        (TensorReshape((5, -1)), [np.zeros((2, 3))], r"\(2, 3\) has 6 values and cannot become \(5, -1\)"),
        (TensorReshape(axes=(0, 1, 2)), [np.zeros((2, 3))], "cannot become"),
        (TensorStack(2), [np.zeros(3), np.zeros(4)], r"float64 \(4,\) cannot be stacked on float64 \(3,\)"),
        (TensorStack(2), [3], "takes arrays and typed frames, not int"),
    ],
)
def test_what_does_not_fit_says_why(node, inputs, part):
    with pytest.raises(NodeProcessError, match=part):
        run_pipeline([node], inputs)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: ToTensor(layout="WHC"), "expected CHW or HWC"),
        (lambda: TensorCast("text"), "one of bool, float16"),
        (lambda: TensorNormalize([1, 2], [1, 2, 3]), "as many numbers"),
        (lambda: TensorNormalize(0, 0), "greater than 0"),
        (TensorReshape, "a shape, axes or both"),
        (lambda: TensorReshape((-1, -1)), "at most one -1"),
        (lambda: TensorStack(0), "size=0"),
        (lambda: TensorStack(2, rest="keep"), "give or drop"),
        (lambda: TextChunkNode(0), "max_chars=0"),
        (lambda: TextChunkNode(5, overlap=5), "less than max_chars"),
        (lambda: TextTemplateNode("{"), "no template"),
    ],
)
def test_bad_settings(make, part):
    with pytest.raises(ConfigurationError, match=part):
        make()


# -- text ------------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 30), st.integers(0, 29))
@settings(max_examples=150, deadline=None)
def test_chunks_of_text_are_short_and_lose_no_word(text, most, overlap):
    pieces = run_pipeline([TextChunkNode(most, overlap=min(overlap, most - 1))], [text])
    assert all(0 < len(piece) <= most for piece in pieces)
    if overlap == 0:
        assert "".join("".join(pieces).split()) == "".join(text.split())
    words = text.split()
    if words and max(map(len, words)) <= most:
        found = [word for piece in pieces for word in piece.split()]
        if overlap == 0:
            assert found == words
        else:
            at = iter(found)
            assert all(any(word == other for other in at) for word in words)  # in order, some twice


def test_templates_say_what_is_missing():
    assert run_pipeline([TextTemplateNode("<{}>")], ["a", 3]) == ["<a>", "<3>"]
    assert run_pipeline([TextTemplateNode("{a}-{b}")], [{"a": 1, "b": 2}]) == ["1-2"]
    with pytest.raises(NodeProcessError, match=r"asks for \{a\}, \{b\}, which a dict with a does not give"):
        run_pipeline([TextTemplateNode("{a}-{b}")], [{"a": 1}])
