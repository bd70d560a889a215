"""The raw held-out frames that an export of files with preprocessing keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from drive_factory import write_tub
from model_factory import PICTURE, contract_of
from sepilot_export.verify.raw_frames import frame_count, frame_input, read_raw_frames, spread
from sepilot_runtime.base.errors import RunError, UsageError
from sepilot_runtime.contract.contract import FrameInput
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.base.frame_set import FrameSet


def run_over(*tubs: Path) -> Any:
    def material(*, moved_to: Sequence[Path], progress: bool) -> Any:
        return SimpleNamespace(drives=open_drives(list(moved_to or tubs), ReaderOptions()))

    return SimpleNamespace(path=Path("run"), material=material)


def source_over(*drives: str, count: int = 40) -> Any:
    names = tuple(f"{i}" for _ in drives for i in range(count))
    held = FrameSet(
        pictures=np.zeros((len(names), *PICTURE.shape), np.uint8),
        drives=tuple(d for d in drives for _ in range(count)),
        names=names,
        labels={"steering": np.zeros(len(names), np.float32)},
    )
    training = dataclasses.replace(held, drives=held.drives[:1] * len(names))
    saved = np.random.default_rng(0).normal(0, 0.3, len(names)).astype(np.float32)
    return SimpleNamespace(held_out=held, training=training, saved={"steering": saved}, contract=contract_of(golden=0))


def tub_with_names(folder: Path) -> tuple[Path, Any]:
    (drive,) = open_drives([write_tub(folder)], ReaderOptions())
    source = source_over(drive.id, count=len(drive))
    source.held_out = dataclasses.replace(source.held_out, names=drive.names)
    return folder, source


def test_frames_are_read_as_they_were_recorded(tmp_path: Path) -> None:
    tub, source = tub_with_names(tmp_path / "tub")
    raw = read_raw_frames(run_over(tub), source)
    assert raw.input == FrameInput(height=48, width=64)
    assert raw.frames.shape == (40, 48, 64, 3) and raw.index.tolist() == list(range(40))
    assert np.array_equal(raw.frames[7], cv2.imread(str(tub / "images" / "7_cam_image_array_.jpg")))
    large = read_raw_frames(run_over(tub), source, frame_input("96x128"))
    assert large.frames.shape[1:] == (96, 128, 3)
    (tub / "images" / "7_cam_image_array_.jpg").unlink()
    with pytest.raises(RunError, match="cannot be read any more"):
        read_raw_frames(run_over(tub), source, frame_input("96x128"))


def test_drives_of_several_sizes_need_a_word(tmp_path: Path) -> None:
    tub, source = tub_with_names(tmp_path / "tub")
    for path in (tub / "images").glob("*.jpg"):
        if path.name.startswith("0_"):
            other = cv2.imread(str(path))
    second = write_tub(tmp_path / "large")
    for path in (second / "images").glob("*.jpg"):
        cv2.imwrite(str(path), cv2.resize(other, (128, 96)))
    held = source.held_out
    source.training = dataclasses.replace(held, drives=("large",) * len(held.drives))
    with pytest.raises(UsageError, match=r"several sizes: .*48x64 \(tub\)"):
        read_raw_frames(run_over(tub, second), source)
    assert read_raw_frames(run_over(tub, second), source, frame_input("48x64")).input.width == 64


def test_a_first_frame_that_cannot_be_read_has_no_size(tmp_path: Path) -> None:
    tub, source = tub_with_names(tmp_path / "tub")
    held = source.held_out
    source.held_out = held.take(range(1, len(held)))
    source.saved = {name: answers[1:] for name, answers in source.saved.items()}
    (tub / "images" / "0_cam_image_array_.jpg").write_bytes(b"broken")
    assert read_raw_frames(run_over(tub), source).input == FrameInput(height=48, width=64)
    for path in (tub / "images").glob("*.jpg"):
        path.write_bytes(b"broken")
    with pytest.raises(RunError, match=r"tub: not one frame of this drive can be read any more"):
        read_raw_frames(run_over(tub), source)


def test_few_frames_of_a_large_camera_are_kept() -> None:
    assert frame_count(FrameInput(height=120, width=160), 9000) == 300
    assert frame_count(FrameInput(height=480, width=640), 9000) == 72
    assert frame_count(FrameInput(height=3072, width=4096), 9000) == 16
    assert frame_count(FrameInput(height=120, width=160), 7) == 7


@pytest.mark.parametrize("word", ["", "x", "120", "0x160", "120x160x3", "axb", "120x9999", "-1x5"])
def test_a_size_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--with-preprocessing: HEIGHTxWIDTH"):
        frame_input(word)


def test_places_are_spread_over_the_ranks() -> None:
    predictions = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32)
    index = spread(predictions, 100)
    assert len(set(index.tolist())) == 100 and (np.diff(index) > 0).all()
    assert {int(predictions.argmin()), int(predictions.argmax())} <= set(index.tolist())
    assert abs(predictions[index].mean() - predictions.mean()) < 0.02
    assert abs(predictions[index].std() - predictions.std()) < 0.1
