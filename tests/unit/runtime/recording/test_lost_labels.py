"""Ways in which a recording lost its labels or got others, and nothing was said; each stands for a kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions

COUNT = 24
ANGLES = make.angles(COUNT)


def read(path: Path, **options: object) -> Drive:
    (drive,) = open_drives([path], ReaderOptions(**options))  # type: ignore[arg-type]
    return drive


def steering(path: Path, **options: object) -> list[float]:
    return [float(value) for value in read(path, **options).labels["steering"]]


# --- Decimal commas -------------------------------------------------------------------------------------------------


def udacity(folder: Path, rows: Sequence[str], *, header: bool = True) -> Path:
    (folder / "IMG").mkdir(parents=True)
    lines = ["center,left,right,steering,throttle,brake,speed"] if header else []
    for i, row in enumerate(rows):
        cv2.imwrite(str(folder / "IMG" / f"c{i}.jpg"), make.frame(0.0))
        lines.append(f"IMG/c{i}.jpg,IMG/l{i}.jpg,IMG/r{i}.jpg,{row}")
    (folder / "driving_log.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("header", [True, False])
def test_a_log_of_a_locale_with_decimal_commas_is_joined(tmp_path: Path, header: bool) -> None:
    rows = [
        "-0,3578973,0,5,0,12,30184",
        "0,25,1,0,30,19",
        "0,0,0,0,01",
        "1,0,9855326,0,22,2",
        "-7,450581E-02,1,0,9,5",
    ]
    drive = read(udacity(tmp_path / "log", rows, header=header))
    assert drive.labels["steering"].tolist() == pytest.approx([-0.3578973, 0.25, 0.0, 1.0, -0.07450581])
    assert drive.labels["throttle"].tolist() == pytest.approx([0.5, 1.0, 0.0, 0.9855326, 1.0])
    assert "5 rows with decimal commas: joined" in drive.notes and not drive.skipped


def test_a_decimal_comma_that_could_be_another_costs_its_row(tmp_path: Path) -> None:
    """0 and 1.5, or 0.1 and 5: the steering cannot be told."""
    folder = tmp_path / "log"
    drive = read(udacity(folder, ["0,5,0,5,0,3", "0,1,1,0,5"], header=True))
    assert drive.labels["steering"].tolist() == [0.5]
    assert drive.skipped == {"decimal commas that cannot be told from others": 1}


def test_a_log_of_points_is_read_as_ever(tmp_path: Path) -> None:
    rows = ["-0.25,0.5,0,12.3", "0.25,0.5,0,12.3,", "0.5,0.5,0,12.3,,"]
    drive = read(udacity(tmp_path / "log", rows))
    assert drive.labels["steering"].tolist() == [-0.25, 0.25, 0.5] and not drive.skipped
    assert drive.notes == ("no time stamps: 20 Hz assumed",)


def test_a_table_of_commas_that_nobody_can_tell_is_refused_by_that_word(tmp_path: Path) -> None:
    video = make.write_video(tmp_path / "clip.avi", count=COUNT)
    rows = "".join(f"{i},0,{i}\n" for i in range(COUNT))
    (tmp_path / "clip.csv").write_text("frame,steering\n" + rows)
    with pytest.raises(DriveError, match=r"clip\.csv: 2 cells expected .* in 24 of 24 rows, .* decimal commas\?"):
        read(video)
    (tmp_path / "clip.csv").write_text("frame,steering\n0,0.5\n1,0,5\n2,0.5\n")
    assert read(video).names == ("0", "2"), "of a stray row as well nobody knows which cell is whose"


@pytest.mark.parametrize("mark", [";", "\t"])
def test_columns_parted_otherwise_may_have_decimal_commas(mark: str, tmp_path: Path) -> None:
    video = make.write_video(tmp_path / "clip.avi", count=4)
    rows = [f"{i}{mark}{f'{a:.4f}'.replace('.', ',')}" for i, a in enumerate(make.angles(4))]
    (tmp_path / "clip.csv").write_text(f"frame{mark}steering\n" + "\n".join(rows))
    assert steering(video) == pytest.approx(make.angles(4))


# --- Units ----------------------------------------------------------------------------------------------------------

DEGREES = [20.0 * a if i % 3 == 0 else 0.9 * a for i, a in enumerate(ANGLES)]
"""Mostly straight, so that most of it lies in [-1, 1]."""


def tub_of(folder: Path, labels: Sequence[float]) -> Path:
    return make.write_tub(folder, len(labels), records={i: {"user/angle": a} for i, a in enumerate(labels)})


def csv_of(folder: Path, labels: Sequence[float]) -> Path:
    video = make.write_video(folder / "clip.avi", len(labels))
    (folder / "clip.csv").write_text("frame,steering\n" + "".join(f"{i},{a}\n" for i, a in enumerate(labels)))
    return video


def log_of(folder: Path, labels: Sequence[float]) -> Path:
    return udacity(folder, [f"{a},0.5,0,10" for a in labels])


@pytest.mark.parametrize(
    ("write", "labels", "unit", "scale"),
    [
        (tub_of, DEGREES, "deg", 25.0),
        (log_of, DEGREES, "deg", 25.0),
        (tub_of, [100 * a for a in ANGLES], "percent", 25.0),
        (tub_of, [2 * a for a in ANGLES], "rad", 180.0),
        (csv_of, [100 * a for a in ANGLES], "percent", 30.0),
    ],
)
def test_another_unit_is_an_error_that_names_it_and_can_be_said(
    write: object, labels: list[float], unit: str, scale: float, tmp_path: Path
) -> None:
    path = write(tmp_path / "drive", labels)  # type: ignore[operator]
    scales = {} if scale in (25.0, 30.0) else {"full_scale_deg": scale}
    with pytest.raises(
        DriveError, match=r"steering from -1 to 1 .* found -.* rows; say .* with --(csv-)?unit"
    ) as caught:
        read(path, **scales)
    assert "\n" not in str(caught.value) and f"of {COUNT} rows" in str(caught.value)
    per_unit = {"deg": 1 / scale, "percent": 0.01, "rad": np.degrees(1.0) / scale}[unit]
    option = "csv_unit" if write is csv_of else "unit"
    assert steering(path, **{option: unit}, **scales) == pytest.approx([per_unit * a for a in labels], abs=1e-6)


def test_a_few_rows_out_of_range_are_strays(tmp_path: Path) -> None:
    """Five, or one in a hundred."""
    strays = {i: {"user/angle": 1.5} for i in range(5)}
    assert read(make.write_tub(tmp_path / "a", COUNT, records=strays)).skipped == {"label out of range": 5}
    with pytest.raises(DriveError, match=r"found 1\.5 to 1\.5 in 6 of 24 rows"):
        read(make.write_tub(tmp_path / "b", COUNT, records={**strays, 5: {"user/angle": 1.5}}))


def test_an_angle_in_a_file_name_may_have_another_straight(tmp_path: Path) -> None:
    folder = make.write_angle_names(tmp_path / "frames", degrees=[5 * i for i in range(-6, 7) if i >= 0] * 2)
    with pytest.raises(DriveError, match="--angle-straight-deg and --full-scale-deg"):
        read(folder, angle_pattern=r"(?P<drive>.+)_(?P<frame>\d+)_(?P<angle>\d+)")


def test_an_impossible_throttle_is_unknown_and_said(tmp_path: Path) -> None:
    drive = read(make.write_tub(tmp_path / "tub", COUNT, throttle=[0.5] * 20 + [412.0] * 4))
    assert np.isnan(drive.labels["throttle"][20:]).all() and drive.labels["throttle"][:20].tolist() == [0.5] * 20
    assert drive.notes == ("throttle from 412 to 412 in 4 rows, -1 to 1 expected: taken as unknown",)


# --- Clocks ---------------------------------------------------------------------------------------------------------


def clip(folder: Path, times_s: Sequence[float], labels: Sequence[float], frames: int = 100) -> Path:
    """A video at 20 Hz and a table with its own times, without a column of frames."""
    folder.mkdir()
    video = make.write_video(folder / "clip.avi", frames)
    rows = "".join(f"{1.7e9 + t:.3f},{a:.5f}\n" for t, a in zip(times_s, labels, strict=True))
    (folder / "clip.csv").write_text("timestamp,steering\n" + rows)
    return video


@pytest.mark.parametrize("rate_hz", [100.0, 6.3])
def test_rows_at_another_rate_are_put_to_the_frames_by_time(rate_hz: float, tmp_path: Path) -> None:
    times = np.arange(0, 5, 1 / rate_hz)
    drive = read(clip(tmp_path / "d", times, np.where(times < 2.5, -0.5, 0.5)))
    assert len(drive) == 100 and f"{len(times)} rows put to 100 frames by time" in drive.notes[1]
    nearest = np.abs(times[None, :] - np.arange(100)[:, None] / 20).argmin(axis=1)
    assert drive.labels["steering"].tolist() == np.where(times < 2.5, -0.5, 0.5)[nearest].tolist()
    assert not drive.skipped
    assert drive.time_s.tolist() == pytest.approx([i / 20 for i in range(100)])


def test_rows_out_of_order_are_put_by_their_times(tmp_path: Path) -> None:
    times = np.arange(0, 5, 0.01)
    order = np.random.default_rng(1).permutation(len(times))
    order[order == 0], order[0] = order[0], 0
    drive = read(clip(tmp_path / "d", times[order], np.where(times < 2.5, -0.5, 0.5)[order]))
    assert (drive.labels["steering"][:49] < 0).all() and (drive.labels["steering"][51:] > 0).all()


@pytest.mark.parametrize("seconds", [2.0, 9.0])
def test_rows_of_another_length_than_the_video_are_refused(seconds: float, tmp_path: Path) -> None:
    times = np.arange(0, seconds, 0.01)
    video = clip(tmp_path / "d", times, np.zeros(len(times)))
    with pytest.raises(DriveError, match=rf"a row for each of 100 frames .* found {len(times)} rows; .* --csv-frame"):
        read(video)


def test_rows_without_times_go_in_step_or_are_refused(tmp_path: Path) -> None:
    video = make.write_video(tmp_path / "clip.avi", count=40)
    (tmp_path / "clip.csv").write_text("steering\n" + "0.5\n" * 45)
    assert len(read(video)) == 40, "five more are the recorder's last words"
    (tmp_path / "clip.csv").write_text("steering\n" + "0.5\n" * 46)
    with pytest.raises(DriveError, match="a row for each of 40 frames expected"):
        read(video)


# --- Options --------------------------------------------------------------------------------------------------------


def test_the_side_of_growing_steering_acts_on_every_format(tmp_path: Path) -> None:
    labels = [0.5, -0.25, 0.75]
    table = make.write_angle_names(tmp_path / "names", degrees=[90, 112, 68])
    for path in (
        tub_of(tmp_path / "tub", labels),
        log_of(tmp_path / "log", labels),
        csv_of(tmp_path / "clip", labels),
        pictures_with(tmp_path / "table", "labels.csv", "filename,steering", labels),
        table,
        make.write_tub_v1(tmp_path / "old"),
    ):
        assert steering(path, positive="left") == [-value for value in steering(path)]


def test_what_an_option_makes_of_the_steering_is_said(tmp_path: Path) -> None:
    """Of several formats in one folder each tells whether it was turned round."""
    tub_of(tmp_path / "tub", [0.5] * 4)
    csv_of(tmp_path / "clip", [0.5] * 4)
    log_of(tmp_path / "log", [0.5] * 4)
    drives = open_drives([tmp_path], ReaderOptions(positive="left", csv_unit="percent"))
    assert all(drive.notes[0].endswith("+ = left") for drive in drives) and len(drives) == 3
    assert {drive.kind: float(drive.labels["steering"][0]) for drive in drives} == {
        "tub-v2": -0.5, "video-csv": pytest.approx(-0.005), "udacity": -0.5,
    }  # fmt: skip


def test_side_cameras_are_corrected_after_the_sign_is_known(tmp_path: Path) -> None:
    folder = make.write_udacity(tmp_path / "log", count=1)
    centre, left, right = steering(folder, cameras="all", positive="left")
    assert left == pytest.approx(centre + 0.2) and right == pytest.approx(centre - 0.2)


@pytest.mark.parametrize(
    ("option", "value", "flag"),
    [
        ("cameras", "all", "--cameras: for drives of the kind udacity, found tub-v2"),
        ("csv_steering", "x", "--csv-steering: for drives of the kind picture-csv, video-csv"),
        ("angle_straight_deg", 80.0, "--angle-straight-deg: for drives of the kind filename-angle"),
        ("side_camera_correction", 0.1, "--side-camera-correction"),
        ("csv_frame", "x", "--csv-frame"),
    ],
)
def test_an_option_that_no_reader_here_goes_by_is_an_error(
    option: str, value: object, flag: str, tmp_path: Path
) -> None:
    make.write_tub(tmp_path / "tub", 4)
    with pytest.raises(UsageError, match=flag):
        read(tmp_path, **{option: value})


def test_an_option_for_one_of_several_drives_is_none(tmp_path: Path) -> None:
    make.write_tub(tmp_path / "tub", 4)
    make.write_udacity(tmp_path / "log", 4)
    assert len(open_drives([tmp_path], ReaderOptions(cameras="all"))) == 2


# --- What a frame is ------------------------------------------------------------------------------------------------


def test_pictures_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    lines = ["center,left,right,steering,throttle,brake,speed"]
    for track, label in (("track1", -0.5), ("track2", 0.5)):
        (tmp_path / "d" / track / "IMG").mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(tmp_path / "d" / track / "IMG" / f"{i}.jpg"), make.frame(label))
            lines.append(f"{track}/IMG/{i}.jpg,,,{label},0.5,0,10")
    cv2.imwrite(str(tmp_path / "d" / "track1" / "own.jpg"), make.frame(0.0))
    lines.append("track1/own.jpg,,,0,0.5,0,10")
    (tmp_path / "d" / "driving_log.csv").write_text("\n".join(lines) + "\n")
    drive = read(tmp_path / "d")
    assert drive.labels["steering"].tolist() == [-0.5] * 4 + [0.5] * 4 + [0.0] and not drive.skipped
    assert drive.names[3:5] == ("track1/IMG/3.jpg", "track2/IMG/0.jpg") and drive.names[-1] == "own.jpg"


# --- The autopilot's rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["pilot", "local", "local_angle"])
def test_rows_of_the_autopilot_are_no_drivers_labels(mode: str, tmp_path: Path) -> None:
    driven = {i: {"user/mode": mode, "user/angle": 1.0} for i in range(10, 15)}
    tub = make.write_tub(tmp_path / "tub", COUNT, records=driven)
    reason = f"driven by the autopilot (mode {mode}); --autopilot take reads them"
    assert steering(tub) == pytest.approx([a for i, a in enumerate(ANGLES) if i not in driven])
    assert read(tub).skipped == {reason: 5}
    taken = read(tub, autopilot="take")
    assert len(taken) == COUNT and taken.labels["steering"][10:15].tolist() == [1.0] * 5
    assert taken.notes == (f"5 rows driven by the autopilot (mode {mode}) taken",)
    assert not read(tub).notes
    most = {i: {"user/mode": mode} for i in range(COUNT - 2)}
    few = read(make.write_tub(tmp_path / "most", COUNT, records=most))
    assert len(few) == 2 and few.skipped == {reason: COUNT - 2} and not few.notes


def test_a_tub_of_the_autopilot_alone_has_frames_and_no_labels(tmp_path: Path) -> None:
    tub = make.write_tub(tmp_path / "tub", COUNT, records={i: {"user/mode": "local"} for i in range(COUNT)})
    drive = read(tub)
    assert len(drive) == COUNT and np.isnan(drive.labels["steering"]).all() and not drive.skipped
    assert drive.notes[0].startswith(f"{COUNT} frames: driven by the autopilot (mode local)")


def test_a_tub_that_holds_no_angles_can_be_driven_over(tmp_path: Path) -> None:
    drive = read(make.write_tub(tmp_path / "tub", COUNT, records={i: {"user/angle": None} for i in range(COUNT)}))
    assert len(drive) == COUNT and not drive.has("steering")
    assert drive.notes == (f"{COUNT} frames: record without user/angle",)


# --- Tables beside pictures -----------------------------------------------------------------------------------------


def pictures_with(folder: Path, table: str, header: str, labels: Sequence[float], *, inside: str = "images") -> Path:
    (folder / inside).mkdir(parents=True)
    lines = [header] if header else []
    mark = "," if "," in header else " "
    for i, label in enumerate(labels):
        cv2.imwrite(str(folder / inside / f"img{i}.jpg"), make.frame(label))
        lines.append(mark.join((f"img{i}.jpg", str(label), "0.25")[: 2 if not header else header.count(",") + 1]))
    (folder / table).write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("inside", ["images", "frames", ""])
@pytest.mark.parametrize(("table", "header"), [("labels.csv", "filename,steering,throttle"), ("data.txt", "")])
def test_a_table_of_pictures_and_steering(inside: str, table: str, header: str, tmp_path: Path) -> None:
    folder = pictures_with(tmp_path / "d", table, header, ANGLES, inside=inside)
    drive = read(folder)
    assert (drive.kind, len(drive), drive.id) == ("picture-csv", COUNT, f"d/{Path(table).stem}")
    assert drive.labels["steering"].tolist() == pytest.approx(ANGLES)
    assert drive.labels["throttle"].tolist() == (
        [0.25] * COUNT if header else pytest.approx([np.nan] * COUNT, nan_ok=True)
    )
    assert drive.names[:2] == ("img0.jpg", "img1.jpg") and drive.skipped == {}


def test_rows_and_pictures_of_a_table_need_not_be_complete(tmp_path: Path) -> None:
    folder = pictures_with(tmp_path / "d", "labels.csv", "image,angle_deg,time", [0.0] * 4)
    lines = ["image,angle_deg,time", "img0.jpg,-12.5,0", "gone.jpg,0,0.05", "images/img3.jpg,12.5,0.1", ",1,0.15"]
    (folder / "labels.csv").write_text("\n".join([*lines, "C:\\x\\img2.jpg,oops,0.2"]))
    drive = read(folder, csv_steering="angle_deg", positive="left")
    assert drive.names == ("img0.jpg", "img3.jpg") and drive.labels["steering"].tolist() == [0.5, -0.5]
    assert drive.skipped == {"missing image": 1, "row without an image": 1, "label is not a number": 1}
    assert drive.time_s.tolist() == pytest.approx([0, 0.1]) and drive.full_scale_deg == 25.0


def test_a_table_that_climbs_out_is_refused(tmp_path: Path) -> None:
    folder = pictures_with(tmp_path / "d", "labels.csv", "filename,steering", [0.1])
    (folder / "labels.csv").write_text("filename,steering\n../../secret.jpg,0.1\n")
    told: list[str] = []
    (drive,) = open_drives([folder], ReaderOptions(), told=told.append)
    assert drive.kind == "images" and "outside of the drive" in told[0]
    with pytest.raises(DriveError, match="outside of the drive"):
        read(folder / "labels.csv")


def test_a_table_without_a_steering_says_what_it_lacks(tmp_path: Path) -> None:
    folder = pictures_with(tmp_path / "d", "labels.csv", "filename,weather", [0.1] * 3)
    told: list[str] = []
    (drive,) = open_drives([folder], ReaderOptions(), told=told.append)
    assert drive.kind == "images" and len(told) == 1
    assert (
        "labels.csv: none of the columns filename, weather is known; name the right one with --csv-steering" in told[0]
    )


def test_a_row_of_a_catalog_keeps_what_json_holds(tmp_path: Path) -> None:
    """A factor of one changes no bit."""
    tub = make.write_tub(tmp_path / "tub", COUNT)
    rows = [json.loads(line) for name in ("0", "1") for line in (tub / f"catalog_{name}.catalog").open()]
    assert read(tub).labels["steering"].tolist() == [float(np.float32(row["user/angle"])) for row in rows]
