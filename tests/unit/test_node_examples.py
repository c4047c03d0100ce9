"""Every built-in node has a documentation with an example, and the examples give what they say."""

from __future__ import annotations

import doctest
import inspect
import io
from fractions import Fraction

import numpy as np
import pytest

import remotemedia
import remotemedia.nodes
from remotemedia.nodes import get_node_class, media_io
from remotemedia.nodes.registry import BUILT_IN_MODULES
from remotemedia.testing import sources

pytestmark = pytest.mark.media

# What the examples take as given; docs/media.md says so too.
NAMES = {
    "np": np, "io": io, "Fraction": Fraction, "probe": media_io.probe,
    "run_pipeline": remotemedia.run_pipeline, "AudioFrame": remotemedia.AudioFrame,
    "VideoFrame": remotemedia.VideoFrame, "TensorFrame": remotemedia.TensorFrame,
    "sine": sources.sine, "colour_bars": sources.colour_bars,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where examples run: clip.mp4 is one second of 64x48 pictures at 25 per second, and stereo sound."""
    folder = tmp_path_factory.mktemp("examples")
    sources.make_clip(folder / "clip.mp4", seconds=1, width=64, height=48, fps=25, noise=0)
    return folder


def run_examples(thing, name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    nodes = {node: get_node_class(node) for node in BUILT_IN_MODULES}
    tests = doctest.DocTestFinder(recurse=False).find(thing, name, globs={**NAMES, **nodes})
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    for test in tests:
        runner.run(test, out=report.write)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()
    return runner.tries


@pytest.mark.parametrize("name", sorted(BUILT_IN_MODULES))
def test_the_example_of_a_node_gives_what_it_says(name, folder, monkeypatch):
    assert run_examples(get_node_class(name), name, folder, monkeypatch) > 0, f"{name} has no >>> example"


def test_the_example_of_probe(folder, monkeypatch):
    assert run_examples(media_io.probe, "probe", folder, monkeypatch) > 0


@pytest.mark.parametrize("name", sorted(BUILT_IN_MODULES))
def test_a_node_says_what_it_raises_where_it_checks_its_settings(name):
    found = get_node_class(name)
    text = inspect.getdoc(found) or ""
    own = "__init__" in vars(found) and "raise ConfigurationError" in inspect.getsource(found.__init__)
    assert "Raises" in text or not own
