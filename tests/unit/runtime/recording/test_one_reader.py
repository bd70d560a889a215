"""`drive`, `compare`, `explain`, `bench` and `train` see the same frames, labels, times and errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import drive_factory as make
import set_factory
from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.bench.latency_bench import read_frames
from sepilot_runtime.explain.explanation import open_recording
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.source.opening import open_source

HOUR_MS = 3_600_000


def strange_labels(folder: Path) -> Path:
    return make.write_tub(folder, records={3: {"user/angle": 1.7}, 5: {"user/angle": None}, 7: {"user/angle": "x"}})


def missing_catalog(folder: Path) -> Path:
    make.write_tub(folder)
    (folder / "catalog_1.catalog").unlink()
    return folder


def torn_manifest(folder: Path) -> Path:
    make.write_tub(folder, deleted=[2])
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:-20])
    return folder


def a_night_between(folder: Path) -> Path:
    later = {i: {"_timestamp_ms": 1_700_000_000_000 + 10 * HOUR_MS + 50 * i} for i in range(20, 40)}
    return make.write_tub(folder, records=later)


def damaged_picture(folder: Path) -> Path:
    make.write_tub(folder)
    picture = folder / "images" / "4_cam_image_array_.jpg"
    picture.write_bytes(picture.read_bytes()[:-100])
    return folder


def with_csv(folder: Path) -> Path:
    video = make.write_video(folder / "clip.avi")
    (folder / "clip.csv").write_text("frame,steering\n" + "".join(f"{i},{i / 20}\n" for i in range(0, 12, 2)))
    return video


def plain_pictures(folder: Path) -> Path:
    folder.mkdir()
    for i in (10, 9, 1):
        cv2.imwrite(str(folder / f"shot {i}.png"), make.frame(i / 10))
    return folder


def labelled(write: Callable[..., Path]) -> Callable[[Path], Path]:
    return lambda folder: write(folder, set_factory.scenes(5, np.random.default_rng(1)))


def yolo(folder: Path) -> Path:
    return set_factory.write_yolo(folder, {"train": set_factory.scenes(5, np.random.default_rng(1))})


RECORDINGS: list[Callable[[Path], Path]] = [
    make.write_tub, strange_labels, missing_catalog, torn_manifest, a_night_between, damaged_picture,
    make.write_tub_v1, make.write_udacity, make.write_angle_names, with_csv, plain_pictures,
    lambda folder: make.write_video(folder / "road.avi"), labelled(set_factory.write_voc),
    labelled(set_factory.write_voc_beside), labelled(set_factory.write_coco), yolo,
    labelled(set_factory.write_points_csv),
]  # fmt: skip


@pytest.mark.parametrize("write", RECORDINGS)
def test_what_is_played_is_what_is_trained_on(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path / "drive")
    (drive,) = open_drives([path], ReaderOptions())
    pixels, rows = [], []
    for row in range(len(drive)):
        try:
            pixels.append(drive.read(row))
        except DriveError:
            continue
        rows.append(row)
    with open_recording(str(path)) as source:
        played = list(source)
    assert rows and [frame.id for frame in played] == rows
    assert all(np.array_equal(frame.image, image) for frame, image in zip(played, pixels, strict=True))
    assert [frame.time_s for frame in played] == drive.time_s[rows].tolist()
    for name, values in drive.labels.items():
        if values.ndim > 1:
            for row, frame in zip(rows, played, strict=True):
                np.testing.assert_array_equal(frame.labels.get(name, np.full_like(values[row], np.nan)), values[row])
            continue
        labels = [frame.labels.get(name, math.nan) for frame in played]
        assert labels == pytest.approx(values[rows].tolist(), abs=0, nan_ok=True)
    assert all(np.isfinite(value).any() for frame in played for value in frame.labels.values())
    assert all(frame.label_names == drive.label_names for frame in played)
    assert source.info.frames == len(drive) and not source.info.live
    unread = len(drive) - len(rows)
    assert sum(source.lost.values()) == sum(drive.skipped.values()) + unread
    assert len(read_frames(str(path))) == len(rows)


@pytest.mark.parametrize(("write", "words"), [
    (lambda folder: make.write_tub(folder, records={i: {"user/angle": 30.0} for i in range(40)}), "--unit"),
    (lambda folder: make.write_tub(folder, records={5: {"cam/image_array": "../../x.jpg"}}), "outside of the drive"),
    (lambda folder: make.write_tub(folder, deleted=range(40)), "no usable frame"),
])  # fmt: skip
def test_errors_are_the_same(write: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "drive")
    with pytest.raises(DriveError, match=words) as trained:
        open_drives([path], ReaderOptions())
    with pytest.raises(DriveError) as driven:
        open_source(str(path))
    assert str(driven.value) == str(trained.value)


def test_options_reach_a_recording_and_no_camera(tmp_path: Path) -> None:
    tub = make.write_tub(tmp_path / "tub", 4)
    left = ReaderOptions(positive="left")
    with open_source(str(tub), options=left) as source:
        assert [frame.labels["steering"] for frame in source] == pytest.approx([-a for a in make.angles(4)])
    for live in ("0", "rtsp://127.0.0.1/x"):
        with pytest.raises(UsageError, match="found a live source"):
            open_source(live, options=left)


def test_classes_are_played_with_their_pictures(tmp_path: Path) -> None:
    folders = set_factory.write_class_folders(tmp_path / "folders", ("a", "b"), 2)
    table = set_factory.write_class_csv(tmp_path / "table", ("a", "b"), 1) / "labels.csv"
    for path, labels in ((folders, [0.0, 0.0, 1.0, 1.0]), (table, [0.0, 1.0])):
        with open_source(str(path), options=ReaderOptions().wishing(["class"])) as source:
            assert [frame.labels["class"] for frame in source] == labels


def test_what_lies_in_a_folder_is_played_and_several_have_to_be_named(tmp_path: Path) -> None:
    inner = tmp_path / "album"
    plain_pictures(tmp_path / "album")
    plain_pictures(inner / "masks")
    with open_source(str(inner)) as source:
        assert len(list(source)) == 3
    for name in "abcd":
        make.write_tub(tmp_path / "tubs" / name, 4)
    with pytest.raises(DriveError, match=r"one recording expected, found 4: .*/a, .*/b, .*/c and 1 more; name one"):
        open_source(str(tmp_path / "tubs"))


def test_drives_by_their_prefix_are_played_one_after_the_other(tmp_path: Path) -> None:
    for name in ("a_1_90.png", "a_2_45.png", "b_1_135.png"):
        cv2.imwrite(str(tmp_path / name), make.frame(0.0))
    with open_source(str(tmp_path)) as source:
        played = list(source)
    assert [(frame.id, frame.labels["steering"]) for frame in played] == [(0, 0.0), (1, -1.0), (2, 1.0)]
    assert [frame.time_s for frame in played] == pytest.approx([0.0, 0.05, 0.1]) and source.info.frames == 3
