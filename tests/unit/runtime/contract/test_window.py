"""Letterboxes, and where in a frame the places of a picture lie."""

from __future__ import annotations

import numpy as np
import pytest

from sepilot_runtime.contract.picture import Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.contract.window import BARS, window_of


@pytest.mark.parametrize("color", ["gray", "bgr"])
@pytest.mark.parametrize(("height", "width"), [(60, 120), (120, 60), (50, 50), (7, 90)])
def test_a_letterbox_keeps_proportions_between_bars(height: int, width: int, color: str) -> None:
    frame = np.full((height, width, 3), 200, np.uint8)
    picture = Picture(height=32, width=48, color=color, fit="letterbox")  # type: ignore[arg-type]
    seen = picture_of(frame, picture)
    inside = (seen != BARS).all(axis=2)
    rows, columns = inside.any(axis=1), inside.any(axis=0)
    assert inside[np.ix_(rows, columns)].all(), "one rectangle"
    assert columns.sum() / rows.sum() == pytest.approx(width / height, rel=0.2 if height < 10 else 0.06)
    assert rows.all() or columns.all(), "as large as it fits in"
    assert abs(int(np.argmax(rows)) - int(np.argmax(rows[::-1]))) <= 1, "in the middle"


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("crop", [{}, {"crop_top": 0.25, "crop_left": 0.1}])
def test_a_place_in_the_picture_is_found_in_the_frame(fit: str, crop: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    picture = Picture(height=40, width=40, color="gray", fit=fit, **crop)  # type: ignore[arg-type]
    left, top, wide, high = window_of(90, 160, picture)
    for _ in range(10):
        x, y = int(rng.integers(30, 150)), int(rng.integers(35, 80))
        frame = np.zeros((90, 160, 3), np.uint8)
        frame[y - 3 : y + 4, x - 3 : x + 4] = 255
        seen = picture_of(frame, picture)[..., 0].astype(float)
        seen[seen == BARS] = 0
        down, along = (np.average(np.arange(40) + 0.5, weights=seen.sum(axis=axis)) / 40 for axis in (1, 0))
        # The frame's pixel (x, y) has its middle half a pixel further.
        assert left + along * wide == pytest.approx(x + 0.5, abs=160 / 40 * 0.6)
        assert top + down * high == pytest.approx(y + 0.5, abs=160 / 40 * 0.6)


def test_a_letterbox_is_another_picture_than_a_stretched_one() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (60, 120, 3), np.uint8)
    stretched, boxed = (picture_of(frame, Picture(height=32, width=32, fit=fit)) for fit in ("stretch", "letterbox"))  # type: ignore[arg-type]
    assert np.abs(stretched.astype(int) - boxed).mean() > 20


def test_one_preprocessor_takes_frames_of_several_sizes() -> None:
    from sepilot_runtime.contract.preprocess import Preprocessor

    picture = Picture(height=24, width=24, fit="letterbox")
    one = Preprocessor(picture)
    for shape in ((30, 60, 3), (60, 30, 3), (30, 60, 3)):
        frame = np.random.default_rng(shape[0]).integers(0, 256, shape, np.uint8)
        assert np.array_equal(one.picture_of(frame), picture_of(frame, picture))
