from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.cli import main
from sepilot_runtime.errors import DriveError, FrameError, UsageError
from sepilot_train.drives import Drive, DriveFilter, ReaderOptions, frames_of, open_drives


def read(path: Path, **options: object) -> Drive:
    (drive,) = open_drives([path], ReaderOptions(**options))  # type: ignore[arg-type]
    return drive


def bar_position(picture: np.ndarray) -> float:
    """Where the factory drew its bar, from -1 to +1."""
    columns = np.flatnonzero(picture[-4, :, 2] > 130)
    return float((columns.mean() - 3.5) / (picture.shape[1] - 9) * 2 - 1)


class TestTubV2:
    def test_a_whole_tub(self, tmp_path: Path) -> None:
        drive = read(make.write_tub(tmp_path / "tub"))
        assert (drive.kind, drive.id, len(drive), drive.full_scale_deg) == ("tub-v2", "tub", 40, 25.0)
        assert drive.steering.tolist() == pytest.approx(make.angles(40))
        assert drive.rate_hz == pytest.approx(20.0) and drive.duration_s == pytest.approx(39 / 20)
        assert drive.labelled and not drive.skipped and not drive.notes
        # Frame and label belong together.
        assert bar_position(drive.read(9)) == pytest.approx(drive.steering[9], abs=0.06)

    def test_deleted_missing_and_broken_rows_are_counted(self, tmp_path: Path) -> None:
        folder = make.write_tub(
            tmp_path / "tub", deleted=[3, 4, 39], records={8: {"user/angle": None}, 9: {"cam/image_array": None}}
        )
        (folder / "images" / "7_cam_image_array_.jpg").unlink()
        with (folder / "catalog_0.catalog").open("a") as file:
            file.write('{"_index": 99, "cam/im\n')
        drive = read(folder)
        assert drive.skipped == {
            "deleted by the author": 3,
            "missing image": 1,
            "record without user/angle": 1,
            "record without an image": 1,
            "broken JSON": 1,
        }
        assert len(drive) == 34 and "3_cam_image_array_.jpg" not in drive.names

    @pytest.mark.parametrize(
        ("label", "reason"), [("NaN", "not a number"), ("1.5", "out of range"), ('"left"', "not a number")]
    )
    def test_impossible_labels_are_skipped(self, tmp_path: Path, label: str, reason: str) -> None:
        folder = make.write_tub(tmp_path / "tub", records={5: {"user/angle": "@"}})
        catalog = folder / "catalog_0.catalog"
        catalog.write_text(catalog.read_text().replace('"@"', label))
        drive = read(folder)
        assert drive.skipped == {f"label {'is ' if 'not' in reason else ''}{reason}": 1} and len(drive) == 39

    def test_only_catalogs_that_the_manifest_names_are_read(self, tmp_path: Path) -> None:
        assert len(read(make.write_tub(tmp_path / "tub", manifest={"paths": ["catalog_0.catalog"]}))) == 20

    def test_a_named_catalog_that_is_missing_is_an_error(self, tmp_path: Path) -> None:
        folder = make.write_tub(tmp_path / "tub")
        (folder / "catalog_1.catalog").unlink()
        with pytest.raises(DriveError, match=r"manifest\.json: names the catalog 'catalog_1.catalog', which is not there"):
            read(folder)

    def test_missing_session_ids_and_extra_columns_do_not_matter(self, tmp_path: Path) -> None:
        changes = {i: {"_session_id": None, "imu/acl_x": 0.1} for i in range(40)}
        assert len(read(make.write_tub(tmp_path / "tub", records=changes))) == 40

    def test_unusable_time_stamps_are_replaced_with_a_note(self, tmp_path: Path) -> None:
        changes = {i: {"_timestamp_ms": 1_700_000_000_000 + i} for i in range(40)}
        drive = read(make.write_tub(tmp_path / "tub", records=changes))
        assert drive.duration_s == pytest.approx(39 / 20) and "20 Hz assumed" in drive.notes[0]

    def test_duplicate_time_stamps_are_kept_in_order(self, tmp_path: Path) -> None:
        drive = read(make.write_tub(tmp_path / "tub", records={6: {"_timestamp_ms": 1_700_000_000_250}}))
        assert len(drive) == 40 and (np.diff(drive.time_s) >= 0).all()

    @pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg"])
    def test_a_path_out_of_the_drive_is_refused(self, tmp_path: Path, name: str) -> None:
        cv2.imwrite(str(tmp_path / "secret.jpg"), make.frame(0.0))
        with pytest.raises(DriveError, match="outside of the drive"):
            read(make.write_tub(tmp_path / "tub", records={5: {"cam/image_array": name}}))

    def test_a_tub_of_one_frame_is_a_drive(self, tmp_path: Path) -> None:
        drive = read(make.write_tub(tmp_path / "tub", count=1))
        assert len(drive) == 1 and drive.duration_s == 0.0

    def test_an_empty_tub_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DriveError, match="no usable frame"):
            read(make.write_tub(tmp_path / "tub", count=0))

    def test_the_recordings_own_full_scale_counts_unless_one_is_given(self, tmp_path: Path) -> None:
        folder = make.write_tub(tmp_path / "tub")
        lines = (folder / "manifest.json").read_text().splitlines()
        lines[2] = '{"full_scale_deg": 18.5}'
        (folder / "manifest.json").write_text("\n".join(lines))
        assert read(folder).full_scale_deg == 18.5
        assert read(folder, full_scale_deg=30.0).full_scale_deg == 30.0


class TestOtherFormats:
    def test_tub_v1_in_the_order_of_its_records(self, tmp_path: Path) -> None:
        drive = read(make.write_tub_v1(tmp_path / "old"))
        assert drive.kind == "tub-v1" and drive.steering.tolist() == pytest.approx(make.angles(12))

    @pytest.mark.parametrize("header", [True, False])
    @pytest.mark.parametrize("prefix", ["IMG/", " /home/someone/data/IMG/", "C:\\Users\\someone\\IMG\\"])
    def test_udacity_log(self, tmp_path: Path, header: bool, prefix: str) -> None:
        drive = read(make.write_udacity(tmp_path / "log", header=header, prefix=prefix))
        assert (drive.kind, len(drive), drive.full_scale_deg) == ("udacity", 10, 25.0)
        assert drive.steering.tolist() == pytest.approx(make.angles(10))
        assert drive.rate_hz == pytest.approx(10.0)

    def test_udacity_side_cameras_are_corrected(self, tmp_path: Path) -> None:
        folder = make.write_udacity(tmp_path / "log", count=2)
        drive = read(folder, cameras="all", side_camera_correction=0.1)
        assert drive.camera.tolist() == [0, -1, 1] * 2
        centre, left, right = drive.steering[:3]
        # The left camera looks from too far left: from there it goes right.
        assert left == pytest.approx(centre + 0.1) and right == pytest.approx(centre - 0.1)

    def test_udacity_without_a_steering_column(self, tmp_path: Path) -> None:
        folder = make.write_udacity(tmp_path / "log")
        log = folder / "driving_log.csv"
        log.write_text(log.read_text().replace("steering", "wheel", 1))
        with pytest.raises(DriveError, match="column 'steering' expected"):
            read(folder)

    def test_udacity_path_that_climbs_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DriveError, match="outside of the drive"):
            read(make.write_udacity(tmp_path / "log", prefix="../../"))

    def test_angle_in_file_name(self, tmp_path: Path) -> None:
        drive = read(make.write_angle_names(tmp_path / "frames"))
        assert (drive.kind, drive.id) == ("filename-angle", "frames/video01")
        assert drive.steering.tolist() == pytest.approx([-1, -2 / 3, 0, 2 / 3, 1])
        flipped = read(tmp_path / "frames", positive="left", full_scale_deg=90.0)
        assert flipped.steering.tolist() == pytest.approx([0.5, 1 / 3, 0, -1 / 3, -0.5])

    def test_angle_names_can_be_switched_off_or_described(self, tmp_path: Path) -> None:
        folder = make.write_angle_names(tmp_path / "frames")
        assert not read(folder, angle_pattern="none").labelled
        with pytest.raises(UsageError, match="angle"):
            read(folder, angle_pattern=r"(?P<drive>.+)_(?P<frame>\d+)")
        with pytest.raises(UsageError, match="regular expression"):
            read(folder, angle_pattern="(")

    def test_video_with_csv(self, tmp_path: Path) -> None:
        video = make.write_video(tmp_path / "out-video-1.avi")
        rows = [f"{1_500_000_000_000 + 50 * i},{i + 1},{a * 0.5236}" for i, a in enumerate(make.angles(12))]
        table = tmp_path / "out-key-1.csv"
        table.write_text("ts_micro,frame,wheel\n" + "\n".join(rows) + "\n")
        drive = read(video)
        assert (drive.kind, len(drive), drive.full_scale_deg) == ("video-csv", 12, 30.0)
        assert drive.steering.tolist() == pytest.approx(make.angles(12), abs=1e-3)
        assert drive.rate_hz == pytest.approx(20.0)
        # Any order of reading gives the frame of that row.
        for index in (9, 2, 5, 5):
            assert bar_position(drive.read(index)) == pytest.approx(drive.steering[index], abs=0.08)
        assert len(read(table)) == 12

    def test_a_csv_that_names_frames_the_video_lacks(self, tmp_path: Path) -> None:
        video = make.write_video(tmp_path / "clip.avi", count=5)
        (tmp_path / "clip.csv").write_text("frame,steering\n" + "\n".join(f"{i},0.1" for i in range(8)))
        assert read(video).skipped == {"row names a frame that the video lacks": 3}

    def test_an_unclear_unit_asks(self, tmp_path: Path) -> None:
        video = make.write_video(tmp_path / "clip.avi", count=3)
        (tmp_path / "clip.csv").write_text("frame,steering\n0,1.8\n1,-1.8\n2,0\n")
        with pytest.raises(DriveError, match="--csv-unit"):
            read(video)
        assert read(video, csv_unit="deg").steering.tolist() == pytest.approx([0.06, -0.06, 0.0])

    def test_video_and_pictures_without_labels(self, tmp_path: Path) -> None:
        video = read(make.write_video(tmp_path / "a.avi"))
        assert video.kind == "video" and not video.labelled and len(list(frames_of(video))) == 12
        folder = tmp_path / "pictures"
        folder.mkdir()
        for i in (10, 9, 1):
            cv2.imwrite(str(folder / f"shot {i}.png"), make.frame(0.0))
        assert read(folder).names == ("shot 1.png", "shot 9.png", "shot 10.png")


def test_a_folder_of_drives_is_read_in_order_and_told_apart(tmp_path: Path) -> None:
    for name in ("b/tub", "a/tub"):
        make.write_tub(tmp_path / name, count=4)
    make.write_video(tmp_path / "c.avi")
    drives = open_drives([tmp_path], ReaderOptions())
    assert [d.id for d in drives] == ["c.avi", "a/tub", "b/tub"]


@pytest.mark.parametrize(("content", "expected"), [(None, "no such file or folder"), ("", "expected, found none")])
def test_a_path_without_a_recording(tmp_path: Path, content: str | None, expected: str) -> None:
    path = tmp_path / "thing"
    if content is not None:
        path.mkdir()
        (path / "notes.txt").write_text(content)
    with pytest.raises(DriveError, match=expected):
        open_drives([path], ReaderOptions())


def test_a_truncated_jpeg_is_no_frame(tmp_path: Path) -> None:
    folder = make.write_tub(tmp_path / "tub", count=4)
    image = folder / "images" / "2_cam_image_array_.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    drive = read(folder)
    with pytest.raises(FrameError, match="truncated"):
        drive.read(2)
    assert len(list(frames_of(drive))) == 3


def test_filters(tmp_path: Path) -> None:
    drive = read(make.write_tub(tmp_path / "tub", throttle=[0.0] * 10 + [0.4] * 30))
    assert len(drive.filtered(DriveFilter(min_throttle=0.05))) == 30
    assert drive.filtered(DriveFilter(from_s=0.5, to_s=1.0)).names[0] == "10_cam_image_array_.jpg"
    assert len(drive.filtered(DriveFilter(first=5, last=9))) == 5
    part = drive.filtered(DriveFilter(first=20))
    assert bar_position(part.read(3)) == pytest.approx(part.steering[3], abs=0.06)
    with pytest.raises(DriveError, match=r"no frame is left after min_throttle=0\.9"):
        drive.filtered(DriveFilter(min_throttle=0.9))


def test_the_verb_lists_and_draws_and_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make.write_tub(tmp_path / "tub", deleted=[0])
    image = folder / "images" / "5_cam_image_array_.jpg"
    image.write_bytes(image.read_bytes()[:-100])
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}
    sheet = tmp_path / "sheet.png"
    assert main(["drives", str(folder), "--json", "--verify", "--sheet", str(sheet)]) == 0
    (row,) = json.loads(capsys.readouterr().out)["drives"]
    assert row["frames"] == 38 and row["skipped"] == {"deleted by the author": 1, "truncated image": 1}
    assert sum(row["histogram"]) == 39
    assert cv2.imread(str(sheet)).shape[1] > 1000
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")} == before
    assert main(["drives", str(folder)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(["drives", str(tmp_path / "nothing")]) == 2


def test_real_drives(real_drives: Path) -> None:
    found = {d.id: d for d in open_drives([real_drives], ReaderOptions())}
    assert {name: len(d) for name, d in found.items()} == {
        "club_track_run_a": 9815,
        "club_track_run_b": 9587,
        "out-video-405": 400,
        "out-video-50": 194,
        "solidWhiteRight.mp4": 221,
        "warehouse_tub": 1000,
    }
    assert found["warehouse_tub"].notes and not found["solidWhiteRight.mp4"].labelled
