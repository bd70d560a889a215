"""Sources give every frame of a file in order, the newest of a camera, and one clear line for everything else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_factory import frames
from sepilot_runtime.base.errors import DriveError, FrameError
from sepilot_runtime.base.images import decode_image, natural_key, read_image
from sepilot_runtime.source.opening import open_source
from sepilot_runtime.source.protocol import Frame, Source


def given(spec: Path | str) -> tuple[Source, list[Frame]]:
    with open_source(str(spec)) as source:
        return source, list(source)


def write_images(folder: Path, count: int, name: str = "{}.png") -> list[Any]:
    folder.mkdir(parents=True, exist_ok=True)
    made = frames(count)
    for index, frame in enumerate(made):
        cv2.imwrite(str(folder / name.format(index)), frame)
    return made


def write_tub(folder: Path, count: int, **columns: Any) -> Path:
    write_images(folder / "images", count, "{}_cam_image_array_.png")
    rows = [
        {"_index": i, "_timestamp_ms": 5000 + 100 * i, "cam/image_array": f"{i}_cam_image_array_.png",
         "user/angle": round(i / count - 0.5, 3), **columns}
        for i in range(count)
    ]  # fmt: skip
    (folder / "catalog_0.catalog").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [["cam/image_array", "user/angle"], ["image_array", "float"], {}, {}]
    lines.append({"paths": ["catalog_0.catalog"], "current_index": count, "deleted_indexes": []})
    (folder / "manifest.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for frame in frames(count):
        writer.write(frame)
    writer.release()
    return path


def test_images_come_in_natural_order(tmp_path: Path) -> None:
    made = write_images(tmp_path, 12)
    source, got = given(tmp_path)
    assert source.info.frames == 12 and source.info.kind == "images" and not source.info.live
    assert all(np.array_equal(frame.image, wanted) for frame, wanted in zip(got, made, strict=True))
    assert [frame.id for frame in got] == list(range(12))
    assert got[3].time_s == pytest.approx(0.15)
    assert all(frame.arrived_ns <= time.monotonic_ns() for frame in got)


def test_natural_order_takes_any_name() -> None:
    names = ["10.jpg", "2.jpg", "a.jpg", "²b.jpg", "1_a.jpg", "x10y2.jpg", "x9.jpg"]
    ordered = [path.name for path in sorted(map(Path, names), key=natural_key)]
    assert ordered.index("2.jpg") < ordered.index("10.jpg")
    assert ordered.index("x9.jpg") < ordered.index("x10y2.jpg")


@pytest.mark.parametrize("inner", ["images", "IMG"])
def test_images_one_folder_down_are_found(inner: str, tmp_path: Path) -> None:
    write_images(tmp_path / inner, 3)
    assert len(given(tmp_path)[1]) == 3


def test_of_three_cameras_the_middle_one_is_taken(tmp_path: Path) -> None:
    for side in ("left", "center", "right"):
        write_images(tmp_path / "IMG", 4, side + "_2026_{}.jpg")
    _, got = given(tmp_path)
    assert len(got) == 4


def test_one_image_is_a_source(tmp_path: Path) -> None:
    made = write_images(tmp_path, 1)
    _, got = given(tmp_path / "0.png")
    assert np.array_equal(got[0].image, made[0])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_skipped_and_counted(suffix: str, tmp_path: Path) -> None:
    write_images(tmp_path, 3, "{}." + suffix)
    spoilt = tmp_path / f"1.{suffix}"
    spoilt.write_bytes(spoilt.read_bytes()[:-30])
    (tmp_path / f"3.{suffix}").write_bytes(b"")
    (tmp_path / f"4.{suffix}").write_bytes(b"no image at all")
    source, got = given(tmp_path)
    assert [frame.id for frame in got] == [0, 2]
    assert source.lost == {"truncated image": 1, "empty image": 1, "not an image": 1}


def test_image_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="missing image"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(FrameError, match="unreadable image"):
        read_image(tmp_path)
    # A header that promises more pixels than anyone has memory for.
    png = bytearray(cv2.imencode(".png", frames(1)[0])[1].tobytes())
    png[16:24] = b"\x7f\xff\xff\xff\x7f\xff\xff\xff"
    with pytest.raises(FrameError, match="not an image"):
        decode_image(bytes(png), "huge.png")


def test_a_folder_of_broken_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DriveError, match="not one frame can be read"):
        given(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "no such file or folder"),
        ("x" * 300, "File name too long"),
        ("empty", "found none"),
        ("text.mp4", "is not a video"),
    ],
)
def test_what_is_no_source_is_named(name: str, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DriveError, match=words) as caught:
        given(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("spec", ["²", "٣"])
def test_a_digit_that_is_no_number_is_no_camera(spec: str) -> None:
    with pytest.raises(DriveError, match="no such file or folder"):
        open_source(spec)


def test_a_video_gives_every_frame_with_its_time(tmp_path: Path) -> None:
    source, got = given(write_video(tmp_path / "v.mp4", 15))
    assert (source.info.kind, source.info.width, source.info.height, source.info.frames) == ("video", 64, 48, 15)
    assert source.info.rate_hz == 10
    assert [frame.id for frame in got] == list(range(15))
    assert [frame.time_s for frame in got] == pytest.approx([i / 10 for i in range(15)], abs=1e-6)
    bright = [int(frame.image.mean(axis=(0, 2)).argmax()) for frame in got]
    assert bright[0] < bright[7] < bright[14]


def test_a_truncated_video_is_an_error_or_says_what_is_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 15)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DriveError):
        given(path)


def test_a_tub_gives_its_rows_with_labels_and_times(tmp_path: Path) -> None:
    source, got = given(write_tub(tmp_path / "tub", 10))
    assert source.info.kind == "drive" and source.info.rate_hz == 10
    assert [frame.labels["steering"] for frame in got] == pytest.approx([i / 10 - 0.5 for i in range(10)])
    assert [frame.time_s for frame in got] == pytest.approx([i / 10 for i in range(10)])


def test_a_tub_is_read_in_spite_of_its_damage(tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "tub", 8)
    lines = (tub / "catalog_0.catalog").read_text().splitlines()
    lines[2] = lines[2][:30]
    (tub / "catalog_0.catalog").write_text("\n".join([*lines, "[1, 2]", ""]))
    (tub / "images" / "5_cam_image_array_.png").unlink()
    manifest = (tub / "manifest.json").read_text()
    manifest = manifest.replace('"deleted_indexes": []', '"deleted_indexes": [0, 1]')
    (tub / "manifest.json").write_text(manifest.replace('"catalog_0.catalog"]', '"catalog_0.catalog", "gone.catalog"]'))
    source, got = given(tub)
    assert [round(frame.labels["steering"] * 8 + 4) for frame in got] == [3, 4, 6, 7]
    assert source.lost == {
        "broken JSON": 1, "record without an image": 1, "deleted by the author": 2, "missing image": 1,
        "missing catalog": 1,
    }  # fmt: skip


def test_useless_time_stamps_are_replaced(tmp_path: Path) -> None:
    source, got = given(write_tub(tmp_path / "tub", 4, _timestamp_ms=7))
    assert source.info.rate_hz == 20
    assert [frame.time_s for frame in got] == pytest.approx([0, 0.05, 0.1, 0.15])


def test_rows_and_catalogs_never_lead_out_of_the_drive(tmp_path: Path) -> None:
    write_images(tmp_path, 1, "secret{}.png")
    tub = write_tub(tmp_path / "tub", 3, **{"cam/image_array": "../../secret0.png"})
    with pytest.raises(DriveError, match="outside of the drive"):
        open_source(str(tub))
    manifest = (tub / "manifest.json").read_text()
    (tub / "manifest.json").write_text(manifest.replace('"catalog_0.catalog"', '"../catalog_0.catalog"'))
    with pytest.raises(DriveError, match="outside of the drive"):
        open_source(str(tub))


@pytest.mark.parametrize("text", ["", "{}", "not json", "\xff"])
def test_a_manifest_that_names_nothing_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DriveError, match=r"manifest\.json"):
        open_source(str(tmp_path))


def test_real_tubs(real_drives: Path) -> None:
    with open_source(str(real_drives / "club_track_run_a")) as source:
        assert source.info.frames == 9815
        first = next(iter(source))
    assert first.image.shape == (120, 160, 3)
    with open_source(str(real_drives / "warehouse_tub")) as source:
        assert source.info.frames == 1000
