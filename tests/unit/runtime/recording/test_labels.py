"""What a recording says of steering and time, to the edge of each rule."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base import reading
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.recording.drive import NOMINAL_RATE_HZ, Drive
from sepilot_runtime.recording.format import Format
from sepilot_runtime.recording.frames import ImageFrames, VideoInfo, video_info
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ANGLE_PATTERN, DriveFilter, ReaderOptions
from sepilot_runtime.recording.pictures import read_pictures
from sepilot_runtime.recording.places import Folder
from sepilot_runtime.recording.rows import Rows
from sepilot_runtime.recording.tables import TIME, Table
from sepilot_runtime.recording.time_stamps import usable_time
from sepilot_runtime.recording.tubs import TUB_V1, TUB_V2, _number
from sepilot_runtime.recording.udacity import _absolute, _time
from sepilot_runtime.recording.videos import FRAME, _pairs, _seconds, csv_beside
from sepilot_runtime.source.opening import open_source

HERE = Path("table.csv")


def read(path: Path, **options: object) -> Drive:
    (drive,) = open_drives([path], ReaderOptions(**options))  # type: ignore[arg-type]
    return drive


# --- Rows -----------------------------------------------------------------------------------------------------------


def collected(*labels: float | None, **more: float) -> tuple[list[float], dict[str, int]]:
    rows = Rows(Path("d"), ReaderOptions())
    rows.add("first", -1, steering=0.25)
    for i, label in enumerate(labels):
        rows.add(str(i), i, steering=label, **more)  # type: ignore[arg-type]
    drive = rows.drive("tub", ImageFrames, full_scale_deg=25.0)
    return drive.labels["steering"].tolist()[1:], dict(drive.skipped)


def test_a_label_beyond_its_range_by_rounding_is_clipped() -> None:
    labels, skipped = collected(1.0, -1.0, 1.0000005, -1.0000005, 0.125)
    assert labels == [1.0, -1.0, 1.0, -1.0, 0.125] and not skipped


def test_a_label_beyond_its_range_is_no_label() -> None:
    labels, skipped = collected(1.00001, -1.00001, 1.5, 2.0, math.nan, math.inf, -math.inf)
    assert labels == [] and skipped == {"label out of range": 4, "label is not a number": 3}


def test_rows_without_a_label_are_left_out_where_others_have_one() -> None:
    assert collected(None, 0.5, None) == ([0.5], {"row without a label": 2})
    rows = Rows(Path("d"), ReaderOptions())
    rows.add("a", 0, throttle=0.4, camera=-1, time_s=3.0)
    rows.add("b", 1)
    drive = rows.drive("tub", ImageFrames, full_scale_deg=25.0, name="n", notes=("said",))
    assert drive.labels["throttle"].tolist()[0] == pytest.approx(0.4) and math.isnan(drive.labels["throttle"][1])
    assert drive.camera.tolist() == [-1, 0] and drive.names == ("a", "b") and drive.rows.tolist() == [0, 1]
    assert (drive.id, drive.kind, drive.notes[0], drive.has("steering")) == ("n", "tub", "said", False)
    assert len(drive.frames) == 2 and not drive.skipped


def test_what_was_skipped_is_counted_and_told_where_nothing_is_left() -> None:
    rows = Rows(Path("d"), ReaderOptions())
    rows.skip("missing image")
    rows.skip("broken JSON", 3)
    rows.add("x", 0, steering=7.0)
    with pytest.raises(DriveError, match=r"d: no usable frame in this tub drive \(3 broken JSON, 1 missing image, 1 l"):
        rows.drive("tub", ImageFrames, full_scale_deg=25.0)
    with pytest.raises(DriveError, match=r"\(it is empty\)"):
        Rows(Path("d"), ReaderOptions()).drive("tub", ImageFrames, full_scale_deg=25.0)


# --- Time -----------------------------------------------------------------------------------------------------------


def usable(*stamps: float, cameras: bool = False) -> tuple[list[float], list[str]]:
    time_s, notes = usable_time(np.array(stamps, float), several_cameras=cameras)
    return time_s.tolist(), notes


def steady(count: int, step_s: float = 0.1, start_s: float = 100.0) -> list[float]:
    return [start_s + step_s * i for i in range(count)]


def test_seconds_count_from_the_first_frame() -> None:
    assert usable(*steady(5))[0] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4]) and usable(*steady(5))[1] == []
    assert usable(7.0) == ([0.0], [])
    assert usable(math.nan) == ([0.0], [])


@pytest.mark.parametrize(
    ("step_s", "taken"), [(0.0049, False), (0.00501, True), (0.05, True), (0.4999, True), (0.501, False)]
)
def test_a_rate_from_2_to_200_hz_is_a_cameras(step_s: float, taken: bool) -> None:
    time_s, notes = usable(*steady(40, step_s))
    assert time_s[1] == pytest.approx(step_s if taken else 1 / NOMINAL_RATE_HZ)
    assert notes == ([] if taken else ["time stamps cannot be used: 20 Hz assumed"])


def test_up_to_one_stamp_in_a_hundred_may_be_missing() -> None:
    stamps = steady(100)
    stamps[40] = math.nan
    time_s, notes = usable(*stamps)
    assert time_s == pytest.approx([0.1 * i for i in range(100)])
    assert notes == ["1 frames have no time stamp: put between their neighbours"]
    stamps[50] = math.nan
    time_s, notes = usable(*stamps)
    assert time_s[-1] == pytest.approx(99 / 20) and notes == ["no time stamps: 20 Hz assumed"]


def test_stamps_that_fall_more_often_than_one_in_a_hundred_are_none() -> None:
    stamps = steady(301)
    for place in (50, 100, 150):
        stamps[place] -= 0.15
    time_s, notes = usable(*stamps)
    assert notes == ["the clock was set back, 3x: joined there"] and time_s[-1] > 29.9
    stamps[200] -= 0.15
    assert usable(*stamps)[1] == ["time stamps cannot be used: 20 Hz assumed"]
    # A short drive may have one.
    short = [*steady(5), *steady(5, start_s=50.0)]
    time_s, notes = usable(*short)
    assert time_s == pytest.approx([0.1 * i for i in range(10)])
    assert notes == ["the clock was set back, 1x: joined there"]
    assert usable(0, 0.1, 0, 0.1, 0, 0.1)[1] == ["time stamps cannot be used: 20 Hz assumed"]


def test_ten_minutes_are_a_pause_and_more_is_another_session() -> None:
    pause = [*steady(5, 0.125, 0.0), *steady(5, 0.125, 600.5)]
    assert usable(*pause) == (pause, [])
    other = [*steady(5, 0.125, 0.0), *steady(5, 0.125, 600.625)]
    time_s, notes = usable(*other)
    assert time_s == [0.125 * i for i in range(10)]
    assert notes == ["over 10 minutes between two frames (a new session, or the clock was set), 1x: joined there"]


def test_a_wild_stamp_is_far_from_both_neighbours() -> None:
    stamps = steady(10, 0.125, 0.0)
    stamps[4] = 1e6
    time_s, notes = usable(*stamps)
    assert time_s == [0.125 * i for i in range(10)]
    assert notes == ["1 frames have a time stamp far from all others: put between their neighbours"]


def test_stamps_that_stand_still_are_told_unless_cameras_share_them() -> None:
    stamps = [0.0, 0.125, 0.125, 0.25, 0.375, 0.375]
    assert usable(*stamps) == (stamps, ["2 frames have the time stamp of the one before"])
    assert usable(*stamps, cameras=True) == (stamps, [])
    assert usable(5, 5, 5)[1] == ["time stamps cannot be used: 20 Hz assumed"]


def test_a_rate_to_its_very_edges() -> None:
    assert usable(0.0, 0.5, 1.0) == ([0.0, 0.5, 1.0], []) and usable(0.0, 0.005) == ([0.0, 0.005], [])
    # Stamps that stand still say nothing of the rate.
    stamps = [0.0, 0.0, 0.0, 0.125, 0.125, 0.125, 0.25]
    assert usable(*stamps, cameras=True) == (stamps, [])


def test_ten_minutes_to_and_fro_are_no_wild_stamp() -> None:
    _, notes = usable(0.0, 0.125, 0.25, 600.25, 0.25, 0.375)
    assert notes == ["the clock was set back, 1x: joined there"]


@pytest.mark.parametrize(
    ("cameras", "notes"), [((0, -1, 1), ()), ((0, 0, 0), ("4 frames have the time stamp of the",))]
)
def test_cameras_that_share_a_stamp(cameras: tuple[int, ...], notes: tuple[str, ...]) -> None:
    rows = Rows(Path("d"), ReaderOptions())
    for i in range(6):
        rows.add(str(i), i, time_s=0.125 * (i // 3), steering=0.0, throttle=0.5, camera=cameras[i % 3])
    found = rows.drive("udacity", ImageFrames, full_scale_deg=25.0).notes
    assert len(found) == len(notes) and all(a.startswith(b) for a, b in zip(found, notes, strict=True))


def test_duration_pauses_and_rate() -> None:
    rows = Rows(Path("d"), ReaderOptions())
    for i, t in enumerate((0.0, 0.25, 0.5, 1.5, 1.75, 3.75)):
        rows.add(str(i), i, time_s=t, steering=0.0)
    drive = rows.drive("tub", ImageFrames, full_scale_deg=25.0)
    assert drive.pauses_s.tolist() == [2.0] and drive.duration_s == 1.75 and drive.rate_hz == 4.0
    assert drive.taken(np.array([2])).rate_hz == NOMINAL_RATE_HZ
    assert drive.taken(np.array([2, 3, 4])).duration_s == 1.25
    assert drive.taken(np.array([], np.int64)).duration_s == 0.0


def test_filters_to_their_edges() -> None:
    rows = Rows(Path("d"), ReaderOptions())
    throttles = (0.05, 0.06, math.nan, 0.5)
    for i, throttle in enumerate(throttles):
        rows.add(str(i), i, time_s=0.25 * i, steering=0.1 * i, throttle=throttle, camera=i % 2)
    drive = rows.drive("tub", ImageFrames, full_scale_deg=25.0)

    def names(**wanted: float) -> tuple[str, ...]:
        return drive.filtered(DriveFilter(**wanted)).names  # type: ignore[arg-type]

    assert names(min_throttle=float(np.float32(0.05))) == ("1", "3")
    assert names(from_s=0.25, to_s=0.75) == ("1", "2")
    assert names(first=1, last=2) == ("1", "2") and names(first=0) == ("0", "1", "2", "3")
    with pytest.raises(DriveError, match=r"after from_s=0\.5, to_s=0\.5; the drive has 4 frames"):
        names(from_s=0.5, to_s=0.5)
    backwards = drive.taken(np.array([3, 1]))
    assert backwards.names == ("3", "1") and backwards.rows.tolist() == [3, 1] and backwards.camera.tolist() == [1, 1]


# --- Donkeycar tubs -------------------------------------------------------------------------------------------------


def test_a_number_is_the_first_key_that_holds_one() -> None:
    assert _number({"a": 3, "b": 4.5}, "a", "b") == 3.0 and _number({"b": 4.5}, "a", "b") == 4.5
    assert _number({"a": "3", "b": 2}, "a", "b") == 2.0 and _number({"a": True, "b": 2}, "a", "b") == 2.0
    assert math.isnan(_number({"a": 10**400}, "a")) and math.isnan(_number({"a": 1e300}, "a"))
    assert _number({"a": -9e299}, "a") == -9e299 and math.isnan(_number({}, "a"))


def test_what_makes_a_tub(tmp_path: Path) -> None:
    def is_one(known: Format) -> bool:
        return [part.path for part in known.find(Folder.at(tmp_path))] == [tmp_path]

    manifest = tmp_path / "manifest.json"
    assert not is_one(TUB_V2) and not is_one(TUB_V1)
    manifest.write_text('{"seed": 1}')
    assert not is_one(TUB_V2)
    (tmp_path / "catalog_0.catalog").write_text("")
    assert is_one(TUB_V2)
    (tmp_path / "catalog_0.catalog").unlink()
    manifest.write_text('{"paths": []}')
    assert is_one(TUB_V2)
    manifest.unlink()
    manifest.mkdir()
    assert not is_one(TUB_V2)
    (tmp_path / "catalog_0.catalog").write_text("")
    assert is_one(TUB_V2), "a manifest that was lost"
    (tmp_path / "record_1.json").write_text("{}")
    assert is_one(TUB_V1)


@pytest.mark.parametrize(
    ("written", "found"), [("0", 25.0), ("180", 180.0), ("181", 25.0), ("-5", 25.0), ('"18"', 25.0), ("0.5", 0.5)]
)
def test_a_recorded_full_scale_is_an_angle(written: str, found: float, tmp_path: Path) -> None:
    folder = make.write_tub(tmp_path / "tub", count=4)
    lines = (folder / "manifest.json").read_text().splitlines()
    lines[2] = f'{{"full_scale_deg": {written}}}'
    (folder / "manifest.json").write_text("\n".join(lines))
    assert read(folder).full_scale_deg == found


def test_a_damaged_line_of_the_manifest_costs_only_itself(tmp_path: Path) -> None:
    folder = make.write_tub(tmp_path / "tub", count=4, deleted=[1])
    lines = (folder / "manifest.json").read_text().splitlines()
    (folder / "manifest.json").write_text("\n".join([*lines[:2], "", "{oops", *lines[3:]]))
    assert len(read(folder)) == 3 and not read(folder).notes


def test_every_value_of_a_tubs_row_arrives(tmp_path: Path) -> None:
    folder = make.write_tub(
        tmp_path / "tub", count=40, deleted=[3], throttle=[i / 100 for i in range(40)], records={5: {"_index": True}}
    )
    catalog = folder / "catalog_0.catalog"
    catalog.write_text(catalog.read_text().replace("\n", "\n \t\n\n"))
    drive = read(folder)
    assert drive.labels["throttle"][10] == pytest.approx(0.11) and len(drive) == 39
    assert drive.skipped == {"deleted by the author": 1}
    assert drive.time_s[3:5] == pytest.approx([0.2, 0.25])


def test_records_of_an_old_tub_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = make.write_tub_v1(tmp_path / "old", count=12)
    (folder / "record_x.json").write_text("{}")
    (folder / f"record_{10**18}.json").write_text("{}")
    (folder / "record_5.json").write_text("{")
    drive = read(folder)
    assert drive.names == tuple(f"{i}_cam-image_array_.jpg" for i in range(12) if i != 5)
    assert drive.skipped == {"broken JSON": 1} and drive.full_scale_deg == 25.0
    assert drive.time_s.tolist() == pytest.approx([0.05 * i for i in range(12) if i != 5])
    assert drive.labels["throttle"].tolist() == pytest.approx([0.3] * 11)
    assert read(folder, full_scale_deg=30.0).full_scale_deg == 30.0


# --- Udacity's logs -------------------------------------------------------------------------------------------------


def test_a_stamp_in_a_name_is_utc_to_the_millisecond() -> None:
    assert _time("center_2016_12_01_13_30_48_287.jpg") == 1480599048.287
    assert math.isnan(_time("center_2016_13_01_13_30_48_287.jpg")) and math.isnan(_time("center_1.jpg"))


def test_paths_of_the_recording_machine() -> None:
    assert _absolute("/home/a.jpg") and _absolute("\\a.jpg") and _absolute("C:\\a.jpg") and _absolute("C:a.jpg")
    assert not _absolute("IMG/a.jpg") and not _absolute("IMG\\a.jpg") and not _absolute("a.jpg")


def log(folder: Path, *rows: str, header: str = "") -> Path:
    (folder / "IMG").mkdir(parents=True, exist_ok=True)
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("IMG/c.jpg", "IMG/l.jpg", "IMG/r.jpg", "c2.jpg", "sub/c3.jpg"):
        cv2.imwrite(str(folder / name), make.frame(0.0))
    (folder / "driving_log.csv").write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return folder


def test_a_picture_is_where_the_log_says_or_where_the_simulator_puts_it(tmp_path: Path) -> None:
    rows = ["IMG/c.jpg,,,0.1", "/elsewhere/c2.jpg,,,0.2", "sub\\c3.jpg,,,0.3", "D:\\x\\l.jpg,,,0.4", "gone.jpg,,,0.5"]
    drive = read(log(tmp_path / "log", *rows))
    assert drive.names == ("c.jpg", "c2.jpg", "c3.jpg", "l.jpg") and drive.skipped == {"missing image": 1}
    assert drive.labels["steering"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4]) and set(drive.camera.tolist()) == {
        0
    }


def test_side_cameras_are_asked_for_and_clipped(tmp_path: Path) -> None:
    folder = log(tmp_path / "log", "IMG/c.jpg,IMG/l.jpg,IMG/r.jpg,0.9,0.25,0,3")
    (centre,) = read(folder).names
    assert centre == "c.jpg"
    drive = read(folder, cameras="all")
    assert drive.names == ("c.jpg", "l.jpg", "r.jpg") and drive.camera.tolist() == [0, -1, 1]
    assert drive.labels["steering"].tolist() == pytest.approx([0.9, 1.0, 0.7])
    assert drive.labels["throttle"].tolist() == [0.25] * 3
    other = read(log(tmp_path / "b", "IMG/c.jpg,IMG/l.jpg,IMG/r.jpg,-0.9"), cameras="all", side_camera_correction=0.3)
    assert other.labels["steering"].tolist() == pytest.approx([-0.9, -0.6, -1.0])


def test_a_row_of_the_log_that_cannot_be_taken(tmp_path: Path) -> None:
    rows = [
        "IMG/c.jpg,,,0.1",
        "IMG/c.jpg,,,1.5",
        "IMG/c.jpg,,,1.0000005",
        "IMG/c.jpg,,,inf",
        ",,,0.2",
        "IMG/l.jpg,,,-1",
    ]
    drive = read(log(tmp_path / "log", *rows))
    assert drive.skipped == {
        "label out of range": 1, "label is not a number": 1, "row without an image": 1, "frame named a second time": 1,
    }  # fmt: skip
    assert drive.labels["steering"].tolist() == [1.0, -1.0]


def test_columns_by_name_in_any_order_and_case(tmp_path: Path) -> None:
    drive = read(log(tmp_path / "log", "0.1,IMG/c.jpg", header="Steering,CENTER"), cameras="all")
    assert drive.labels["steering"].tolist() == pytest.approx([0.1]) and drive.skipped == {}
    assert (
        read(log(tmp_path / "log", "0.1,IMG/c.jpg", header="steering,center"), full_scale_deg=16).full_scale_deg == 16
    )
    with pytest.raises(DriveError, match="column 'center' expected, found steering, left"):
        read(log(tmp_path / "log", "0.1,IMG/c.jpg", header="steering,left"))


# --- Video and CSV --------------------------------------------------------------------------------------------------


def degrees(*cells: str, name: str = "x", **options: object) -> tuple[list[float], str]:
    wanted = ReaderOptions(csv_steering=name, **options)  # type: ignore[arg-type]
    scale = wanted.full_scale(30.0)
    labels, note = Table(path=HERE, columns={name: list(cells)}).labels(wanted, scale, ())
    return [steering * scale for steering, _ in labels], note


@pytest.mark.parametrize(
    ("name", "cells", "factor", "unit"),
    [
        ("wheel", ("0.5", "-3.14"), math.degrees(1), "rad"),
        ("Wheel", ("0.5", str(math.pi)), math.degrees(1), "rad"),
        ("angle_rad", ("3.0",), math.degrees(1), "rad"),
        ("wheel", ("3.2",), 1.0, "deg"),
        ("x", ("3.2", "-1"), 1.0, "deg"),
        ("Degrees", ("0.5",), 1.0, "deg"),
        ("x", ("1.0", "-0.5", "oops"), 30.0, "full-scale"),
        ("x", ("", "oops"), 30.0, "full-scale"),
    ],
)
def test_a_unit_by_name_and_size(name: str, cells: tuple[str, ...], factor: float, unit: str) -> None:
    values, note = degrees(*cells, name=name)
    expected = [float(c) * factor if c and c != "oops" else math.nan for c in cells]
    assert values == pytest.approx(expected, nan_ok=True)
    assert note == f"steering read from column {name!r} in {unit}, + = right"


def test_a_unit_that_cannot_be_told() -> None:
    with pytest.raises(DriveError, match=r"column 'x' reaches 1\.01; say its unit with --csv-unit"):
        degrees("1.01", "-0.5")
    with pytest.raises(DriveError, match="reaches 3"):
        degrees("-3", name="steer")
    with pytest.raises(DriveError, match=r"reaches 3\.14159"):
        degrees(str(math.pi))
    assert degrees("2", csv_unit="rad")[0] == pytest.approx([math.degrees(2)])
    assert degrees("0.5", csv_unit="full-scale", full_scale_deg=20.0, positive="left")[0] == [-10.0]


def numbers(cells: list[str], frames: int, name: str = "frame", **options: object) -> tuple[list[int], str]:
    table = Table(path=HERE, columns={name: cells})
    info = VideoInfo(frames=frames, rate_hz=20.0, size=(0, 0))
    found, which, note = _pairs(table, info, ReaderOptions(**options))  # type: ignore[arg-type]
    assert which == list(range(len(cells)))
    return found, note


@pytest.mark.parametrize(
    ("cells", "frames", "base"),
    [
        (["0", "1", "2"], 3, 0),
        (["1", "2", "3"], 5, 1),
        (["2", "3", "4"], 4, 1),
        (["2", "3", "4"], 5, 0),
        (["2", "3", "oops"], 5, 0),
        (["0", "3"], 3, 0),
    ],
)
def test_frames_count_from_one_where_either_end_shows_it(cells: list[str], frames: int, base: int) -> None:
    expected = [int(c) - base if c.isdigit() else -1 for c in cells]
    assert numbers(cells, frames) == (expected, f"frames counted from {base}")


def test_a_frame_number_that_is_none() -> None:
    assert numbers(["0", "nan", "inf", "1e15", "-1e16", "7"], 9)[0] == [0, -1, -1, -1, -1, 7]
    assert numbers(["oops"], 9) == ([-1], "frames counted from 0")
    assert numbers(["4", "5"], 2, name="other") == ([0, 1], "no frame column: row after row is frame after frame")
    assert numbers(["4", "5"], 9, name="Frame_ID")[0] == [4, 5]
    assert numbers(["4", "5"], 9, name="other", csv_frame="other")[0] == [4, 5]


@pytest.mark.parametrize(
    ("largest", "divisor"),
    [("1e11", 1), ("1.1e11", 1e3), ("1e14", 1e3), ("1.1e14", 1e6), ("1e17", 1e6), ("1.1e17", 1e9), ("3.5", 1)],
)
def test_a_time_is_in_seconds_milli_micro_or_nanoseconds_by_its_size(largest: str, divisor: float) -> None:
    table = Table(path=HERE, columns={"steering": ["0", "0", "0"], "Time": ["0", largest, "x"]})
    found, notes = _seconds(table, ReaderOptions(), [0, 1, 2], [0, 1, 2], 20.0)
    assert found[:2].tolist() == [0.0, float(largest) / divisor] and math.isnan(found[2]) and notes == ()


def test_times_without_a_column() -> None:
    table = Table(path=HERE, columns={"x": ["1", "2"]})
    found, notes = _seconds(table, ReaderOptions(), [0, 30], [0, 1], 60.0)
    assert found.tolist() == [0.0, 0.5] and notes == ("no time column: 60 Hz by the video",)
    found, notes = _seconds(table, ReaderOptions(), [0, 30], [0, 1], 0.0)
    assert np.isnan(found).all() and len(found) == 2 and notes == ()
    found, _ = _seconds(table, ReaderOptions(csv_time="x"), [0, 30], [0, 1], 60.0)
    assert found.tolist() == [1.0, 2.0]


def test_a_column_by_the_first_name_that_is_known() -> None:
    columns = {"T": ["1"], "timestamp": ["2"], "Frame": ["3"]}
    table = Table(path=HERE, columns=columns)
    assert table.pick("", TIME, "--csv-time") == "timestamp"
    assert table.pick("", FRAME, "--csv-frame") == "Frame" and table.pick("T", FRAME, "") == "T"
    with pytest.raises(DriveError, match="column 'nope' expected, found T, timestamp, Frame"):
        table.pick("nope", TIME, "--csv-time")
    with pytest.raises(DriveError, match="none of the columns x is known; name the right one with --csv-time"):
        Table(path=HERE, columns={"x": []}).pick("", TIME, "--csv-time")


def test_what_lies_beside_a_video(tmp_path: Path) -> None:
    names = frozenset({"out-video-5.avi", "out-key-5.csv"})
    assert csv_beside("out-video-5.avi", frozenset({"out-video-5.avi"})) is None
    assert csv_beside("out-video-5.avi", names) == "out-key-5.csv"
    assert csv_beside("out-video-5.avi", names | {"out-video-5.csv"}) == "out-video-5.csv"


def test_rows_and_frames_that_have_no_partner_are_counted(tmp_path: Path) -> None:
    video = make.write_video(tmp_path / "clip.avi", count=6)
    (tmp_path / "clip.csv").write_text(
        "frame,steering,time\n0,0.5,0\n1,-0.5,0.05\n6,0.1,0.3\n-2,0.1,0.3\n3,0.25,0.15\n"
    )
    drive = read(video)
    assert drive.names == ("0", "1", "3") and drive.labels["steering"].tolist() == [0.5, -0.5, 0.25]
    assert drive.skipped == {"row names a frame that the video lacks": 2, "frame without a row": 3}
    assert drive.time_s.tolist() == pytest.approx([0, 0.05, 0.15]) and (drive.id, drive.full_scale_deg) == (
        "clip",
        30.0,
    )
    flipped = read(video, positive="left", full_scale_deg=15.0)
    assert flipped.labels["steering"].tolist() == [-0.5, 0.5, -0.25]
    assert flipped.notes[:2] == (
        "steering read from column 'steering' in full-scale, + = left",
        "frames counted from 0",
    )
    (tmp_path / "clip.csv").write_text("frame,steering\n2,0.5\n")
    assert read(video).names == ("2",)
    for text, lines in (("", 0), ("frame,steering\n", 1)):
        (tmp_path / "clip.csv").write_text(text)
        with pytest.raises(DriveError, match=f"a header and at least one row expected, found {lines} lines"):
            read(video)


# --- Pictures -------------------------------------------------------------------------------------------------------


def pictures(folder: Path, *names: str, **options: object) -> list[Drive]:
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in names]
    return read_pictures(folder, paths, ReaderOptions(**options))  # type: ignore[arg-type]


def test_more_than_half_of_the_names_make_a_labelled_drive(tmp_path: Path) -> None:
    labelled = ("a_1_45.png", "a_3_90.png", "a_2_135.png")
    (drive,) = pictures(tmp_path, *labelled, "photo.png", "sheet.png")
    assert drive.kind == "filename-angle" and drive.skipped == {"name without an angle": 2}
    assert drive.names == ("a_1_45.png", "a_2_135.png", "a_3_90.png") and drive.labels["steering"].tolist() == [
        -1.0,
        1.0,
        0.0,
    ]
    (plain,) = pictures(tmp_path, *labelled, "1.png", "2.png", "3.png")
    assert (plain.kind, plain.has("steering"), plain.notes, len(plain)) == (
        "images",
        False,
        ("no time stamps: 20 Hz assumed",),
        6,
    )


def test_drives_by_their_prefix(tmp_path: Path) -> None:
    drives = pictures(tmp_path, "b_0_90.png", "a_2_45.png", "a_1_90.png", "x.png", full_scale_deg=90.0)
    assert [d.id.rpartition("/")[2] for d in drives] == ["a", "b"]
    assert [d.labels["steering"].tolist() for d in drives] == [[0.0, -0.5], [0.0]] and drives[0].full_scale_deg == 90.0
    assert [dict(d.skipped) for d in drives] == [{"name without an angle": 1}, {}]


def test_a_last_number_that_only_counts_is_no_angle(tmp_path: Path) -> None:
    (drive,) = pictures(tmp_path, "a_1_10.png", "a_2_11.png", "a_3_12.png")
    assert drive.kind == "images" and drive.notes[0].startswith("the last number of the names counts frames")
    # Two in a row may be chance, and angles that only rise do not rise by one.
    assert pictures(tmp_path, "a_1_89.png", "a_2_90.png")[0].kind == "filename-angle"
    assert pictures(tmp_path, "a_1_50.png", "a_2_52.png", "a_3_53.png")[0].kind == "filename-angle"
    # The number before it comes again and again, for half of the pictures.
    assert pictures(tmp_path, "a_1_50.png", "a_1_60.png", "a_2_70.png", "a_2_75.png")[0].kind == "images"
    kept = pictures(tmp_path, "a_1_50.png", "a_1_60.png", "a_2_70.png", "a_3_75.png")[0]
    assert kept.kind == "filename-angle" and kept.skipped == {"second picture of a frame number": 1}


def test_a_pattern_of_ones_own_is_believed(tmp_path: Path) -> None:
    own = ANGLE_PATTERN + "()"
    (drive,) = pictures(tmp_path, "a_1_10.png", "a_1_11.png", "a_1_12.png", angle_pattern=own, angle_straight_deg=11.0)
    assert drive.has("steering") and drive.labels["steering"].tolist() == pytest.approx([-1 / 45, 0, 1 / 45])
    (drive,) = pictures(
        tmp_path, "a_1_x.png", "a_2_90.png", "a_3_45.png",
        angle_pattern=r"(?P<drive>.+)_(?P<frame>\d+)_(?P<angle>\w+)", positive="left",
    )  # fmt: skip
    assert drive.skipped == {"label is not a number": 1} and drive.labels["steering"].tolist() == [0.0, 1.0]


def test_frame_numbers_that_no_number_can_hold_count_as_none(tmp_path: Path) -> None:
    huge = "9" * 19
    (drive,) = pictures(tmp_path, "a_1_45.png", f"a_{huge}_90.png", f"a_{'8' * 18}_135.png")
    assert drive.names == (f"a_{huge}_90.png", "a_1_45.png", f"a_{'8' * 18}_135.png")


def test_a_video_without_labels_has_its_own_rate(tmp_path: Path) -> None:
    drive = read(make.write_video(tmp_path / "road.avi", count=7, rate_hz=40.0))
    assert drive.time_s.tolist() == pytest.approx([i / 40 for i in range(7)]) and drive.full_scale_deg == 25.0
    assert drive.names == tuple("0123456") and drive.skipped == {}


def test_frames_that_a_video_promises_and_lacks_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = make.write_video(tmp_path / "road.avi", count=7)
    promising = VideoInfo(frames=9, rate_hz=20.0, size=(48, 64))
    monkeypatch.setattr("sepilot_runtime.recording.videos.video_info", lambda _: promising)
    with open_source(str(video)) as source:
        assert len(list(source)) == 7 and source.lost == {"frame does not decode": 2}


@pytest.mark.parametrize(
    ("name", "promised", "found"), [("a.avi", 7, 7), ("a.avi", -1, 7), ("a.avi", 1e9, 7), ("a.mkv", 9, 7)]
)
def test_only_an_index_that_can_be_true_is_believed(
    name: str, promised: float, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have to be gone through."""
    video = make.write_video(tmp_path / name, count=7)

    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    said = {cv2.CAP_PROP_FRAME_COUNT: promised}
    fake = SimpleNamespace(get=lambda key: said.get(key, capture.get(key)), grab=capture.grab, release=capture.release)
    monkeypatch.setattr("sepilot_runtime.recording.frames.video_file", lambda path: fake)
    assert video_info(video).frames == found


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that nobody may read is a tub's all the same: what is wrong with it must be told."""
    folder = make.write_tub(tmp_path / "tub", count=4)

    def locked(*_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reading, "open_regular", locked)
    assert list(TUB_V2.find(Folder.at(folder)))
    with pytest.raises(DriveError, match=r"manifest\.json: cannot be read: Permission denied"):
        read(folder)
