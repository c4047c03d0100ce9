"""Pixel formats: layouts against FFmpeg's own, planes without copies, conversion and resizing."""

from __future__ import annotations

import pickle
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import VideoFrame
from remotemedia.core.pixel_formats import PIXEL_FORMATS, pixel_format
from remotemedia.nodes.conversion import as_picture, copy_planes, plane_views
from remotemedia.nodes.scaling import ConvertPixelFormat, Resize

pytestmark = pytest.mark.media

RAMP = np.empty((48, 64, 3), np.uint8)
RAMP[..., 0] = np.linspace(20, 230, 64)
RAMP[..., 1] = np.linspace(200, 40, 48)[:, None]
RAMP[..., 2] = 90


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-5))


def picture(name, width=20, height=12):
    known = PIXEL_FORMATS[name]
    high = 1024 if "10" in name else np.iinfo(known.dtype).max + 1
    array = np.random.default_rng(1).integers(0, high, known.shape(width, height), dtype=known.dtype)
    return VideoFrame(array=array, pixel_format=name, pts=5, time_base=Fraction(1, 25))


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_a_format_has_the_planes_that_ffmpeg_says(name):
    known, facts = PIXEL_FORMATS[name], av.VideoFormat(name, 20, 12)
    assert len({component.plane for component in facts.components}) == len(known.planes)
    frame = picture(name)
    assert (frame.width, frame.height) == (20, 12)
    assert sum(plane.size for plane in frame.planes) == frame.array.size
    bits = facts.padded_bits_per_pixel if len(known.planes) == 1 else 8 * frame.array.nbytes / (20 * 12)
    assert bits == 8 * frame.array.nbytes / (20 * 12)
    assert known.size(frame.array) == (20, 12)


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_planes_are_views_and_travel_through_ffmpeg_unchanged(name):
    frame = picture(name)
    assert all(np.shares_memory(plane, frame.array) for plane in frame.planes)
    theirs = as_picture(frame)
    assert (theirs.format.name, theirs.width, theirs.height, theirs.pts) == (name, 20, 12, 5)
    for ours, view in zip(frame.planes, plane_views(theirs), strict=True):
        assert np.array_equal(ours, view)
    out = copy_planes(theirs, PIXEL_FORMATS[name], np.empty_like(frame.array))
    assert np.array_equal(out, frame.array)


def test_views_of_decoded_planes_skip_the_padding_of_the_lines_and_copy_nothing():
    theirs = av.VideoFrame(33, 6, "rgb24")
    assert theirs.planes[0].line_size > 33 * 3
    (view,) = plane_views(theirs)
    view[:] = np.arange(view.size, dtype=np.uint8).reshape(view.shape)
    assert view.strides == (theirs.planes[0].line_size, 3, 1)
    assert np.array_equal(theirs.to_ndarray(), view)


def test_plain_pictures_are_handed_to_ffmpeg_without_a_copy():
    frame = VideoFrame(array=RAMP)
    address = RAMP.__array_interface__["data"][0]
    assert as_picture(frame).planes[0].buffer_ptr == address


@pytest.mark.parametrize("name", [name for name in PIXEL_FORMATS if "gray" not in name])
def test_a_picture_converts_there_and_back(name):
    there = ConvertPixelFormat(name).process(VideoFrame(array=RAMP, pts=3, metadata={"camera": 1}))
    assert (there.pixel_format, there.pts, there.metadata["camera"]) == (name, 3, 1)
    assert there.array.dtype == PIXEL_FORMATS[name].dtype
    back = ConvertPixelFormat("rgb24").process(there)
    assert psnr(back.array, RAMP) > (33 if PIXEL_FORMATS[name].kind == "yuv" else 90)


def test_conversion_is_by_bt709_for_hd_and_by_bt601_below_unless_it_is_said():
    red = np.zeros((720, 16, 3), np.uint8)
    red[..., 0] = 255
    luma = {}
    for name, rows, facts in (("hd", 720, {}), ("sd", 480, {}), ("said", 480, {"colour_space": "bt709"})):
        yuv = ConvertPixelFormat("yuv420p").process(VideoFrame(array=red[:rows], metadata=facts))
        luma[name] = int(yuv.planes[0][4, 4])
        assert psnr(ConvertPixelFormat("rgb24").process(yuv).array, red[:rows]) > 40
    assert luma == {"hd": pytest.approx(63, abs=1), "sd": pytest.approx(81, abs=1), "said": pytest.approx(63, abs=1)}


@pytest.mark.parametrize("name", ["rgb24", "gray", "rgba", "yuv420p", "yuyv422", "nv12", "yuv444p10le"])
@pytest.mark.parametrize("fit", ["stretch", "contain", "cover"])
def test_resizing_fits_in_every_format(name, fit):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, :20], wide[:, 20:60], wide[:, 60:] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    frame = ConvertPixelFormat(name).process(VideoFrame(array=wide, pts=9))
    out = Resize(40, 40, fit=fit, fill=(255, 255, 255), method="area").process(frame)
    assert (out.width, out.height, out.pixel_format, out.pts) == (40, 40, name, 9)
    rgb = ConvertPixelFormat("rgb24").process(out).array.astype(int)
    reference = ConvertPixelFormat("rgb24").process(frame).array.astype(int)
    red, green = reference[20, 4], reference[20, 40]
    white = np.array([255, 255, 255])
    corner = {"stretch": red, "contain": white, "cover": green}[fit]
    edge = {"stretch": red, "contain": red, "cover": green}[fit]
    assert np.abs(rgb[2, 3] - corner).max() <= 12
    assert np.abs(rgb[37, 3] - corner).max() <= 12
    assert np.abs(rgb[20, 3] - edge).max() <= 12
    assert np.abs(rgb[20, 20] - green).max() <= 12


@pytest.mark.parametrize("method", ["bicubic", "lanczos", "area"])
def test_methods_of_ffmpeg_keep_a_smooth_picture(method):
    small = Resize(32, 24, method=method).process(VideoFrame(array=RAMP))
    assert psnr(Resize(64, 48, method=method).process(small).array[4:-4, 4:-4], RAMP[4:-4, 4:-4]) > 35


def test_a_resized_yuv_picture_keeps_its_colour_space():
    red = np.full((720, 64, 3), (255, 0, 0), np.uint8)
    hd = ConvertPixelFormat("yuv420p").process(VideoFrame(array=red))
    small = Resize(32, 360).process(hd)
    assert small.metadata["colour_space"] == "bt709"
    assert psnr(ConvertPixelFormat("rgb24").process(small).array, red[:360, :32]) > 40


def test_nodes_that_have_worked_travel():
    node = Resize(32, 24)
    frame = ConvertPixelFormat("nv12").process(VideoFrame(array=RAMP))
    first = node.process(frame).array
    assert np.array_equal(pickle.loads(pickle.dumps(node)).process(frame).array, first)


@pytest.mark.parametrize(
    ("make", "kind", "part"),
    [
        (lambda: pixel_format("yuv421p"), ConfigurationError, "did you mean yuv42.p or"),
        (lambda: pixel_format("zzz"), ConfigurationError, "expected one of gray, gray16le, rgb24"),
        (lambda: ConvertPixelFormat("yuv420p").process(VideoFrame(array=RAMP[:-1])), ValueError, "64x47 is impossible"),
        (lambda: Resize(33, 20).process(picture("yuv420p")), ValueError, "multiple of 2"),
        (lambda: Resize(8, 8).process(VideoFrame(array=RAMP, pixel_format="nv12")), ValueError, r"\(height \* 3/2, w"),
        (lambda: Resize(8, fit="cover"), ConfigurationError, "fit='cover'.*a width and a height"),
        (lambda: Resize(8, 8, fit="crop"), ConfigurationError, "stretch, contain, cover"),
        (lambda: Resize(8, 8, fill=(1, 2)), ConfigurationError, "red, green, blue"),
    ],
)
def test_what_cannot_be_says_why(make, kind, part):
    with pytest.raises(kind, match=part):
        make()


def test_without_pyav_other_formats_name_the_extra_and_plain_ones_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert Resize(8, 8, fit="contain").process(RAMP).shape == (8, 8, 3)
    with pytest.raises(ConfigurationError, match=r"remotemedia\[media\]"):
        ConvertPixelFormat("yuv420p").process(VideoFrame(array=RAMP))
