"""Preprocessing at the edges of its rules: sizes, rounding, luma, buffers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sepilot_runtime.base.caps import FRAME_PIXELS, SIDE_PIXELS
from sepilot_runtime.base.errors import ContractError, FrameError
from sepilot_runtime.contract.picture import FrameInput, Picture
from sepilot_runtime.contract.preprocess import (
    MOST_PIXELS,
    LimitedLuma,
    Preprocessor,
    _few_lines,
    _packed,
    bilinear_places,
    enlarge_frame,
    full_range,
    golden_copy,
    gray_first,
    picture_of,
    shrink_frame,
    write_input,
)
from sepilot_runtime.contract.window import crop_box


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# --- Crop and resize -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        ({}, (0, 10, 0, 20)),
        ({"crop_top": 0.25}, (3, 10, 0, 20)),  # 2.5 rows: halves up.
        ({"crop_top": 0.24, "crop_bottom": 0.25}, (2, 7, 0, 20)),
        ({"crop_left": 0.225, "crop_right": 0.224}, (0, 10, 5, 16)),
        ({"crop_top": 0.99}, (9, 10, 0, 20)),
        ({"crop_top": 0.5, "crop_bottom": 0.49}, (5, 6, 0, 20)),
        ({"crop_left": 0.99, "crop_bottom": 0.99}, (0, 1, 19, 20)),
        ({"crop_right": 0.99}, (0, 10, 0, 1)),
    ],
)
def test_a_crop_is_rounded_to_whole_pixels_and_never_empty(crop: dict[str, float], box: tuple[int, ...]) -> None:
    assert crop_box(10, 20, Picture(height=4, width=4, **crop)) == box  # type: ignore[arg-type]


def test_where_the_exact_resize_looks() -> None:
    places, shares = bilinear_places(4, 8)
    assert places.tolist() == [0, 0, 0, 1, 1, 2, 2, 3] and shares.tolist() == [0, 8, 24, 8, 24, 8, 24, 0]
    places, shares = bilinear_places(8, 4)
    assert places.tolist() == [0, 2, 4, 6] and shares.tolist() == [16] * 4
    places, shares = bilinear_places(1, 3)
    assert places.tolist() == [0, 0, 0] and shares.tolist() == [0, 0, 0]
    places, shares = bilinear_places(5, 5)
    assert places.tolist() == [0, 1, 2, 3, 4] and shares.tolist() == [0] * 5


@pytest.mark.parametrize("color", ["gray", "bgr"])
def test_the_exact_resize_by_hand(color: str) -> None:
    """In whole numbers: shares of 32nds in both directions, rounded once at the end."""
    frame = noise(9, 14, 3)
    picture = Picture(height=5, width=6, color=color, crop_top=0.2)  # type: ignore[arg-type]
    cut = frame[2:]
    first = gray_first(*cut.shape[:2], picture)
    assert first is (color == "gray")
    source = cv2.cvtColor(cut, cv2.COLOR_BGR2GRAY)[:, :, np.newaxis] if first else cut
    (rows, down), (columns, along) = bilinear_places(7, 5), bilinear_places(14, 6)
    expected = np.empty((5, 6, source.shape[2]), np.uint8)
    for y in range(5):
        for x in range(6):
            r, c, d, a = rows[y], columns[x], int(down[y]), int(along[x])
            below, right = min(r + 1, 6), min(c + 1, 13)
            four = source[[r, r, below, below], [c, right, c, right]].astype(int)
            weights = np.array([(32 - d) * (32 - a), (32 - d) * a, d * (32 - a), d * a])
            expected[y, x] = ((four * weights[:, np.newaxis]).sum(axis=0) + 512) // 1024
    assert np.array_equal(picture_of(frame, picture), expected)


def test_gray_comes_first_where_the_crop_is_at_most_four_pictures_large() -> None:
    picture = Picture(height=10, width=20)
    assert gray_first(20, 40, picture) and gray_first(1, 800, picture) and not gray_first(1, 801, picture)
    assert not gray_first(20, 40, Picture(height=10, width=20, resize="linear"))
    assert not gray_first(20, 40, Picture(height=10, width=20, color="bgr"))


def test_lines_are_few_and_no_longer_than_opencv_reads() -> None:
    assert _few_lines(Picture(height=66, width=200)) == 1
    assert _few_lines(Picture(height=86, width=381)) == 1 and MOST_PIXELS == 86 * 381
    assert _few_lines(Picture(height=8, width=4096)) == 2
    assert _few_lines(Picture(height=100, width=4096)) == 16
    for picture in (Picture(height=8, width=4096), Picture(height=86, width=381, color="bgr")):
        frame = noise(6, 9, 3)
        shape = Preprocessor(picture).picture_of(frame).shape
        assert shape == picture.shape


def test_a_side_of_a_frame_is_as_long_as_opencv_reads() -> None:
    picture = Picture(height=1, width=2)
    for shape in ((1, MOST_PIXELS, 3), (MOST_PIXELS, 1, 3)):
        assert picture_of(np.zeros(shape, np.uint8), picture).shape == (1, 2, 1)
    for shape in ((1, MOST_PIXELS + 1, 3), (MOST_PIXELS + 1, 1, 3)):
        with pytest.raises(FrameError, match="at most 32766 pixels a side expected"):
            picture_of(np.zeros(shape, np.uint8), picture)
    assert (
        picture_of(np.zeros((1, MOST_PIXELS + 1, 3), np.uint8), Picture(height=1, width=2, resize="linear")).size == 2
    )


def test_frames_of_no_picture() -> None:
    for shape in ((0, 4, 3), (4, 0, 3), (4, 4, 4), (4, 4, 1), (4,), (4, 4, 3, 1)):
        with pytest.raises(FrameError, match=r"\(height, width, 3\) expected"):
            picture_of(np.zeros(shape, np.uint8), Picture(height=2, width=2))
    with pytest.raises(FrameError, match="expected, found"):
        picture_of(np.zeros((4, 4), np.uint8), Picture(height=2, width=2, color="bgr"))
    with pytest.raises(FrameError, match="uint8 expected, found int8"):
        picture_of(np.zeros((4, 4, 3), np.int8), Picture(height=2, width=2))


def test_a_type_that_says_more_is_the_same_type() -> None:
    frame = noise(4, 4, 3)
    told = frame.view(np.dtype(np.uint8, metadata={"made": "by hand"}))  # type: ignore[call-overload]
    assert told.dtype is not frame.dtype
    assert np.array_equal(picture_of(told, Picture(height=2, width=2)), picture_of(frame, Picture(height=2, width=2)))


@pytest.mark.parametrize("resize", ["exact", "linear"])
@pytest.mark.parametrize("color", ["gray", "bgr"])
def test_frames_of_two_sizes_in_turn(resize: str, color: str) -> None:
    picture = Picture(height=6, width=8, color=color, resize=resize, crop_bottom=0.3)  # type: ignore[arg-type]
    both = Preprocessor(picture)
    for seed in range(6):
        frame = noise(*((12, 20, 3) if seed % 2 else (60, 40, 3)), seed=seed)
        assert np.array_equal(both.picture_of(frame), Preprocessor(picture).picture_of(frame))


# --- Luma ------------------------------------------------------------------------------------------------------------


def test_luma_of_video_spans_the_gray_levels() -> None:
    luma = np.arange(256, dtype=np.uint8)[np.newaxis].view(LimitedLuma)
    gray = full_range(luma)
    assert type(gray) is np.ndarray and gray.shape == (1, 256)
    assert gray[0, [0, 15, 16, 17, 125, 126, 234, 235, 255]].tolist() == [0, 0, 0, 1, 127, 128, 254, 255, 255]


@pytest.mark.parametrize("resize", ["exact", "linear"])
@pytest.mark.parametrize("size", [(8, 12), (60, 80)])
def test_luma_gives_the_picture_of_its_gray(resize: str, size: tuple[int, int]) -> None:
    picture = Picture(height=6, width=8, resize=resize, crop_top=0.25, crop_left=0.2)  # type: ignore[arg-type]
    yuyv = noise(*size, 2)
    plain = np.ascontiguousarray(yuyv[:, :, 0])
    expected = picture_of(plain, picture)
    # As YUYV has it, in steps of two bytes, and as a plane of its own.
    assert np.array_equal(picture_of(yuyv[:, :, 0], picture), expected)
    stretched = picture_of(plain.view(LimitedLuma), picture)
    assert np.array_equal(stretched[:, :, 0], full_range(expected[:, :, 0].view(LimitedLuma)))
    assert np.array_equal(picture_of(yuyv.view(LimitedLuma)[:, :, 0], picture), stretched)


def test_only_the_first_channel_of_a_whole_pair_is_taken_for_one() -> None:
    pair = noise(6, 8, 2)
    assert _packed(pair[:, :, 0]) is pair
    for luma in (
        pair[:, :, 1],
        pair[:4, :, 0],
        pair[:, 1:, 0],
        noise(6, 16)[:, ::2],
        noise(6, 8),
        noise(12, 8, 2)[::2, :, 0],
    ):
        assert _packed(luma) is None
        assert np.array_equal(
            picture_of(luma, Picture(height=3, width=4)),
            picture_of(np.ascontiguousarray(luma), Picture(height=3, width=4)),
        )


# --- Into the model --------------------------------------------------------------------------------------------------


def test_what_each_input_gets() -> None:
    pixels = np.array([[[0], [1], [128], [255]]], np.uint8)
    for dtype, expected in (
        (np.float32, np.array([0, 1, 128, 255], np.float32) * np.float32(1 / 255)),
        (np.int8, np.array([-128, -127, 0, 127])),
        (np.uint8, np.array([0, 1, 128, 255])),
    ):
        tensor = np.full((1, 1, 4, 1), 99, dtype)
        write_input(pixels, tensor)
        assert np.array_equal(tensor.ravel(), expected)
    with pytest.raises(FrameError, match=r"the model takes \(1, 5, 1\), the picture is \(1, 4, 1\)"):
        write_input(pixels, np.zeros((1, 1, 5, 1), np.float32))
    with pytest.raises(FrameError, match="float32, int8 or uint8 input expected, the model takes float16"):
        write_input(pixels, np.zeros((1, 1, 4, 1), np.float16))


# --- Golden frames ---------------------------------------------------------------------------------------------------


def test_a_small_copy_keeps_its_shape() -> None:
    frame = noise(30, 40, 3)
    same = shrink_frame(frame, 40)
    assert np.array_equal(same, frame) and same is not frame and not np.shares_memory(same, frame)
    assert shrink_frame(noise(30, 41, 3), 40).shape == (29, 40, 3)
    assert shrink_frame(noise(1, 400, 3), 40).shape == (1, 40, 3)
    flat = np.repeat(noise(10, 10, 3), 2, axis=1).repeat(2, axis=0)
    assert np.array_equal(shrink_frame(flat, 10), flat[::2, ::2])


def test_sixteen_levels_from_black_to_white() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)[:, :, np.newaxis].repeat(3, axis=2)
    copy = golden_copy(levels)
    assert sorted(set(copy.ravel().tolist())) == [17 * i for i in range(16)]
    assert copy[0, 15, 0] == 0 and copy[0, 16, 0] == 17 and copy[7, 31, 0] == 255


def test_a_stored_frame_as_large_as_a_cameras() -> None:
    frame = noise(2, 4, 3)
    large = enlarge_frame(frame, 5, 7)
    rows, columns = [0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2, 3]
    assert np.array_equal(large, frame[np.array(rows)[:, np.newaxis], columns])


# --- The picture's definition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_a_crop_is_a_share(side: str) -> None:
    key = f"crop_{side}"
    for share in (0.0, 0.5, 0.999):
        assert getattr(Picture(height=4, width=4, **{key: share}), key) == share  # type: ignore[arg-type]
    for share in (-0.001, 1.0, 2.0, float("nan")):
        with pytest.raises(ContractError, match=rf"picture\.{key}: must be in \[0, 1\), found"):
            Picture(height=4, width=4, **{key: share})  # type: ignore[arg-type]


def test_crops_leave_something() -> None:
    Picture(height=4, width=4, crop_top=0.5, crop_bottom=0.49, crop_left=0.5, crop_right=0.49)
    for crops in ({"crop_top": 0.5, "crop_bottom": 0.5}, {"crop_left": 0.25, "crop_right": 0.75}):
        with pytest.raises(ContractError, match="the crop leaves nothing"):
            Picture(height=4, width=4, **crops)  # type: ignore[arg-type]


def test_the_range_of_values_is_the_one_that_every_file_has() -> None:
    Picture(height=4, width=4, scale=1 / 255 * (1 + 1e-10))
    for changed in ({"scale": 1 / 255 * (1 + 1e-8)}, {"scale": 1 / 256}, {"offset": 1e-9}, {"scale": 1.0}):
        with pytest.raises(ContractError, match="value range must be scale 1/255 and offset 0"):
            Picture(height=4, width=4, **changed)  # type: ignore[arg-type]


def test_shapes() -> None:
    assert Picture(height=4, width=5).shape == (4, 5, 1) and Picture(height=4, width=5).channels == 1
    assert Picture(height=4, width=5, color="bgr").shape == (4, 5, 3)
    assert FrameInput(height=4, width=5).shape == (4, 5, 3)
    plain = Picture(height=4, width=5)
    assert (plain.color, plain.resize, plain.name) == ("gray", "exact", "image")
    assert (plain.crop_top, plain.crop_bottom, plain.crop_left, plain.crop_right) == (0, 0, 0, 0)
    assert (plain.scale, plain.offset) == (1 / 255, 0)


@pytest.mark.parametrize("kind", [Picture, FrameInput])
def test_no_picture_is_empty_or_endless(kind: type) -> None:
    kind(height=1, width=1)
    for height, width in ((0, 4), (4, 0), (-1, 4), (10**6, 4), (4, 10**6)):
        with pytest.raises(ContractError):
            kind(height=height, width=width)


def test_sizes_to_their_edges() -> None:
    long, most = SIDE_PIXELS, FRAME_PIXELS
    for height, width in ((long, 1), (1, long), (most // long, long), (long, most // long)):
        assert FrameInput(height=height, width=width).shape == (height, width, 3)
    for height, width in ((long + 1, 1), (1, long + 1), (0, 1), (1, 0), (most // long + 1, long)):
        with pytest.raises(ContractError, match=f"{most} pixels at most, expected, found {height}x{width}"):
            FrameInput(height=height, width=width)
