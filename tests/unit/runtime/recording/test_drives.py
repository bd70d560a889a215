from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import drive_factory as make
from sepilot_runtime.base.errors import DriveError, FrameError, UsageError
from sepilot_runtime.cli import main
from sepilot_runtime.recording.drive import Drive, frames_of
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions


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
        assert drive.labels["steering"].tolist() == pytest.approx(make.angles(40))
        assert drive.rate_hz == pytest.approx(20.0) and drive.duration_s == pytest.approx(39 / 20)
        assert drive.has("steering") and not drive.skipped and not drive.notes
        # Frame and label belong together.
        assert bar_position(drive.read(9)) == pytest.approx(drive.labels["steering"][9], abs=0.06)

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

    def test_a_catalog_that_the_manifest_does_not_name_is_read_with_a_note(self, tmp_path: Path) -> None:
        drive = read(make.write_tub(tmp_path / "tub", manifest={"paths": ["catalog_0.catalog"]}))
        assert len(drive) == 40 and drive.notes == ("1 of 2 catalogs are not in manifest.json: read as well",)

    def test_a_named_catalog_that_is_missing_is_counted(self, tmp_path: Path) -> None:
        folder = make.write_tub(tmp_path / "tub")
        (folder / "catalog_1.catalog").unlink()
        assert len(read(folder)) == 20 and read(folder).skipped == {"missing catalog": 1}

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

    @pytest.mark.parametrize("name", ["images/5_cam_image_array_.jpg", "catalog_1.catalog", "images"])
    def test_a_link_out_of_the_drive_is_refused(self, tmp_path: Path, name: str) -> None:
        folder = make.write_tub(tmp_path / "tub")
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DriveError, match="link that leads outside of the drive"):
            read(folder)

    def test_a_tub_behind_a_link_is_a_drive(self, tmp_path: Path) -> None:
        make.write_tub(tmp_path / "tub")
        (tmp_path / "link").symlink_to(tmp_path / "tub")
        assert len(read(tmp_path / "link")) == 40

    def test_a_frame_is_taken_once(self, tmp_path: Path) -> None:
        drive = read(make.write_tub(tmp_path / "tub", records={6: {"cam/image_array": "5_cam_image_array_.jpg"}}))
        assert drive.skipped == {"frame named a second time": 1} and len(set(drive.names)) == len(drive) == 39

    def test_a_clock_that_was_set_back_does_not_stop_time(self, tmp_path: Path) -> None:
        changes = {i: {"_timestamp_ms": 1_600_000_000_000 + 50 * i} for i in range(80, 150)}
        drive = read(make.write_tub(tmp_path / "tub", count=150, records=changes))
        assert np.diff(drive.time_s) == pytest.approx(np.full(149, 0.05), abs=1e-5) and "set back" in drive.notes[0]

    @pytest.mark.parametrize("later_ms", [1_700_000_000_000, 700_000])
    def test_a_clock_that_was_set_ahead_is_joined(self, tmp_path: Path, later_ms: int) -> None:
        changes = {i: {"_timestamp_ms": 50 * i + (later_ms if i >= 15 else 0)} for i in range(40)}
        drive = read(make.write_tub(tmp_path / "tub", records=changes))
        assert np.diff(drive.time_s) == pytest.approx(np.full(39, 0.05), abs=1e-5)
        assert drive.notes == (
            "over 10 minutes between two frames (a new session, or the clock was set), 1x: joined there",
        )

    @pytest.mark.parametrize("wild", [0, 10**18, -(10**200)])
    @pytest.mark.parametrize("place", [20, 39])
    def test_one_wild_time_stamp_moves_no_other(self, tmp_path: Path, wild: int, place: int) -> None:
        drive = read(make.write_tub(tmp_path / "tub", records={place: {"_timestamp_ms": wild}}))
        assert np.diff(drive.time_s) == pytest.approx(np.full(39, 0.05), abs=1e-5)
        assert len(drive.notes) == 1

    def test_a_pause_is_time_but_not_duration(self, tmp_path: Path) -> None:
        changes = {i: {"_timestamp_ms": 50 * i + 120_000 * (i >= 15)} for i in range(40)}
        drive = read(make.write_tub(tmp_path / "tub", records=changes))
        assert drive.time_s[-1] == pytest.approx(39 / 20 + 120) and drive.pauses_s.tolist() == pytest.approx([120.05])
        assert drive.duration_s == pytest.approx(38 / 20) and not drive.notes

    def test_a_missing_time_stamp_lies_between_its_neighbours(self, tmp_path: Path) -> None:
        drive = read(make.write_tub(tmp_path / "tub", count=150, records={20: {"_timestamp_ms": None}}))
        assert drive.time_s[20] == pytest.approx(1.0) and "1 frames have no time stamp" in drive.notes[0]

    @pytest.mark.parametrize(
        "line",
        [
            "[" * 100_000,
            "7",
            '{"_index": [], "cam/image_array": "\\u0000.jpg"}',
            '{"_index": 1e400, "cam/image_array": "%s.jpg"}' % ("x" * 300),
            '{"_index": 1, "cam/image_array": "", "user/angle": 0}',
            '{"cam/image_array": "0_cam_image_array_.jpg", "user/angle": 1%s}' % ("0" * 400),
        ],
    )
    def test_a_strange_line_costs_only_itself(self, tmp_path: Path, line: str) -> None:
        folder = make.write_tub(tmp_path / "tub", count=4)
        with (folder / "catalog_1.catalog").open("a") as file:
            file.write(line + "\n")
        drive = read(folder)
        assert len(drive) == 4 and sum(drive.skipped.values()) == 1

    @pytest.mark.parametrize("keep", [0, 60, 0.99, None])
    @pytest.mark.parametrize("filler", ["", "\0" * 64, "{", "[]\n7\n"])
    def test_a_torn_manifest_beside_catalogs_is_read_with_a_note(
        self, tmp_path: Path, keep: float | None, filler: str
    ) -> None:
        """Donkeycar writes its last line anew for each frame: a power cut leaves it cut, empty, zeros, or gone."""
        folder = make.write_tub(tmp_path / "tub", deleted=[3])
        manifest = folder / "manifest.json"
        whole = manifest.read_text()
        if keep is None:
            manifest.unlink()
        else:
            manifest.write_text(whole[: int(keep * len(whole) if keep < 1 else keep)] + filler)
        drive = read(folder)
        assert len(drive) == 40 and drive.has("steering")
        state = "missing" if keep is None else "torn"
        says = f"manifest.json is {state}: the catalogs in the folder are read, deleted rows are not known"
        assert drive.notes == (says,)

    def test_a_byte_order_mark_is_no_damage(self, tmp_path: Path) -> None:
        folder = make.write_tub(tmp_path / "tub", deleted=[3])
        for name in ("manifest.json", "catalog_0.catalog"):
            (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
        assert len(read(folder)) == 39 and not read(folder).notes and "broken JSON" not in read(folder).skipped

    def test_an_index_used_again_gives_a_picture_to_its_last_row(self, tmp_path: Path) -> None:
        """Recorded on after the manifest was lost: rows from index 0 again, over the old pictures."""
        folder = make.write_tub(tmp_path / "tub", count=40)
        catalog = folder / "catalog_0.catalog"
        again = [{**json.loads(line), "user/angle": 0.75} for line in catalog.read_text().splitlines()]
        with (folder / "catalog_1.catalog").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in again)
        drive = read(folder)
        assert len(drive) == 40 and drive.skipped == {"frame named a second time": 20}
        labels = dict(zip(drive.names, drive.labels["steering"].tolist(), strict=True))
        assert [labels[f"{i}_cam_image_array_.jpg"] for i in range(20)] == [0.75] * 20
        # Where it was recorded last, and not in the place of the picture that is gone.
        assert drive.names[0] == "20_cam_image_array_.jpg" and drive.names[20] == "0_cam_image_array_.jpg"
        assert labels["20_cam_image_array_.jpg"] == pytest.approx(make.angles(40)[20])

    @pytest.mark.parametrize("manifest", ['{"paths": 7}', '{"paths": [7]}', '{"paths": [], "deleted_indexes": 3}'])
    def test_a_manifest_of_something_else_beside_catalogs_is_an_error(self, tmp_path: Path, manifest: str) -> None:
        folder = make.write_tub(tmp_path / "tub", count=4)
        (folder / "manifest.json").write_text(manifest)
        with pytest.raises(DriveError, match=r"manifest\.json"):
            read(folder)

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
        assert drive.kind == "tub-v1" and drive.labels["steering"].tolist() == pytest.approx(make.angles(12))

    @pytest.mark.parametrize("header", [True, False])
    @pytest.mark.parametrize("prefix", ["IMG/", " /home/someone/data/IMG/", "C:\\Users\\someone\\IMG\\"])
    def test_udacity_log(self, tmp_path: Path, header: bool, prefix: str) -> None:
        drive = read(make.write_udacity(tmp_path / "log", header=header, prefix=prefix))
        assert (drive.kind, len(drive), drive.full_scale_deg) == ("udacity", 10, 25.0)
        assert drive.labels["steering"].tolist() == pytest.approx(make.angles(10))
        assert drive.rate_hz == pytest.approx(10.0)

    def test_udacity_side_cameras_are_corrected(self, tmp_path: Path) -> None:
        folder = make.write_udacity(tmp_path / "log", count=2)
        drive = read(folder, cameras="all", side_camera_correction=0.1)
        assert drive.camera.tolist() == [0, -1, 1] * 2
        centre, left, right = drive.labels["steering"][:3]
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

    def test_udacity_row_without_a_number(self, tmp_path: Path) -> None:
        folder = make.write_udacity(tmp_path / "log", header=False)
        log = folder / "driving_log.csv"
        lines = log.read_text().splitlines()
        lines[0] = lines[0].replace(",0.0,", ",oops,", 1)
        lines[4] = lines[4][:60]
        log.write_text("\n".join(lines))
        drive = read(folder)
        assert drive.skipped == {"label is not a number": 2} and len(drive) == 8

    def test_angle_names_follow_their_frame_numbers(self, tmp_path: Path) -> None:
        for frame, angle in ((10, 45), (2, 90), (1, 135)):
            cv2.imwrite(str(tmp_path / f"a{angle}f{frame}.png"), make.frame(0.0))
        drive = read(tmp_path, angle_pattern=r"(?P<drive>a)(?P<angle>\d+)f(?P<frame>\d+)")
        assert drive.labels["steering"].tolist() == [1.0, 0.0, -1.0]

    @pytest.mark.parametrize("name", ["cam_01_{:04d}.png", "shot_{0}_{0:03d}.png"])
    def test_a_counter_is_no_angle(self, tmp_path: Path, name: str) -> None:
        for i in range(60, 90):
            cv2.imwrite(str(tmp_path / name.format(i)), make.frame(0.0))
        drive = read(tmp_path)
        assert drive.kind == "images" and "counts frames: not taken for an angle" in drive.notes[0]

    def test_a_frame_number_that_comes_twice_costs_one_picture(self, tmp_path: Path) -> None:
        folder = make.write_angle_names(tmp_path / "frames", degrees=[45 + 7 * i % 90 for i in range(20)])
        cv2.imwrite(str(folder / "video01_010_134.png"), make.frame(1.0))
        drive = read(folder)
        assert drive.has("steering") and len(drive) == 20 and drive.skipped == {"second picture of a frame number": 1}
        assert drive.names[10] == "video01_010_115.png"

    def test_angle_in_file_name(self, tmp_path: Path) -> None:
        drive = read(make.write_angle_names(tmp_path / "frames"))
        assert (drive.kind, drive.id) == ("filename-angle", "frames/video01")
        assert drive.labels["steering"].tolist() == pytest.approx([-1, -2 / 3, 0, 2 / 3, 1])
        flipped = read(tmp_path / "frames", positive="left", full_scale_deg=90.0)
        assert flipped.labels["steering"].tolist() == pytest.approx([0.5, 1 / 3, 0, -1 / 3, -0.5])

    def test_angle_names_can_be_switched_off_or_described(self, tmp_path: Path) -> None:
        folder = make.write_angle_names(tmp_path / "frames")
        assert not read(folder, angle_pattern="none").has("steering")
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
        assert drive.labels["steering"].tolist() == pytest.approx(make.angles(12), abs=1e-3)
        assert drive.rate_hz == pytest.approx(20.0)
        # Any order of reading gives the frame of that row.
        for index in (9, 2, 5, 5):
            assert bar_position(drive.read(index)) == pytest.approx(drive.labels["steering"][index], abs=0.08)
        assert len(read(table)) == 12

    def test_a_csv_that_names_frames_the_video_lacks(self, tmp_path: Path) -> None:
        video = make.write_video(tmp_path / "clip.avi", count=5)
        (tmp_path / "clip.csv").write_text("frame,steering\n" + "\n".join(f"{i},0.1" for i in range(8)))
        assert read(video).skipped == {"row names a frame that the video lacks": 3}

    @pytest.mark.parametrize(("first", "expected"), [(0, 0), (1, 0), (2, 2)])
    def test_csv_frames_count_from_one_if_they_can(self, tmp_path: Path, first: int, expected: int) -> None:
        video = make.write_video(tmp_path / "clip.avi")
        (tmp_path / "clip.csv").write_text("frame,steering\n" + "\n".join(f"{first + i},0.1" for i in range(9)))
        assert read(video).names[0] == str(expected)

    @pytest.mark.parametrize("column", ["frame,", ""])
    def test_a_csv_without_times_goes_by_the_video(self, tmp_path: Path, column: str) -> None:
        video = make.write_video(tmp_path / "clip.avi", count=30, rate_hz=60.0)
        rows = [f"{i},0.1" if column else "0.1" for i in range(30)]
        (tmp_path / "clip.csv").write_text(f"{column}steering\n" + "\n".join(rows))
        drive = read(video)
        assert drive.rate_hz == pytest.approx(60.0) and drive.duration_s == pytest.approx(29 / 60)
        assert drive.notes[-1] == "no time column: 60 Hz by the video"

    def test_a_csv_row_that_breaks_off_moves_no_other(self, tmp_path: Path) -> None:
        video = make.write_video(tmp_path / "clip.avi")
        rows = [f"{50 * i},{a}" for i, a in enumerate(make.angles(12))]
        rows[4] = "200"
        (tmp_path / "clip.csv").write_text("time,steering\n" + "\n".join(rows))
        drive = read(video)
        assert drive.skipped == {"label is not a number": 1}
        assert bar_position(drive.read(8)) == pytest.approx(drive.labels["steering"][8], abs=0.08)

    def test_an_unclear_unit_asks(self, tmp_path: Path) -> None:
        video = make.write_video(tmp_path / "clip.avi", count=3)
        (tmp_path / "clip.csv").write_text("frame,steering\n0,1.8\n1,-1.8\n2,0\n")
        with pytest.raises(DriveError, match="--csv-unit"):
            read(video)
        assert read(video, csv_unit="deg").labels["steering"].tolist() == pytest.approx([0.06, -0.06, 0.0])

    def test_video_and_pictures_without_labels(self, tmp_path: Path) -> None:
        video = read(make.write_video(tmp_path / "a.avi"))
        assert video.kind == "video" and not video.has("steering") and len(list(frames_of(video))) == 12
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


def test_pictures_beside_recordings_are_no_recording(tmp_path: Path) -> None:
    make.write_tub(tmp_path / "tub", count=4)
    cv2.imwrite(str(tmp_path / "sheet.png"), make.frame(0.0))
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "manifest.json").write_text('{"seed": 1}')
    assert [d.id for d in open_drives([tmp_path], ReaderOptions())] == ["tub"]


def test_a_drive_that_is_named_twice_is_there_once(tmp_path: Path) -> None:
    tub = make.write_tub(tmp_path / "tub", count=4)
    assert len(open_drives([tub, tmp_path, tub], ReaderOptions())) == 1


def test_drives_of_one_name_get_different_ids(tmp_path: Path) -> None:
    for place in ("x/a/tub", "y/a/tub"):
        make.write_tub(tmp_path / place, count=2)
    assert [d.id for d in open_drives([tmp_path], ReaderOptions())] == ["x/a/tub", "y/a/tub"]


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
    assert bar_position(part.read(3)) == pytest.approx(part.labels["steering"][3], abs=0.06)
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


def test_the_verb_shows_names_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drives", str(make.write_tub(tmp_path / "[red]lap :car:", count=4))]) == 0
    assert "[red]lap :car:" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "says"), [("old.png", "exists already"), ("sheet.gif", "ends in .png or .jpg")])
def test_a_sheet_that_cannot_be_written_is_told_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    (tmp_path / "old.png").write_bytes(b"mine")
    assert main(["drives", str(make.write_tub(tmp_path / "tub", count=4)), "--sheet", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert (tmp_path / "old.png").read_bytes() == b"mine"


@settings(max_examples=200)
@given(line=st.binary(max_size=120), where=st.sampled_from(["manifest.json", "catalog_1.catalog"]))
def test_no_content_of_a_tub_is_more_than_one_line_of_error(
    line: bytes, where: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "tub"
    make.write_tub(folder, count=2)
    file = folder / where
    file.write_bytes(line + b"\n" + file.read_bytes() if where == "manifest.json" else file.read_bytes() + line)
    try:
        drive = read(folder)
    except DriveError as e:
        assert "\n" not in str(e)
    else:
        assert len(drive) == 2


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
    assert found["warehouse_tub"].notes and not found["solidWhiteRight.mp4"].has("steering")
