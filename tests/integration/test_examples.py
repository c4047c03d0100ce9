"""The examples, run as a user runs them, in worker processes and in one process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from remotemedia import AudioFrame, VideoFrame, run_pipeline
from remotemedia.core.graph import Graph
from remotemedia.manifest import to_graph
from remotemedia.nodes import Loudness, MediaFileSource, MotionDetector
from remotemedia.nodes.media_io import probe

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.media


def run(name, *arguments, folder):
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TMPDIR": str(folder)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("executor", ["inline", None])
def test_the_demo_writes_a_clip_with_boxes_even_sound_and_right_times(tmp_path, executor):
    arguments = ["--executor", executor] if executor else []
    result = run(
        "demo.py", "--seconds", 2, "--width", 320, "--height", 240, "--folder", tmp_path, *arguments, folder=tmp_path
    )
    assert re.search(r"60 pictures in [\d.]+ s: [\d.]+ frames/s", result.stdout)
    for stage in ("decode", "denoise", "motion", "loudness", "encode"):
        assert re.search(rf"^{stage} +\d+ +[\d.]+ +[\d.]+ +\d+$", result.stdout, re.MULTILINE)
    assert "decode" in result.stderr  # the progress display, plain because there is no terminal
    video, audio = probe(tmp_path / "out.mp4")
    assert (video.seconds, video.details) == (2.0, "320x240 30 fps")
    assert audio.seconds == pytest.approx(2.0, abs=0.03)
    check_result(tmp_path)


def check_result(folder):
    before, after = (run_pipeline([MediaFileSource(folder / name)]) for name in ("clip.mp4", "out.mp4"))
    times = [[f.time_s for f in frames if isinstance(f, VideoFrame)] for frames in (before, after)]
    assert times[0] == pytest.approx(times[1])
    red = [np.sum((f.array[..., 0] > 180) & (f.array[..., 1] < 100)) for f in after if isinstance(f, VideoFrame)]
    assert red[0] < 20 < red[45]  # the frames of the boxes, once something has moved
    gain = loudness(after) - loudness(before)
    assert 10 < gain < 21  # the clip's first step is far below the target


def loudness(frames):
    sound = [f for f in frames if isinstance(f, AudioFrame)]
    return run_pipeline([Loudness()], sound)[-1].metadata["loudness_lufs"]


def test_both_executors_make_the_same_pictures_and_sounds(tmp_path):
    files = []
    for name, arguments in (("one", ["--executor", "inline"]), ("many", [])):
        folder = tmp_path / name
        run("demo.py", "--seconds", 1, "--width", 160, "--height", 120, "--folder", folder, "--quiet", *arguments,
            folder=tmp_path)  # fmt: skip
        files.append(run_pipeline([MediaFileSource(folder / "out.mp4")]))
    for one, many in zip(*files, strict=True):
        assert (type(one), one.pts) == (type(many), many.pts)
        assert np.array_equal(one.array, many.array)


def test_hello_brightens_twice_in_two_workers(tmp_path):
    result = run("hello.py", folder=tmp_path)
    assert result.stdout == "8 frames of (1080, 1920, 3), brightened twice: every value is 80\n"


def test_loudness_evens_out_the_levels(tmp_path):
    result = run("loudness.py", folder=tmp_path)
    levels = {
        line.split(":")[0]: [float(number) for number in re.findall(r"-\d+\.\d", line)]
        for line in result.stdout.splitlines()
        if line.endswith("LUFS")
    }
    assert np.ptp(levels["before"]) > 20
    # Settled, at the end of each step of six seconds.
    assert levels["after"][11] == pytest.approx(-16, abs=0.5)
    assert levels["after"][17] == pytest.approx(-16, abs=2.5)


def test_thumbnails_have_three_sizes(tmp_path):
    result = run("thumbnails.py", "--every", 30, folder=tmp_path)
    *paths, summary = result.stdout.splitlines()
    assert summary.startswith("9 thumbnails in ")
    sizes = {Path(path).read_bytes().split(b"\n")[0] for path in paths}
    assert sizes == {b"P6 64 36 255", b"P6 160 90 255", b"P6 320 180 255"}


def test_the_camera_example_works_on_what_there_is_time_for(tmp_path):
    result = run("live_camera.py", "--seconds", 0.5, folder=tmp_path)
    came, seen, dropped, moving = map(int, re.findall(r"\d+", result.stdout.splitlines()[0]))
    assert came == 30
    assert seen + dropped == came
    assert 0 < moving <= seen
    assert "320x180 at 0.48 s" in result.stdout  # the last picture is never dropped


def test_the_demo_manifest_is_the_graph_of_its_picture():
    graph: Graph = to_graph((EXAMPLES / "demo.json").read_text())
    assert [type(node) for node in graph.nodes][2] is MotionDetector
    assert {(graph.ids[a], graph.ids[b]) for a, b in graph.edges} == {
        ("decode", "denoise"),
        ("denoise", "motion"),
        ("motion", "encode"),
        ("decode", "loudness"),
        ("loudness", "encode"),
    }
    assert [graph.ids[i] for i, place in enumerate(graph.with_executor(None)) if place == "multiprocess"] == [
        "denoise", "motion", "loudness",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) < 100
