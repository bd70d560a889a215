"""Recordings made to hang, exhaust or lead astray whoever reads them: one line, or skipped and counted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drive_factory import write_tub
from model_factory import write_frames
from refusal import refused_at_once
from sepilot_runtime.base.errors import DriveError, OutputError
from sepilot_runtime.output.rotation import RotatingLinesSink
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_runtime.source.opening import open_source

COUNT = 12


def driven(tub: Path) -> int:
    with open_source(str(tub)) as source:
        return sum(1 for _ in source)


def trained(tub: Path) -> int:
    (drive,) = open_drives([tub], ReaderOptions())
    frames = 0
    for row in range(len(drive)):
        try:
            drive.read(row)
            frames += 1
        except DriveError:
            continue
    return frames


READERS: list[Callable[[Path], int]] = [driven, trained]


def manifest_with(**changes: Any) -> Callable[[Path], None]:
    def change(tub: Path) -> None:
        path = tub / "manifest.json"
        *lines, last = path.read_text().splitlines()
        path.write_text("\n".join([*lines, json.dumps({**json.loads(last), **changes})]) + "\n")

    return change


def rows_with(text: Callable[[str], str]) -> Callable[[Path], None]:
    """Change the first row of the first catalog."""

    def change(tub: Path) -> None:
        path = next(tub.glob("*.catalog"))
        first, *lines = path.read_text().splitlines()
        path.write_text("\n".join([text(first), *lines]) + "\n")

    return change


def first_image(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(tub: Path) -> None:
        image = sorted((tub / "images").iterdir())[0]
        image.unlink()
        make(image)

    return change


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(16 << 30)


def in_place_of(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(tub: Path) -> None:
        path = next(tub.glob(name))
        path.unlink()
        make(path)

    return change


BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 30_000, 30_000) + b"\x08\x02\0\0\0" + b"IEND\xaeB`\x82"


def linked_out(tub: Path) -> None:
    shutil.move(tub / "images", tub.parent / "elsewhere")
    (tub / "images").symlink_to(tub.parent / "elsewhere")


REFUSED = {
    "paths is a text": manifest_with(paths="catalog_0.catalog"),
    "paths hold numbers": manifest_with(paths=[1]),
    "a catalog outside": manifest_with(paths=["../catalog_0.catalog"]),
    "an absolute catalog": manifest_with(paths=["/etc/passwd"]),
    "deleted is a number": manifest_with(deleted_indexes=3),
    "deleted holds lists": manifest_with(deleted_indexes=[[1], {}]),
    "endless manifest": in_place_of("manifest.json", sparse),
    "endless catalog": in_place_of("*.catalog", sparse),
    "images lie elsewhere": linked_out,
}

READ_ALL_THE_SAME = {
    "deep lists": in_place_of("manifest.json", lambda path: path.write_text('{"paths": ' + "[" * 100_000)),
    "no catalog of that name": manifest_with(paths=["a\0b"]),
}

LEFT_OUT = {
    "a row of megabytes": rows_with(lambda row: row[:-1] + ', "x": "' + "y" * (8 << 20) + '"}'),
    "a row of brackets": rows_with(lambda row: "[" * 100_000),
    "a row that is a list": rows_with(lambda row: "[1, 2]"),
    "an index that is a list": rows_with(lambda row: json.dumps({"_index": [1], "cam/image_array": 7})),
    "a number of thousands of digits": rows_with(lambda row: row[:-1] + ', "x": ' + "9" * 10_000 + "}"),
    "a pipe as image": first_image(os.mkfifo),
    "an endless image": first_image(sparse),
    "a folder as image": first_image(Path.mkdir),
    "an image bomb": first_image(lambda path: path.write_bytes(BOMB)),
    "a dangling image": first_image(lambda path: path.symlink_to("nothing")),
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_a_hostile_tub_is_refused_in_one_line_at_once(
    read: Callable[[Path], int], change: Callable[[Path], None], tmp_path: Path
) -> None:
    tub = write_tub(tmp_path / "tub", COUNT)
    change(tub)
    refused_at_once(lambda: read(tub), DriveError, within_s=5, most_bytes=64 << 20)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", [*LEFT_OUT, *READ_ALL_THE_SAME])
def test_one_hostile_row_or_image_is_left_out_and_a_manifest_that_says_nothing_costs_no_row_nor_time(
    read: Callable[[Path], int], name: str, tmp_path: Path
) -> None:
    tub = write_tub(tmp_path / "tub", COUNT)
    (LEFT_OUT | READ_ALL_THE_SAME)[name](tub)
    start = time.monotonic()
    assert read(tub) == COUNT - (name in LEFT_OUT)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_a_catalog_that_is_no_file_is_as_good_as_missing(make: Callable[[Path], None], tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "tub", COUNT)
    catalogs = len(list(tub.glob("*.catalog")))
    in_place_of("*.catalog", make)(tub)
    with open_source(str(tub)) as source:
        assert sum(1 for _ in source) < COUNT and source.lost["missing catalog"] == 1 < catalogs
    assert 0 < trained(tub) < COUNT


@pytest.mark.parametrize("name", ["video.mp4", "picture.png"])
@pytest.mark.parametrize("make", [os.mkfifo, sparse, lambda path: path.symlink_to("/dev/zero")])
def test_a_special_file_as_source_is_one_line_at_once(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / name
    make(path)
    start = time.monotonic()
    with pytest.raises(DriveError) as caught:
        driven(path)
    assert "\n" not in str(caught.value)
    # Training's reader looks at pictures one by one, when they are needed.
    with contextlib.suppress(DriveError):
        assert trained(path) == 0
    assert time.monotonic() - start < 5


def test_pipes_beside_pictures_are_left_out(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", 3)
    os.mkfifo(folder / "4.png")
    assert driven(folder) == trained(folder) == 3


def test_lines_are_not_appended_to_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "drive.jsonl")
    with pytest.raises(OutputError, match="a file expected, found a pipe"):
        RotatingLinesSink(str(tmp_path / "drive.jsonl"))
