"""A part of all that goes with frames is taken at once, pictures stay in their files, answers come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sepilot_runtime.base.errors import RunError
from sepilot_train.base.frame_set import Answers, FrameLabels, FrameSet, read_answers
from sepilot_train.base.stored import StoredPictures

LABELS = {name: np.linspace(-1, 1, 6, dtype=np.float32) * sign for name, sign in (("steering", 1), ("brake", -1))}
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 1), np.uint8)
NAMES = tuple(f"{i}.jpg" for i in range(6))


@pytest.mark.parametrize("index", [[4, 0, 4], np.array([1, 5]), range(3), np.array([], np.int64)])
@pytest.mark.parametrize("stored", [True, False])
def test_a_part_of_everything(index: list[int], stored: bool) -> None:
    pictures = StoredPictures(PIXELS, np.arange(6)) if stored else PIXELS
    frames = FrameSet(pictures=pictures, labels=LABELS, drives=("a",) * 3 + ("b",) * 3, names=NAMES)
    part = frames.take(index)
    assert isinstance(part, FrameSet) and isinstance(part.pictures, type(pictures)) and len(part) == len(index)
    assert np.array_equal(np.asarray(part.pictures), PIXELS[list(index)])
    assert part.names == tuple(NAMES[i] for i in index) and part.drives == tuple("aaabbb"[i] for i in index)
    assert {name: values.tolist() for name, values in part.labels.items()} == {
        name: values[list(index)].tolist() for name, values in LABELS.items()
    }


def test_frames_that_nobody_named() -> None:
    part = FrameSet(pictures=PIXELS, labels=LABELS).take([2])
    assert part.names == part.drives == () and len(part) == 1


def test_answers_are_saved_and_read_by_name(tmp_path: Path) -> None:
    values = {name: label * np.float32(0.5) for name, label in LABELS.items()}
    frames = FrameLabels(labels=LABELS, drives=("a",) * 6, names=NAMES)
    Answers(frames=frames, values=values).save(tmp_path / "predictions.npz")
    again = read_answers(tmp_path / "predictions.npz", "steering")
    assert (again.frames.names, again.frames.drives) == (frames.names, frames.drives)
    for found, expected in ((again.values, values), (again.frames.labels, LABELS)):
        assert list(found) == ["steering", "brake"]
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    (tmp_path / "predictions.npz").write_bytes(b"PK half")
    with pytest.raises(RunError, match=r"predictions\.npz: cannot be read"):
        read_answers(tmp_path / "predictions.npz", "steering")
