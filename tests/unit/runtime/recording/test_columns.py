"""Labels by the name of their column: steering and throttle always, what else is asked for beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions


def read(path: Path, *labels: str) -> Drive:
    return open_drives([path], ReaderOptions(labels=labels))[0]


def test_a_column_of_a_tub(tmp_path: Path) -> None:
    records = {i: {"user/brake": i / 100, "imu/gyr_z": -float(i)} for i in range(39)}
    tub = make.write_tub(tmp_path / "tub", records={**records, 20: {"user/brake": "hard", "imu/gyr_z": 2}})
    drive = read(tub, "brake", "imu/gyr_z", "throttle")
    assert list(drive.labels) == ["steering", "throttle", "brake", "imu/gyr_z"]
    assert {values.dtype for values in drive.labels.values()} == {np.dtype(np.float32)}
    assert drive.labels["brake"][5] == np.float32(0.05) and drive.labels["imu/gyr_z"][5] == -5.0
    # No number, and no value at all.
    assert np.flatnonzero(np.isnan(drive.labels["brake"])).tolist() == [20, 39]
    assert not drive.has("brake") and drive.has("throttle")
    some = drive.taken(np.array([5, 7]))
    assert some.labels["brake"].tolist() == [np.float32(0.05), np.float32(0.07)] and some.has("brake")
    assert list(read(tub).labels) == ["steering", "throttle"]


def test_a_column_of_a_log_and_of_a_csv(tmp_path: Path) -> None:
    log = make.write_udacity(tmp_path / "log", count=4)
    assert read(log, "speed", "brake").labels["speed"].tolist() == [np.float32(20.1)] * 4
    video = make.write_video(tmp_path / "clip.avi", count=3)
    (tmp_path / "clip.csv").write_text("frame,steering,brake\n0,0.5,0.25\n1,-0.5,none\n2,0.5,1\n")
    assert read(video, "brake").labels["brake"].tolist() == pytest.approx([0.25, np.nan, 1.0], nan_ok=True)


def test_what_a_recording_does_not_have_is_no_label(tmp_path: Path) -> None:
    drive = read(make.write_tub_v1(tmp_path / "tub"), "brake")
    assert np.isnan(drive.labels["brake"]).all() and "no numbers in a column 'brake'" in drive.notes
    with pytest.raises(UsageError, match=r"--label brake: for drives of the kind tub-v2, .*, found video"):
        read(make.write_video(tmp_path / "v" / "a.avi"), "brake")
