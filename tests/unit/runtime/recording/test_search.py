"""What a search for recordings finds, what it leaves out, and that it says so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import DriveError
from sepilot_runtime.cli import main
from sepilot_runtime.recording import opening
from sepilot_runtime.recording.format import Format
from sepilot_runtime.recording.opening import meet, open_apart, open_drives
from sepilot_runtime.recording.options import ReaderOptions

PLAIN = ReaderOptions()


def found(path: Path) -> tuple[list[str], list[str]]:
    """Names of the drives, and the lines of what was left out and may be missed."""
    told: list[str] = []
    return [drive.id for drive in open_drives([path], PLAIN, told=told.append)], told


def all_deleted(folder: Path) -> None:
    make.write_tub(folder, 4, deleted=range(4))


def degrees(folder: Path) -> None:
    make.write_tub(folder, 12, records={i: {"user/angle": 20.0} for i in range(12)})


def linked_out(folder: Path) -> None:
    make.write_tub(folder, 4)
    shutil.move(folder / "images", folder.parent.parent / "elsewhere")
    (folder / "images").symlink_to(folder.parent.parent / "elsewhere")


def no_video(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.mp4").write_text("nothing")


@pytest.mark.parametrize("spoil", [all_deleted, degrees, linked_out, no_video])
def test_one_bad_recording_is_left_out_with_a_line(spoil: object, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    make.write_tub(mine / "good", 4)
    spoil(mine / "bad")  # type: ignore[operator]
    names, told = found(mine)
    assert names == ["good"] and len(told) == 1 and told[0].startswith(str(mine / "bad")) and "\n" not in told[0]
    # Named by itself, or where there is no other, it is an error with the same words.
    with pytest.raises(DriveError) as alone:
        open_drives([mine / "bad"], PLAIN)
    assert str(alone.value) == told[0]


def test_several_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        all_deleted(tmp_path / name)
    with pytest.raises(DriveError, match=r"^.*/a: no usable frame .* \(and 2 more that cannot be read\)$"):
        open_drives([tmp_path], PLAIN)


def test_pictures_elsewhere_in_a_folder_of_drives_are_none(tmp_path: Path) -> None:
    """`~/mycar` holds data/ and models/, with a picture of the training's loss in it."""
    make.write_tub(tmp_path / "data", 4)
    (tmp_path / "models").mkdir()
    cv2.imwrite(str(tmp_path / "models" / "pilot.png"), make.frame(0.0))
    assert found(tmp_path) == (["data"], [])
    line = {other.path: other.reason for other in meet([tmp_path], PLAIN)[1]}[tmp_path / "models"]
    assert line == "images without labels beside recordings with labels"
    assert len(open_drives([tmp_path / "models"], PLAIN)) == 1


def test_training_leaves_out_a_video_without_labels_and_says_so(tmp_path: Path) -> None:
    make.write_tub(tmp_path / "tub", 4)
    make.write_video(tmp_path / "road.avi")
    assert found(tmp_path)[0] == ["road.avi", "tub"]
    told: list[str] = []
    assert [d.id for d in open_apart([tmp_path], [], PLAIN, told=told.append)[0]] == ["tub"]
    assert told == [f"{tmp_path}/road.avi: video without labels beside recordings with labels"]
    # One that was named is not left out: training says why it cannot use it.
    assert len(open_apart([tmp_path / "tub", tmp_path / "road.avi"], [], PLAIN)[0]) == 2


@pytest.mark.parametrize(("below", "seen"), [("a/b/c/d", True), ("a/b/c/d/e", False)])
def test_how_deep_was_looked_is_said(below: str, seen: bool, tmp_path: Path) -> None:
    make.write_tub(tmp_path / below, 4)
    if seen:
        assert found(tmp_path)[0] == ["d"]
        return
    with pytest.raises(DriveError, match=r"found none \(looked 4 folders deep\)"):
        open_drives([tmp_path], PLAIN)
    make.write_tub(tmp_path / "near", 4)
    lines = [str(other) for other in meet([tmp_path], PLAIN)[1]]
    assert lines == [f"{tmp_path}/{below}: not looked into: more than 4 folders deep"]


@pytest.mark.parametrize("name", ["labels.h5", "data.txt", "angles.npy"])
def test_a_table_that_no_reader_knows_is_named(name: str, tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), make.frame(0.0))
    (tmp_path / name).write_bytes(b"\x89HDF")
    names, told = found(tmp_path)
    assert len(names) == 1 and told == [f"{tmp_path / name}: no reader knows it"]


def test_a_folder_that_cannot_be_listed_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    make.write_tub(tmp_path / "good", 4)
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def locked(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    assert found(tmp_path) == (["good"], [f"{tmp_path}/locked: cannot be read: Permission denied"])


def test_the_verb_lists_everything_and_why_it_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # However long the path, it is not broken.
    make.write_tub(tmp_path / "good", 8, throttle=[0.0] * 4 + [0.5] * 4)
    make.write_tub(tmp_path / "still", 8, throttle=0.0)
    all_deleted(tmp_path / "bad")
    for name in ("a.log", "b.log", "README.md"):
        (tmp_path / name).write_text("words")
    assert main(["drives", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in document["drives"]] == ["good", "still"]
    assert {Path(met["path"]).name: met["reason"].rpartition("/")[2] for met in document["left_out"]} == {
        "bad": "bad: no usable frame in this tub-v2 drive (4 deleted by the author)",
        "a.log": "no reader knows it (and 1 more .log)",
        "README.md": "no reader knows it",
    }
    assert main(["drives", str(tmp_path), "--min-throttle", "0.1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "left out" in told and "still: no frame is left after min_throttle=0.1" in told
    assert main(["drives", str(tmp_path / "still"), "--min-throttle", "0.1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_two_formats_know_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.write_angle_names(tmp_path / "named")
    make.write_video(tmp_path / "road.mp4")
    known = [*opening.formats()]

    def other(known: Format) -> Format:
        """Takes the same files for recordings of another name."""
        return replace(known, read=lambda *a: [replace(d, id=f"{d.id}-again") for d in known.read(*a)])

    before = [d.id for d in open_drives([tmp_path], ReaderOptions())]
    monkeypatch.setattr(opening, "formats", lambda: iter([*known, *map(other, known)]))
    assert before and [d.id for d in open_drives([tmp_path], ReaderOptions())] == before
