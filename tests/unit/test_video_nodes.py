"""Video nodes against slow, obvious reference implementations."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.nodes import pixels, resampling
from remotemedia.nodes.scaling import ConvertPixelFormat, Resize
from remotemedia.nodes.scratch import Scratch
from remotemedia.nodes.video import Denoise, EdgeFilter, MotionDetector
from remotemedia.testing.sources import moving_box

SOUND = AudioFrame(array=np.zeros((4, 1), np.float32))


def picture(height=24, width=32, channels=3, seed=0):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def frame(array, **facts):
    return VideoFrame(array=array, pixel_format="gray" if array.ndim == 2 else "rgb24", **facts)


def neighbourhoods(array):
    """(h, w, ..., 9): each pixel's 3x3 neighbours, borders repeated."""
    pad = np.pad(array, [(1, 1), (1, 1)] + [(0, 0)] * (array.ndim - 2), mode="edge")
    height, width = array.shape[:2]
    return np.stack([pad[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=-1)


sizes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]))


@given(sizes, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_median_equals_the_median_of_nine(size, seed):
    array = picture(*size, seed)
    assert np.array_equal(Denoise("median").process(array), np.median(neighbourhoods(array), axis=-1))


@given(sizes, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_box_equals_the_rounded_mean_of_nine(size, seed):
    array = picture(*size, seed)
    expected = (neighbourhoods(array).astype(int).sum(axis=-1) + 4) // 9
    assert np.array_equal(Denoise("box").process(array), expected)


@pytest.mark.parametrize("gain", [1.0, 0.25, 3.0])
def test_edges_equal_the_sobel_operator(gain):
    gray = picture(channels=1)
    near = neighbourhoods(gray).astype(int)
    gx = near @ np.array([-1, 0, 1, -2, 0, 2, -1, 0, 1])
    gy = near @ np.array([-1, -2, -1, 0, 0, 0, 1, 2, 1])
    expected = np.minimum((abs(gx) + abs(gy)) * gain, 255).astype(np.uint8)
    assert np.array_equal(EdgeFilter(gain=gain).process(gray), expected)


def test_edges_of_a_colour_picture_are_those_of_its_luma():
    rgb = picture()
    out = EdgeFilter().process(frame(rgb, pts=5))
    assert (out.pixel_format, out.pts) == ("gray", 5)
    assert np.array_equal(out.array, EdgeFilter().process(ConvertPixelFormat("gray").process(rgb)))


def test_gray_is_bt601_luma_for_both_orders_of_colours():
    rgb = picture()
    expected = rgb @ np.array([0.299, 0.587, 0.114])
    node = ConvertPixelFormat("gray")
    assert np.abs(node.process(rgb) - expected).max() <= 1
    bgr = VideoFrame(array=np.ascontiguousarray(rgb[..., ::-1]), pixel_format="bgr24")
    assert np.array_equal(node.process(bgr).array, node.process(rgb))


def test_colour_formats_convert_there_and_back():
    rgb = frame(picture())
    bgr = ConvertPixelFormat("bgr24").process(rgb)
    assert bgr.pixel_format == "bgr24"
    assert np.array_equal(bgr.array, rgb.array[..., ::-1])
    assert np.array_equal(ConvertPixelFormat("rgb24").process(bgr).array, rgb.array)
    gray = frame(picture(channels=1))
    assert np.array_equal(ConvertPixelFormat("rgb24").process(gray).array, np.repeat(gray.array[..., None], 3, axis=2))
    assert ConvertPixelFormat("rgb24").process(rgb) is rgb


def area_reference(array, height, width):
    """Each output pixel is the mean over what it covers, on a grid fine enough to be exact."""
    big = np.repeat(np.repeat(array.astype(float), height, axis=0), width, axis=1)
    return big.reshape(height, array.shape[0], width, array.shape[1], *array.shape[2:]).mean(axis=(1, 3))


@given(sizes, st.integers(1, 25), st.integers(1, 25))
@settings(max_examples=80, deadline=None)
def test_area_resize_is_the_mean_of_what_a_pixel_covers(size, height, width):
    array = picture(*size)
    out = Resize(width, height).process(array)
    assert out.shape == (height, width, *array.shape[2:])
    assert np.abs(out - area_reference(array, height, width)).max() <= 0.501


@given(sizes, st.integers(1, 25), st.integers(1, 25))
@settings(max_examples=60, deadline=None)
def test_bilinear_resize_interpolates_between_pixel_centres(size, height, width):
    array = picture(*size)

    def along(values, count, axis):
        size_in = values.shape[axis]
        at = (np.arange(count) + 0.5) * size_in / count - 0.5
        return np.apply_along_axis(lambda line: np.interp(at, np.arange(size_in), line), axis, values)

    expected = along(along(array.astype(float), height, 0), width, 1)
    out = Resize(width, height, method="bilinear").process(array)
    assert np.abs(out - expected).max() <= 0.501


def test_nearest_resize_repeats_and_drops_pixels():
    array = picture(6, 8)
    doubled = Resize(16, 12, method="nearest").process(array)
    assert np.array_equal(doubled, np.repeat(np.repeat(array, 2, axis=0), 2, axis=1))
    assert np.array_equal(Resize(8, 6, method="nearest").process(doubled), array)


@pytest.mark.parametrize("method", resampling.METHODS)
def test_resize_to_the_same_size_changes_nothing(method):
    array = picture()
    assert np.array_equal(Resize(32, 24, method=method).process(array), array)


def test_resize_keeps_proportions_time_and_metadata():
    source = frame(picture(90, 160), pts=7, time_base=Fraction(1, 25), metadata={"key": 1})
    out = Resize(64).process(source)
    assert (out.width, out.height) == (64, 36)
    assert (out.pts, out.time_base, out.metadata) == (7, Fraction(1, 25), {"key": 1})
    assert Resize(height=45).process(source).width == 80


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_temporal_denoise_removes_noise_and_leaves_no_trail():
    clean = [f.array for f in moving_box(160, 120, seconds=1)]
    noisy = [f.array for f in moving_box(160, 120, seconds=1, noise=12)]
    node = Denoise("temporal", strength=3, threshold=40)
    out = [node.process(array) for array in noisy]
    assert psnr(out[-1], clean[-1]) > psnr(noisy[-1], clean[-1]) + 4
    # Where the box was in the first frame, nothing of it is left.
    facts = next(moving_box(160, 120)).metadata["box"]
    x, y, w, h = facts
    assert np.abs(out[-1][y : y + h, x : x + w].astype(int) - clean[-1][y : y + h, x : x + w]).max() < 40


def test_temporal_denoise_keeps_a_still_picture_exactly():
    array = picture()
    array[0, 0], array[0, 1] = 255, 0
    node = Denoise()
    for _ in range(5):
        assert np.array_equal(node.process(array), array)


def test_denoise_starts_anew_when_the_size_changes_and_after_initialize():
    node = Denoise(threshold=255)
    dark, bright = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)
    node.process(dark)
    assert node.process(bright).max() < 200
    assert np.array_equal(node.process(np.full((4, 4, 3), 9, np.uint8)), np.full((4, 4, 3), 9))
    node.initialize()
    assert np.array_equal(node.process(bright), bright)


def overlap(a, b):
    """Intersection over union of two boxes."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3])
    common = max(0, right - left) * max(0, bottom - top)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def test_motion_detector_finds_the_box_and_draws_around_it():
    node = MotionDetector(cell=8, learning_rate=0.01, colour=(1, 2, 3))
    frames = [*moving_box(320, 240, seconds=2, noise=6)]
    outs = [node.process(f) for f in frames]
    assert outs[0].metadata["boxes"] == []
    found = outs[45]
    truth = frames[45].metadata["box"]
    best = max(found.metadata["boxes"], key=lambda box: overlap(box, truth))
    assert overlap(best, truth) > 0.6
    assert found.metadata["frame_rate"] == 30
    x, y, w, h = best
    assert (found.array[y, x : x + w] == (1, 2, 3)).all()
    assert (found.array[y + h - 1, x : x + w] == (1, 2, 3)).all()
    assert (found.array[y : y + h, x] == (1, 2, 3)).all()
    inside = np.s_[y + 4 : y + h - 4, x + 4 : x + w - 4]
    assert np.array_equal(found.array[inside], frames[45].array[inside])


def test_motion_detector_is_quiet_on_a_still_noisy_picture_and_may_leave_it_untouched():
    node = MotionDetector(draw=False)
    still = picture(64, 64)
    for seed in range(10):
        grain = np.random.default_rng(seed).integers(-6, 7, still.shape)
        source = frame(np.clip(still + grain, 0, 255).astype(np.uint8))
        out = node.process(source)
        assert out.metadata["boxes"] == []
        assert out.array is source.array


@pytest.mark.parametrize(
    ("pixel_format", "shade"),
    [("gray", (77 * 50 + 150 * 100 + 29 * 200 + 128) >> 8), ("bgr24", (200, 100, 50)), ("rgb24", (50, 100, 200))],
)
def test_boxes_have_their_colour_in_every_format_and_end_at_the_border(pixel_format, shade):
    shape = (44, 60) if pixel_format == "gray" else (44, 60, 3)
    node = MotionDetector(colour=(50, 100, 200), thickness=1, min_cells=1)
    dark, lit = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    lit[33:, 49:] = 250
    node.process(VideoFrame(array=dark, pixel_format=pixel_format))
    out = node.process(VideoFrame(array=lit, pixel_format=pixel_format))
    assert out.metadata["boxes"] == [(48, 32, 12, 12)]
    assert (out.array[43, 48:60] == shade).all()


@given(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_connected_boxes_hold_all_active_cells_and_touch_no_others(rows):
    active = np.array(rows)
    boxes = pixels.connected_boxes(active, 1)
    covered = np.zeros_like(active)
    for x, y, w, h in boxes:
        covered[y : y + h, x : x + w] = True
        part = active[y : y + h, x : x + w]
        assert part[0].any()
        assert part[-1].any()
        assert part[:, 0].any()
        assert part[:, -1].any()
    assert not (active & ~covered).any()


def test_groups_join_over_corners_and_small_ones_are_left_out():
    active = np.zeros((5, 6), bool)
    active[0, 0] = active[1, 1] = active[2, 0] = True
    active[4, 5] = True
    assert pixels.connected_boxes(active, 1) == [(0, 0, 2, 3), (5, 4, 1, 1)]
    assert pixels.connected_boxes(active, 2) == [(0, 0, 2, 3)]


ALL = [Resize(8, 8), ConvertPixelFormat("gray"), *map(Denoise, Denoise.METHODS), EdgeFilter(), MotionDetector()]


@pytest.mark.parametrize("node", ALL, ids=repr)
def test_every_node_leaves_its_input_alone(node):
    """As in a worker, where what arrives is a read-only view of shared memory."""
    array = picture()
    array.flags.writeable = False
    before = array.copy()
    for _ in range(3):
        node.process(frame(array))
    assert np.array_equal(array, before)


@pytest.mark.parametrize("node", ALL, ids=repr)
def test_sound_passes_or_is_dropped(node):
    assert node.process(SOUND) is SOUND
    dropping = type(node)(**{**node.config, "other": "drop"})
    assert dropping.process(SOUND) is None
    assert dropping.config["other"] == "drop"


@pytest.mark.parametrize("node", ALL, ids=repr)
def test_memory_for_work_does_not_travel(node):
    twin = pickle.loads(pickle.dumps(node))
    for _ in range(2):
        twin.process(picture())
    before = len(pickle.dumps(twin))
    twin.cleanup()
    twin.cleanup()
    assert len(pickle.dumps(twin)) < 2000
    assert len(twin.scratch) == 0
    assert before < 2000 + 4 * picture().nbytes


def test_scratch_is_reused_while_shape_and_type_stay():
    scratch = Scratch()
    first = scratch.get("a", (2, 3), np.uint8)
    assert scratch.get("a", (2, 3), np.uint8) is first
    assert scratch.get("a", (2, 3), np.int16) is not first
    assert scratch.get("a", (3, 3), np.int16).shape == (3, 3)
    assert len(pickle.loads(pickle.dumps(scratch))) == 0


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (Resize, "width"),
        (lambda: Resize(0), "width=0"),
        (lambda: Resize(4, 4, method="cubic"), "area, bilinear, nearest"),
        (lambda: ConvertPixelFormat("yuv"), "did you mean yuyv422"),
        (lambda: Denoise("nlm"), "temporal, box, median"),
        (lambda: Denoise(strength=9), "1 to 5"),
        (lambda: EdgeFilter(gain=0), "gain=0"),
        (lambda: MotionDetector(cell=10), "multiple of 4"),
        (lambda: MotionDetector(colour=(1, 2)), "colour"),
        (lambda: Resize(4, 4, other="keep"), '"pass" or "drop"'),
    ],
)
def test_bad_settings_say_what_was_expected(make, part):
    with pytest.raises(ConfigurationError, match=part):
        make()


@pytest.mark.parametrize(
    ("data", "kind", "part"),
    [
        ("text", TypeError, "takes VideoFrames, not str"),
        (np.zeros((4, 4, 3), np.float32), ValueError, "uint8 array of shape"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"not uint8 \(4, 4, 4\)"),
        (VideoFrame(array=np.zeros((4, 4), np.uint8)), ValueError, "rgb24 picture"),
        (VideoFrame(array=np.zeros((4, 4), np.uint8), pixel_format="yuv"), ValueError, "expected rgb24, bgr24, gray"),
    ],
)
def test_wrong_data_says_what_is_wrong(data, kind, part):
    with pytest.raises(kind, match=part):
        Denoise(name="clean").process(data)
