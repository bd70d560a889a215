from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import DriveError, OutputError
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.recording import frames
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base import cache
from sepilot_train.base.cache import PictureSet, load_pictures

PICTURE = Picture(height=20, width=30, crop_top=0.25)


def drive_of(folder: Path) -> Drive:
    return open_drives([folder], ReaderOptions())[0]


def load(drive: Drive, cache_dir: Path, picture: Picture = PICTURE) -> PictureSet:
    return load_pictures(drive, picture, cache_dir=cache_dir, progress=False)


@pytest.fixture
def tub(tmp_path: Path) -> Path:
    return make.write_tub(tmp_path / "tub", count=150)


def test_cached_pictures_are_what_the_car_sees(tub: Path, tmp_path: Path) -> None:
    drive = drive_of(tub)
    found = load(drive, tmp_path / "cache")
    assert found.pictures.shape == (150, 20, 30, 1) and found.pictures[:].dtype == np.uint8
    for index in (0, 77, 149):
        assert np.array_equal(found.pictures[index], picture_of(drive.read(index), PICTURE))


def test_the_second_time_nothing_is_decoded(tub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(drive_of(tub), tmp_path / "cache")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "_decode", forbidden)
    second = load(drive_of(tub).filtered(DriveFilter(first=100)), tmp_path / "cache")
    assert np.array_equal(second.pictures, first.pictures[100:]) and second.drive.names == first.drive.names[100:]
    for other in (
        Picture(height=20, width=30, crop_top=0.5),
        Picture(height=20, width=30, crop_top=0.25, resize="linear"),
    ):
        with pytest.raises(AssertionError, match="decoded again"):
            load(drive_of(tub), tmp_path / "cache", other)
    image = tub / "images" / "3_cam_image_array_.jpg"
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(AssertionError, match="decoded again"):
        load(drive_of(tub), tmp_path / "cache")


def test_corrupt_frames_are_left_out_and_counted(tub: Path, tmp_path: Path) -> None:
    (tub / "images" / "5_cam_image_array_.jpg").write_bytes(b"")
    truncated = tub / "images" / "9_cam_image_array_.jpg"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    found = load(drive_of(tub), tmp_path / "cache")
    assert len(found.pictures) == len(found.drive.labels["steering"]) == len(found.drive.names) == 148
    assert found.drive.skipped == {"empty image": 1, "truncated image": 1}
    assert found.drive.names[5] == "6_cam_image_array_.jpg"
    assert np.array_equal(found.pictures[5], picture_of(drive_of(tub).read(6), PICTURE))


def test_a_video_is_gone_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = drive_of(make.write_video(tmp_path / "clip.avi", count=3 * cache.CHUNK))
    opened: list[Path] = []
    real = frames.video_file
    monkeypatch.setattr(frames, "video_file", lambda path: opened.append(path) or real(path))  # type: ignore[func-returns-value]
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found = load_pictures(drive, PICTURE, cache_dir=tmp_path / "cache", progress=False)
    assert len(opened) == 1 and len(found.pictures) == 3 * cache.CHUNK
    assert np.array_equal(found.pictures[100], picture_of(drive.read(100), PICTURE))


def test_a_picture_in_the_cache_cannot_be_written_over(tub: Path, tmp_path: Path) -> None:
    assert not load(drive_of(tub), tmp_path / "cache").pictures[0].flags.writeable


def test_no_readable_frame_at_all(tmp_path: Path) -> None:
    tub = make.write_tub(tmp_path / "tub", count=3)
    for image in (tub / "images").iterdir():
        image.write_bytes(b"no picture")
    with pytest.raises(DriveError, match="not one of 3 frames"):
        load(drive_of(tub), tmp_path / "cache")


def test_a_killed_run_leaves_no_half_cache(tub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    real = cache._decode_rows

    def killed(frames: object, picture: object, target: object, sizes: object, rows: range) -> dict[int, str]:
        if rows.start:
            raise KeyboardInterrupt
        return real(frames, picture, target, sizes, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "_decode_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        load(drive_of(tub), folder)
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(cache, "_decode_rows", real)
    assert len(load(drive_of(tub), folder).pictures) == 150


def test_leavings_of_a_killed_run_are_swept_up(tub: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    old, fresh = folder / ".abc-1.u8", folder / ".abc-2.u8"
    for part in (old, fresh):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    load(drive_of(tub), folder)
    assert not old.exists() and fresh.exists()


@pytest.mark.parametrize("damage", ["truncate", "flip", "no description", "broken description"])
def test_a_damaged_cache_is_made_again(tub: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "cache"
    expected = np.array(load(drive_of(tub), folder).pictures)
    (pixels,) = folder.glob("*.u8")
    (info,) = folder.glob("*.json")
    if damage == "truncate":
        pixels.write_bytes(pixels.read_bytes()[:1000])
    elif damage == "flip":
        # What a power cut leaves: the right length, zeros for content.
        pixels.write_bytes(pixels.read_bytes()[:-4096] + bytes(4096))
    elif damage == "no description":
        info.unlink()
    else:
        info.write_text("{")
    assert np.array_equal(load(drive_of(tub), folder).pictures, expected)


def test_a_cache_that_cannot_be_written_is_one_clear_error(tub: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        load(drive_of(tub), blocked / "cache")


def test_a_full_disk_is_one_clear_error(tub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left"):
        load(drive_of(tub), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_fingerprint_follows_content_not_place(tub: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "tub"
    moved.parent.mkdir()
    first = load(drive_of(tub), tmp_path / "cache").fingerprint
    tub.rename(moved)
    assert load(drive_of(moved), tmp_path / "cache").fingerprint == first
    assert load(drive_of(moved).filtered(DriveFilter(last=9)), tmp_path / "cache").fingerprint != first
    image = moved / "images" / "7_cam_image_array_.jpg"
    image.write_bytes(image.read_bytes() + b"\0")
    assert load(drive_of(moved), tmp_path / "cache").fingerprint != first


@pytest.mark.parametrize(
    ("key", "asked", "follows"),
    [
        ("camera", ("steering",), True),
        ("steering", ("steering",), True),
        ("throttle", ("steering",), False),
        ("throttle", ("steering", "throttle"), True),
        ("steering", ("throttle",), False),
    ],
)
def test_the_fingerprint_follows_each_label_and_camera(
    key: str, asked: tuple[str, ...], follows: bool, tub: Path, tmp_path: Path
) -> None:
    """The same pictures with one label put right are other data: a run must not take them for its own."""
    drive = drive_of(tub)

    def fingerprint(of: Drive) -> str:
        return load_pictures(of, PICTURE, labels=asked, cache_dir=tmp_path / "cache", progress=False).fingerprint

    values = drive.camera.copy() if key == "camera" else drive.labels[key].copy()
    values[7] += 1 if key == "camera" else values.dtype.type(1) / 8
    changes = {"camera": values} if key == "camera" else {"labels": {**drive.labels, key: values}}
    assert (fingerprint(dataclasses.replace(drive, **changes)) != fingerprint(drive)) == follows


def test_steering_and_throttle_in_turn_are_other_data_than_throttle_and_steering(tub: Path, tmp_path: Path) -> None:
    drive = drive_of(tub)
    same = {"steering": drive.labels["steering"], "throttle": drive.labels["steering"]}
    found = {
        load_pictures(
            dataclasses.replace(drive, labels=same), PICTURE, labels=names, cache_dir=tmp_path / "c", progress=False
        ).fingerprint
        for names in (("steering",), ("throttle",), ("steering", "throttle"))
    }
    assert len(found) == 3


def test_the_fingerprint_of_a_drive_stays_what_it_was(tub: Path, tmp_path: Path) -> None:
    """Runs name their drives by it: another one, and `export` and `check` would no longer find them."""
    sized: Any = SimpleNamespace(sizes=lambda: np.array([10, 20, 30]))
    labels = {"steering": np.array([-0.5, 0, 0.25], np.float32)}
    drive = dataclasses.replace(drive_of(tub), names=tuple("abc"), rows=np.arange(3), frames=sized, labels=labels)
    drive = dataclasses.replace(drive, camera=np.array([0, -1, 1], np.int8))
    assert (
        cache._fingerprint(drive, ("steering",)) == "5dd2d6939b15b8a81338d2166691ffe991406483e1a82b67c430fc706a77ecca"
    )
