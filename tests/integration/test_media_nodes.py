"""The media nodes in worker processes: the same frames as in one process, and without copies where they make arrays."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from remotemedia import run_pipeline
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.nodes import (
    Chunk,
    ConvertPixelFormat,
    FilterGraph,
    Label,
    LoudnessMeter,
    MediaFileSource,
    MediaSource,
    Mix,
    RawVideoSink,
    RawVideoSource,
    Resize,
    Sync,
    TensorNormalize,
    TensorStack,
    ToTensor,
)
from remotemedia.testing.sources import make_clip

pytestmark = pytest.mark.media
CAMERA = "testsrc2=size=160x120:rate=25:duration=0.8"


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert (type(a), a.pts, a.time_base, a.metadata) == (type(b), b.pts, b.time_base, b.metadata)
        assert a.array.dtype == b.array.dtype
        assert np.array_equal(a.array, b.array)


def both(make):
    """What the pipeline gives in one process, in workers, and the workers' metrics by node."""
    inline = run_pipeline(make(), executor="inline")
    result = run_pipeline(make(), executor="multiprocess", enable_metrics=True)
    return inline, result["outputs"], {m["node_id"]: m for m in result["metrics"]["node_metrics"]}


def test_pictures_through_workers():
    def make():
        return [
            MediaSource(CAMERA, format="lavfi", pixel_format="yuv420p"),
            Resize(64, 64, fit="contain"),
            FilterGraph("hflip,fps=50"),
            ConvertPixelFormat("rgb24"),
            ToTensor(),
            TensorNormalize([0.5, 0.5, 0.5], [0.2, 0.2, 0.2]),
            TensorStack(4),
        ]

    inline, workers, metrics = both(make)
    assert_same(inline, workers)
    assert [f.array.shape for f in workers] == [(4, 3, 64, 64)] * 10
    assert {node: m["copies"] for node, m in metrics.items()} == dict.fromkeys(metrics, 0)


def test_sound_through_workers(tmp_path):
    make_clip(tmp_path / "clip.mp4", seconds=1, width=64, height=48, fps=25)

    def make():
        return [
            MediaFileSource(tmp_path / "clip.mp4"),
            Sync(25),
            Label("clip"),
            Mix(["clip"], limit="limiter"),
            LoudnessMeter(),
            Chunk(20, pad=True),
        ]

    inline, workers, metrics = both(make)
    assert_same(inline, workers)
    assert {type(f) for f in workers} == {AudioFrame, VideoFrame}
    pictures = sum(isinstance(f, VideoFrame) for f in workers)
    copies = {"MediaFileSource": 0, "Mix": pictures, "LoudnessMeter": pictures, "Chunk": pictures}  # those that pass
    assert {node: metrics[node]["copies"] for node in copies} == copies


def test_commands_belong_to_the_worker_that_reads_them(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 6, 8, 3), dtype=np.uint8)
    (tmp_path / "in.raw").write_bytes(pictures.tobytes())
    copy = "import sys, shutil; shutil.copyfileobj({}, {})"
    give = [sys.executable, "-c", copy.format("open(sys.argv[1], 'rb')", "sys.stdout.buffer"), str(tmp_path / "in.raw")]
    take = [sys.executable, "-c", copy.format("sys.stdin.buffer", "open(sys.argv[1], 'wb')"), str(tmp_path / "out.raw")]
    done = run_pipeline([RawVideoSource(give, 8, 6), FilterGraph("hflip"), RawVideoSink(take)], executor="multiprocess")
    assert done.frames == 9
    found = np.frombuffer((tmp_path / "out.raw").read_bytes(), np.uint8).reshape(pictures.shape)
    assert np.array_equal(found, pictures[:, :, ::-1])
