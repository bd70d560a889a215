"""One preprocessing: the same pixels for training, calibration and the car, and no second place that makes them."""

from __future__ import annotations

import ast
import math
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from repository import ROOT
from sepilot_runtime.base.errors import FrameError
from sepilot_runtime.contract.contract import Picture, golden_from
from sepilot_runtime.contract.preprocess import (
    Preprocessor,
    golden_copy,
    picture_of,
    shrink_frame,
    write_input,
)
from sepilot_runtime.contract.window import crop_box

fractions = st.floats(0, 0.49)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    return Picture(
        height=draw(st.integers(1, 80)),
        width=draw(st.integers(1, 120)),
        color=draw(st.sampled_from(["gray", "bgr"])),
        crop_top=draw(fractions),
        crop_bottom=draw(fractions),
        crop_left=draw(fractions),
        crop_right=draw(fractions),
        resize=draw(st.sampled_from(["exact", "linear"])),
    )


@st.composite
def frames(draw: st.DrawFn) -> NDArray[np.uint8]:
    height, width = draw(st.integers(1, 140)), draw(st.integers(1, 180))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def expected_picture(frame: NDArray[np.uint8], picture: Picture) -> NDArray[np.uint8]:
    """The definition, written down once more: cut, then resize and gray in the order that costs less."""
    top, bottom, left, right = crop_box(*frame.shape[:2], picture)
    cut = np.ascontiguousarray(frame[top:bottom, left:right])
    if picture.resize == "linear":
        small = cv2.resize(cut, (picture.width, picture.height), interpolation=cv2.INTER_LINEAR)
        return gray_of(small) if picture.color == "gray" else np.asarray(small, np.uint8)
    if picture.color == "bgr":
        return exactly_resized(cut, picture)
    if cut.shape[0] * cut.shape[1] <= 4 * picture.height * picture.width:
        return exactly_resized(gray_of(cut), picture)
    return gray_of(exactly_resized(cut, picture))


def gray_of(image: NDArray[Any]) -> NDArray[np.uint8]:
    """BT.601 in 15 bits, halves up."""
    weighed = image.astype(np.int64) @ np.array([3735, 19235, 9798])
    return ((weighed + (1 << 14)) >> 15).astype(np.uint8)[:, :, np.newaxis]


def exactly_resized(image: NDArray[np.uint8], picture: Picture) -> NDArray[np.uint8]:
    """Bilinear between pixel centres, at places rounded to 32nds, in whole numbers, halves up."""
    (y, down), (x, along) = places(image.shape[0], picture.height), places(image.shape[1], picture.width)
    below, right = np.minimum(y + 1, image.shape[0] - 1), np.minimum(x + 1, image.shape[1] - 1)
    wide, along = image.astype(np.int64), along[:, np.newaxis]
    upper, lower = ((32 - along) * wide[row][:, x] + along * wide[row][:, right] for row in (y, below))
    down = down[:, np.newaxis, np.newaxis]
    return (((32 - down) * upper + down * lower + 512) >> 10).astype(np.uint8)


def places(size: int, result: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    centers = [Fraction(2 * i + 1, 2) * size / result - Fraction(1, 2) for i in range(result)]
    steps = [min(max(math.floor(center * 32 + Fraction(1, 2)), 0), (size - 1) * 32) for center in centers]
    before, share = np.divmod(np.array(steps), 32)
    return before, share


@given(frames(), pictures())
def test_every_way_in_gives_the_same_pixels(frame: NDArray[np.uint8], picture: Picture) -> None:
    wanted = expected_picture(frame, picture)
    assert wanted.shape == picture.shape
    # Training and calibration call the function; the car keeps a Preprocessor, which it meets with buffers in use.
    driving = Preprocessor(picture)
    driving.picture_of(255 - frame)
    assert np.array_equal(picture_of(frame, picture), wanted)
    assert np.array_equal(driving.picture_of(frame), wanted)
    # A frame may be a view into a larger one, as a camera driver gives it.
    padded = np.zeros((frame.shape[0] + 2, frame.shape[1] + 3, 3), np.uint8)
    padded[1:-1, 2:-1] = frame
    assert np.array_equal(driving.picture_of(padded[1:-1, 2:-1]), wanted)


@given(frames(), pictures())
def test_every_input_type_holds_the_same_pixels(frame: NDArray[np.uint8], picture: Picture) -> None:
    pixels = picture_of(frame, picture)
    as_float, as_int8, as_uint8 = (np.zeros((1, *picture.shape), t) for t in (np.float32, np.int8, np.uint8))
    for tensor in (as_float, as_int8, as_uint8):
        write_input(pixels, tensor)
    assert as_float.min() >= 0 and as_float.max() <= 1
    assert np.array_equal(np.rint(as_float[0] * 255), pixels)
    assert np.array_equal(as_int8[0].astype(np.int16) + 128, pixels)
    assert np.array_equal(as_uint8[0], pixels)


def test_float_and_int8_inputs_mean_the_same_number() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    as_float, as_int8 = np.zeros((1, 16, 16, 1), np.float32), np.zeros((1, 16, 16, 1), np.int8)
    write_input(pixels, as_float)
    write_input(pixels, as_int8)
    dequantized = (as_int8.astype(np.float64) + 128) / 255
    assert np.abs(dequantized - as_float).max() < 1e-7
    # What training does to the whole batch in its graph.
    assert np.array_equal(pixels.astype(np.float32) * np.float32(1 / 255), as_float[0])


def test_one_preprocessor_takes_frames_of_changing_size() -> None:
    picture = Picture(height=12, width=20, crop_top=0.25)
    rng = np.random.default_rng(0)
    preprocessor = Preprocessor(picture)
    for height, width in ((48, 64), (480, 640), (48, 64), (7, 5)):
        frame = rng.integers(0, 256, (height, width, 3), np.uint8)
        assert np.array_equal(preprocessor.picture_of(frame), expected_picture(frame, picture))


@pytest.mark.parametrize("size", [(120, 160), (480, 640), (61, 83), (20, 30)])
def test_gray_frames_give_an_exact_picture_as_close_as_colour_frames(size: tuple[int, int]) -> None:
    """Luma comes as an array of its own, or as the first channel of YUYV."""
    picture = Picture(height=64, width=96, crop_top=0.25)
    luma = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    wanted = exactly_resized(luma[crop_box(*size, picture)[0] :, :, np.newaxis], picture)
    packed = np.stack([luma, 255 - luma], axis=2)
    preprocessor = Preprocessor(picture)
    for frame in (luma, packed[:, :, 0], cv2.merge([luma] * 3)):
        assert np.array_equal(preprocessor.picture_of(np.asarray(frame, np.uint8)), wanted)


def test_a_picture_larger_than_opencvs_lines() -> None:
    picture = Picture(height=331, width=400, color="bgr")
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    assert np.array_equal(picture_of(frame, picture), expected_picture(frame, picture))


def test_a_frame_larger_than_opencv_reads_is_refused() -> None:
    frame = np.zeros((1, 32767, 3), np.uint8)
    with pytest.raises(FrameError, match="32766 pixels a side"):
        picture_of(frame, Picture(height=4, width=4))
    assert picture_of(frame[:, 1:], Picture(height=4, width=4)).shape == (4, 4, 1)


@given(st.integers(1, 2000), st.integers(1, 2000), pictures())
def test_crop_box_lies_inside_and_is_never_empty(height: int, width: int, picture: Picture) -> None:
    top, bottom, left, right = crop_box(height, width, picture)
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width


def test_crop_by_hand() -> None:
    assert crop_box(480, 640, Picture(height=1, width=1, crop_top=0.25, crop_right=0.1)) == (120, 480, 0, 576)
    assert crop_box(3, 3, Picture(height=1, width=1, crop_top=0.5, crop_bottom=0.49)) == (2, 3, 0, 3)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((48,), np.uint8),
        np.zeros((48, 64, 1), np.uint8),
        np.zeros((0, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros((48, 64, 3), np.float32),
    ],
)
def test_impossible_frames_are_refused(frame: NDArray[np.uint8]) -> None:
    with pytest.raises(FrameError):
        picture_of(frame, Picture(height=4, width=4))


def test_an_impossible_frame_after_a_good_one_is_refused() -> None:
    preprocessor = Preprocessor(Picture(height=4, width=4))
    preprocessor.picture_of(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(FrameError, match="dtype"):
        preprocessor.picture_of(np.zeros((48, 64, 3), np.int16))  # type: ignore[arg-type]


@pytest.mark.parametrize("tensor", [np.zeros((1, 4, 5, 1), np.float32), np.zeros((1, 4, 4, 1), np.float64)])
def test_an_input_of_another_shape_or_type_is_refused(tensor: NDArray[np.generic]) -> None:
    with pytest.raises(FrameError):
        write_input(np.zeros((4, 4, 1), np.uint8), tensor)


# --- No second place ------------------------------------------------------------------------------------------------

MAY_RESIZE = {
    "runtime/sepilot_runtime/contract/preprocess.py": "the one implementation, and the shrinking of golden frames",
    "runtime/sepilot_runtime/view/overlay.py": "draws for people",
    "runtime/sepilot_runtime/view/stage.py": "draws for people",
    "runtime/sepilot_runtime/explain/heatmap.py": "draws for people",
    "runtime/sepilot_runtime/view/contact_sheet.py": "draws for people",
    "runtime/sepilot_runtime/output/web/": "draws for people",
    "runtime/sepilot_runtime/drive/novelty.py": "measures of the finished picture",
    "runtime/sepilot_runtime/drive/glance.py": "measures of the finished picture",
    "runtime/sepilot_runtime/drive/older_measures.py": "measures of the finished picture",
    "runtime/sepilot_runtime/view/video.py": "scales a drawn canvas to the video's size",
    "train/sepilot_train/base/contact_sheet.py": "contact sheets for people",
    "export/sepilot_export/verify/raw_frames.py": "whole frames to another camera's size, before there is a picture",
    "export/sepilot_export/compress/distill.py": "a teacher's picture from the student's, in training only",
    "train/sepilot_train/closed_loop/object_sets.py": "crops of drawn scenes, before they are pictures of a set",
    "train/sepilot_train/simulator/": "textures of the world, before there is a frame",
}
"""Module, or folder, to reason. What touches the picture that a model sees must not be added here."""

SUSPECTS = {
    "resize",
    "remap",
    "cvtColor",
    "Resizing",
    "rgb_to_grayscale",
    "resize_bilinear",
    "warpAffine",
    "warpPerspective",
}


def suspicious_calls(source: str) -> list[str]:
    """Calls that change the size or the colour of a picture, as written."""
    return [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _last_name(node.func) in SUSPECTS
    ]


def _last_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@pytest.mark.parametrize(
    "planted",
    [
        "import cv2\ndef f(x):\n    return cv2.resize(x, (100, 66))",
        "from cv2 import cvtColor\ny = cvtColor(x, 6)",
        "small = keras.layers.Resizing(66, 100)(image)",
        "small = tf.image.rgb_to_grayscale(image)",
    ],
)
def test_the_scan_finds_what_it_looks_for(planted: str) -> None:
    assert suspicious_calls(planted)


def test_nothing_else_resizes_or_converts_a_picture() -> None:
    found = {}
    for package in ("runtime/sepilot_runtime", "train/sepilot_train", "export/sepilot_export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            calls = suspicious_calls(path.read_text(encoding="utf-8"))
            if calls:
                found[str(path.relative_to(ROOT))] = calls
    assert "runtime/sepilot_runtime/contract/preprocess.py" in found
    others = {name: calls for name, calls in found.items() if not name.startswith(tuple(MAY_RESIZE))}
    assert not others
    assert all(any(name.startswith(entry) for name in found) for entry in MAY_RESIZE), "an entry is no longer needed"


def test_a_golden_copy_is_small_and_spans_the_levels() -> None:
    """It goes into each model file, several times."""
    rng = np.random.default_rng(0)
    frame = cv2.GaussianBlur(rng.integers(0, 256, (120, 160, 3), np.uint8), (9, 9), 0)
    frame[:40], frame[80:] = 0, 255
    copy = golden_copy(frame)
    assert copy.shape == (30, 40, 3)
    assert len(np.unique(copy)) <= 16 and copy.min() == 0 and copy.max() == 255

    def stored(picture: NDArray[np.uint8]) -> int:
        return len(golden_from(picture, {}).frame_png)

    assert stored(copy) < 0.5 * stored(shrink_frame(frame, 48))
