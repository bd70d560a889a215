"""Sets of labelled pictures in every format become the same labels, sides and groups."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

import drive_factory
import set_factory as make
from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.cli import main
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import meet, open_drives
from sepilot_runtime.recording.options import ReaderOptions
from sepilot_train.base.contact_sheet import BOX_COLORS
from set_factory import NAMES, Scene

CLASS = ReaderOptions(labels=("class",))
PLAIN = ReaderOptions()


@pytest.fixture(scope="module")
def made() -> list[Scene]:
    return make.scenes(8, np.random.default_rng(3))


def read(path: Path, options: ReaderOptions = PLAIN) -> list[Drive]:
    return open_drives([path], options)


def notes_of(drive: Drive) -> str:
    return "\n".join(drive.notes)


def boxes_of(drive: Drive, index: int) -> set[tuple[str, int, int, int, int]]:
    """In pixels with their names, as the scene has them."""
    height, width = drive.read(index).shape[:2]
    names = drive.label_names["boxes"]
    rows = drive.labels["boxes"][index].astype(float)
    rows = rows[rows[:, 0] >= 0]
    edges = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for _, x, y, w, h in rows]
    return {
        (names[int(row[0])], *(round(e * side) for e, side in zip(edge, (width, height) * 2, strict=True)))
        for row, edge in zip(rows, edges, strict=True)
    }  # type: ignore[misc]


def require_scenes(drive: Drive, made: Sequence[Scene]) -> None:
    assert len(drive) == len(made) and drive.labels["boxes"].dtype == np.float32
    assert drive.groups == drive.names and drive.time_s.tolist() == (np.arange(len(made)) / 20).tolist()
    for i, scene in enumerate(made):
        assert np.array_equal(drive.read(i), scene.picture) and boxes_of(drive, i) == set(scene.boxes)
        first = drive.labels["boxes"][i, 0]
        # Somebody looked and found nothing: that is known, and no row of NaN.
        assert scene.boxes or (first[0] == -1 and np.isnan(first[1:]).all())


FORMATS: list[tuple[str, Callable[[Path, list[Scene]], Path]]] = [
    ("voc", make.write_voc),
    ("voc", make.write_voc_beside),
    ("coco", make.write_coco),
    ("yolo", lambda path, made: make.write_yolo(path, {"train": made})),
]


@pytest.mark.parametrize(("kind", "write"), FORMATS)
def test_boxes_are_the_same_in_every_format(
    kind: str, write: Callable[[Path, list[Scene]], Path], made: list[Scene], tmp_path: Path
) -> None:
    assert any(not scene.boxes for scene in made) and any(len(scene.boxes) > 1 for scene in made)
    path = write(tmp_path / "set", made)
    drives, left_out = meet([path], ReaderOptions(labels=("boxes",)))
    assert [drive.kind for drive in drives] == [kind] and not left_out
    require_scenes(drives[0], made)
    assert np.isnan(drives[0].labels["steering"]).all()
    # Nobody has to ask: such files can be nothing else.
    require_scenes(read(path)[0], made)
    some = drives[0].taken(np.array([3, 1]))
    assert some.groups == (drives[0].groups[3], drives[0].groups[1]) and boxes_of(some, 1) == set(made[1].boxes)


def test_lists_of_voc_give_the_sides(made: list[Scene], tmp_path: Path) -> None:
    lists = {"train": [0, 1, 2, 3], "val": [3, 4], "test": [5, 6], "trainval": [0, 1, 2, 3, 4]}
    path = make.write_voc(tmp_path / "set", made, lists=lists)
    (path / "ImageSets" / "Main" / "val.txt").write_text("scene-3.png\nscene-4  1\n")
    train, val, test = read(path)
    assert [(d.id, d.side, len(d)) for d in (train, val, test)] == [
        ("set/train", "train", 3), ("set/val", "val", 2), ("set/test", "test", 2),
    ]  # fmt: skip
    assert train.label_names == val.label_names == test.label_names == {"boxes": ("car", "cone", "sign")}
    assert "1 pictures on the lists of two sides" in notes_of(train)
    assert "1 label files on no list of ImageSets/Main: left out" in notes_of(train)
    (path / "ImageSets" / "Main" / "train.txt").unlink()
    assert [len(d) for d in read(path)] == [3, 2, 2], "trainval stands for train, without val's"


def test_sides_of_folders_and_files(made: list[Scene], tmp_path: Path) -> None:
    for side in ("train", "valid"):
        make.write_voc_beside(tmp_path / "toys" / side, made[:2])
        make.write_coco(tmp_path / "coco", made[:2] if side == "train" else made[2:4], side=side)
    assert [(d.id, d.side) for d in read(tmp_path / "toys")] == [("toys/train", "train"), ("toys/valid", "val")]
    train, val = read(tmp_path / "coco")
    assert (train.side, val.side) == ("train", "val")
    # Both folders hold a `scene-0.png`; each file means those of its own side.
    assert np.array_equal(train.read(0), made[0].picture) and np.array_equal(val.read(0), made[2].picture)
    (alone,) = read(tmp_path / "coco" / "annotations" / "instances_valid2017.json")
    assert alone.id == val.id and alone.path == val.path and len(alone) == 2


def test_a_coco_file_in_the_folder_of_its_pictures(made: list[Scene], tmp_path: Path) -> None:
    folder = tmp_path / "robo" / "test"
    names = make.write_pictures(folder, made)
    (folder / "_annotations.coco.json").write_text(json.dumps(make.coco_of(names, made)))
    (drive,) = read(tmp_path / "robo")
    assert (drive.id, drive.side) == ("robo/test", "test")
    require_scenes(drive, made)


def test_files_of_coco_on_the_same_pictures(made: list[Scene], tmp_path: Path) -> None:
    """Each picture is there once: by its key points for who asks for points, otherwise by its boxes."""
    path = make.write_coco(tmp_path / "coco", made, side="val")
    folder = path / "annotations"
    boxes = json.loads((folder / "instances_val2017.json").read_text())
    points = make.coco_of([image["file_name"] for image in boxes["images"]], made, points=True)
    (folder / "person_keypoints_val2017.json").write_text(json.dumps(points))
    (folder / "captions_val2017.json").write_text(json.dumps({**boxes, "annotations": [], "categories": []}))
    (drive,), left_out = meet([path], PLAIN)
    assert drive.id == "coco/instances_val2017" and not left_out
    (drive,) = read(path, ReaderOptions(labels=("points",)))
    assert drive.id == "coco/person_keypoints_val2017" and np.isfinite(drive.labels["points"]).any()


def test_a_yolo_set_as_others_write_it(made: list[Scene], tmp_path: Path) -> None:
    """Roboflow's: train/images beside train/labels, named from a folder above, names in brackets."""
    path = make.write_yolo(tmp_path / "set", {"train": made})
    for kind in ("images", "labels"):
        (path / "train" / kind).parent.mkdir(exist_ok=True)
        (path / kind / "train").rename(path / "train" / kind)
        (path / kind).rmdir()
    (path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\n\n"
        "nc: 3\nnames: ['cone', \"car\",\n  sign]\nroboflow:\n  license: x\n"
    )
    (drive,) = read(path)
    require_scenes(drive, made)
    assert "val: no pictures in ../valid/images" in notes_of(drive)
    (path / "data.yaml").write_text("train: list.txt\nval: train/images\nnames:\n- cone\n- car\n- sign\n")
    (path / "list.txt").write_text("".join(f"/home/me/set/train/images/scene-{i}.png\n" for i in range(3)))
    train, val = read(path)
    assert (len(train), len(val)) == (3, 5) and "val: 3 pictures of a side before left out" in notes_of(train)


def test_a_yolo_set_with_its_names_in_a_list(made: list[Scene], tmp_path: Path) -> None:
    """As Label Studio writes it, and LabelImg: all of it in one folder."""
    path = make.write_yolo(tmp_path / "studio", {"train": made})
    (path / "data.yaml").unlink()
    (path / "classes.txt").write_text("cone\ncar\nsign\n")
    (drive,) = read(path)
    require_scenes(drive, made)
    folder = tmp_path / "all" / "test"
    folder.mkdir(parents=True)
    for file in path.rglob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    (drive,) = read(folder)
    require_scenes(drive, made)
    assert (drive.id, drive.side) == ("all/test", "test")


def test_points_are_the_same_in_every_format(made: list[Scene], tmp_path: Path) -> None:
    shown = [scene for scene in made if scene.points]
    paths = [
        make.write_points_csv(tmp_path / "csv", made),
        make.write_coco(tmp_path / "coco", shown, points=True, classes=("cone", "car", "sign")),
        make.write_yolo(tmp_path / "yolo", {"train": shown}, points=True),
    ]
    for path in paths:
        (drive,) = read(path)
        assert drive.side == "train" and len(drive.label_names["points"]) == 3
        expected = np.array([scene.points for scene in shown]) / (64, 48)
        assert drive.labels["points"] == pytest.approx(expected, abs=1e-4)
        assert drive.labels["points"].dtype == np.float32
    # Its pictures are met a second time, in their own folder.
    ((_,), (left_out,)) = meet([paths[0]], PLAIN)
    assert left_out.path == paths[0] / "train" and left_out.reason == "pictures of a set that is taken"
    assert read(paths[0])[0].groups == tuple(str(i % 3) for i in range(len(shown)))
    assert read(paths[1])[0].label_names["points"] == ("corner", "other", "middle")


def test_columns_of_points(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((10, 20, 3), np.uint8))
    table = tmp_path / "target.csv"
    table.write_text("file,x,y\na.png,5,5\n")
    (drive,) = read(table)
    assert drive.label_names == {"points": ("point",)} and drive.labels["points"].tolist() == [[[0.25, 0.5]]]
    table.write_text("file,nose_x,nose_y,acc_x,acc_y,acc_z\na.png,0.5,0.25,9,9,9\n")
    (drive,) = read(table)
    assert drive.label_names == {"points": ("nose",)} and drive.labels["points"].tolist() == [[[0.5, 0.25]]]
    table.write_text("file,steering,x0,y0\na.png,0.5,5,5\n")
    assert read(table)[0].label_names == {} and read(table)[0].has("steering")
    (drive,) = read(table, ReaderOptions(labels=("points",)))
    assert drive.has("steering") and drive.labels["points"].tolist() == [[[0.25, 0.5]]] and drive.groups == ()


def test_class_folders_where_somebody_asks_for_classes(tmp_path: Path) -> None:
    path = make.write_class_folders(tmp_path / "signs" / "train", ("stop 2", "stop 10", "turn"), 4)
    (path / "empty").mkdir()
    (path / ".hidden").mkdir()
    make.write_class_folders(tmp_path / "signs" / "test", ("stop 2", "turn"), 2)
    test, train = read(tmp_path / "signs", CLASS)
    assert (train.id, train.kind, train.side) == ("signs/train", "class-folders", "train")
    assert (test.id, test.side, len(test)) == ("signs/test", "test", 4)
    assert train.label_names["class"] == ("empty", "stop 2", "stop 10", "turn")
    assert train.labels["class"].tolist() == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert train.names[0] == "stop 2/00000.png" and "no example of 'empty'" in train.notes
    # A wish is enough; for everybody else they are drives without labels, as they always were.
    assert [d.kind for d in read(tmp_path / "signs", PLAIN.wishing(["class"]))] == ["class-folders"] * 2
    plain = read(path)
    assert [(d.id, d.kind) for d in plain] == [(name, "images") for name in ("stop 10", "stop 2", "turn")]


def test_a_train_is_a_class_beside_a_bus_and_a_side_beside_val(tmp_path: Path) -> None:
    (drive,) = read(make.write_class_folders(tmp_path / "a", ("bus", "train"), 1), CLASS)
    assert drive.label_names["class"] == ("bus", "train")
    make.write_class_folders(tmp_path / "b", ("val", "train"), 1)
    assert [d.kind for d in read(tmp_path / "b", PLAIN.wishing(["class"]))] == ["images"] * 2


def test_a_table_means_the_folder_of_its_own_name(made: list[Scene], tmp_path: Path) -> None:
    shown = [scene for scene in made if scene.points]
    make.write_points_csv(tmp_path, shown[:2], side="train")
    make.write_points_csv(tmp_path, shown[2:4], side="val")
    for drive, scene in zip(read(tmp_path), (shown[0], shown[2]), strict=True):
        assert np.array_equal(drive.read(0), scene.picture)


def test_recordings_are_no_class_folders(tmp_path: Path) -> None:
    drive_factory.write_tub(tmp_path / "tubs" / "a", 4)
    drive_factory.write_tub(tmp_path / "tubs" / "b", 4)
    drive_factory.write_udacity(tmp_path / "logs" / "a", 4)
    drive_factory.write_udacity(tmp_path / "logs" / "b", 4)
    for name, kind in (("tubs", "tub-v2"), ("logs", "udacity")):
        assert [d.kind for d in read(tmp_path / name, PLAIN.wishing(["class"]))] == [kind] * 2
    make.write_class_csv(tmp_path / "mixed" / "a")
    make.write_class_csv(tmp_path / "mixed" / "b")
    assert [d.kind for d in read(tmp_path / "mixed", CLASS)] == ["picture-csv"] * 2


def test_a_column_of_classes(tmp_path: Path) -> None:
    path = make.write_class_csv(tmp_path / "set")
    (drive,) = read(path, CLASS)
    assert drive.label_names["class"] == ("car", "cone", "sign")
    assert drive.labels["class"].tolist() == [1.0, 0.0, 2.0] * 4
    assert drive.groups == tuple(str(i // 2) for i in range(4) for _ in range(3))
    assert "2 groups by column 'track'" in drive.notes
    table = path / "labels.csv"
    table.write_text(table.read_text().replace("image,class,track", "image,kind,lap"))
    (drive,) = read(table, ReaderOptions(csv_class="kind", csv_group="lap"))
    assert drive.label_names["class"] == ("car", "cone", "sign") and len(set(drive.groups)) == 2
    table.write_text("image,class\ncar 0.png,10\ncone 0.png,9\nsign 0.png,\n")
    (drive,) = read(table, CLASS)
    assert drive.label_names["class"] == ("9", "10") and drive.labels["class"].tolist() == [1.0, 0.0]
    assert drive.skipped == {"row without a class": 1}
    with pytest.raises(DriveError, match=r"read 'class' as classes with --label class, or .* --csv-steering$"):
        read(table)
    table.write_text("image,kind\ncar 0.png,a\n")
    with pytest.raises(DriveError, match=r"none of the columns image, kind is known; .* --csv-class"):
        read(table, CLASS)


def test_groups_of_a_recording_are_those_that_are_named(tmp_path: Path) -> None:
    path = make.write_class_csv(tmp_path / "set") / "labels.csv"
    path.write_text("image,steering,lap\ncar 0.png,0.5,a\ncone 0.png,-0.5,\ncar 1.png,0,b\n")
    assert read(path)[0].groups == ()
    assert read(path, ReaderOptions(csv_group="lap"))[0].groups == ("a", "cone 0.png", "b")
    with pytest.raises(DriveError, match="column 'track' expected, found image, steering, lap"):
        read(path, ReaderOptions(csv_group="track"))


def test_a_class_beside_the_steering(tmp_path: Path) -> None:
    path = make.write_class_csv(tmp_path / "set")
    (path / "labels.csv").write_text("image,steering,class\ncar 0.png,0.5,a\ncone 0.png,-0.5,\ncar 1.png,0,b\n")
    (drive,) = read(path / "labels.csv", CLASS)
    assert drive.labels["steering"].tolist() == [0.5, -0.5, 0.0] and drive.groups == () and drive.side == ""
    assert drive.labels["class"].tolist() == pytest.approx([0, np.nan, 1], nan_ok=True)
    assert drive.label_names == {"class": ("a", "b")}


def test_groups_by_the_names(tmp_path: Path) -> None:
    path = make.write_class_folders(tmp_path / "signs", NAMES, 9, per_group=3)
    (drive,) = read(path, CLASS)
    assert drive.groups[0] == "car/00000" and len(set(drive.groups)) == 9 and set(drive.groups) == {
        f"{name}/0000{i}" for name in NAMES for i in range(3)
    }  # fmt: skip
    assert "9 groups by what stands before the last _ in the names" in drive.notes
    (drive,) = read(path, ReaderOptions(labels=("class",), group_pattern="none"))
    assert drive.groups == drive.names and "every picture is its own group" in drive.notes
    (drive,) = read(path, ReaderOptions(labels=("class",), group_pattern=r"_(?P<group>0[01])$"))
    assert "15 groups by --group-pattern, 9 pictures on their own" in drive.notes
    for pattern in ("(", "_(.*)"):
        with pytest.raises(UsageError, match="--group-pattern"):
            ReaderOptions(group_pattern=pattern)


def test_names_that_tell_no_groups(tmp_path: Path) -> None:
    """Two to a class are a class's own prefix, and a group of one picture each tells nothing."""
    two = make.write_class_folders(tmp_path / "two", NAMES, 8, per_group=4)
    alone = make.write_class_folders(tmp_path / "alone", NAMES, 4)
    for picture in [*alone.rglob("*.png")]:
        picture.rename(picture.with_name(f"{picture.stem}_0.png"))
    for path in (two, alone):
        (drive,) = read(path, CLASS)
        assert drive.groups == drive.names and "every picture is its own group" in drive.notes


def test_a_set_beside_recordings(made: list[Scene], tmp_path: Path) -> None:
    """Whoever trains a steering net is told of the set, and whoever trains on boxes of the tub."""
    drive_factory.write_tub(tmp_path / "tub", 4)
    make.write_voc(tmp_path / "cells", made)
    for labels, kept, out in (((), "tub", "cells"), (("boxes",), "cells", "tub")):
        told: list[str] = []
        drives = open_drives([tmp_path], ReaderOptions(labels=labels), labelled=True, told=told.append)
        assert [d.id for d in drives] == [kept] and len(told) == 1 and told[0].startswith(str(tmp_path / out))
        # Where there is nothing else, whoever trains says what it lacks.
        assert [d.id for d in open_drives([tmp_path / out], ReaderOptions(labels=labels), labelled=True)] == [out]


def test_drives_tells_what_a_set_shows(made: list[Scene], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, sheet = make.write_yolo(tmp_path / "set", {"val": made}, points=True), tmp_path / "sheet.png"
    assert main(["drives", str(path), "--json", "--sheet", str(sheet)]) == 0
    (row,) = json.loads(capsys.readouterr().out)["drives"]
    found = [name for scene in made for name, *_ in scene.boxes]
    assert row["set"] == {
        "side": "val", "groups": 8, "boxes": {name: found.count(name) for name in NAMES}, "points": 3,
        "without_boxes": sum(not scene.boxes for scene in made),
        "points_known": round(sum(bool(scene.boxes) for scene in made) / 8, 4),
    }  # fmt: skip
    assert main(["drives", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"{len(found)} boxes, 3 points" in text and "by its name to choose by (val)" in text
    assert f"{NAMES[0]} {found.count(NAMES[0])}" in text
    # One tile for each picture; frames of the boxes in the colours of their classes lie on them.
    drawn = cv2.imread(str(sheet))
    assert (drawn == BOX_COLORS[0]).all(axis=2).sum() > 50
    folders = make.write_class_folders(tmp_path / "signs", per_class=2)
    assert main(["drives", str(folders), "--label", "class", "--sheet", str(tmp_path / "b.png")]) == 0
    assert "classes: car 2, cone 2, sign 2" in capsys.readouterr().out
    assert main(["drives", str(folders)]) == 0
    assert "--label class reads them so" in capsys.readouterr().out


def test_sets_made_by_others(real_sets: Path) -> None:
    """Their counts were taken from the files by other means."""
    counts = {}
    for path in ("detection/blood-cells", "detection/toy-signs", "localization/raccoon"):
        drives = read(real_sets / path)
        counts[path] = sum(int((d.labels["boxes"][..., 0] >= 0).sum()) for d in drives), sum(map(len, drives))
        assert not any(d.skipped for d in drives)
    assert counts == {
        "detection/blood-cells": (4888 - 2, 364), "detection/toy-signs": (370, 48), "localization/raccoon": (217, 200),
    }  # fmt: skip
    cells = read(real_sets / "detection" / "blood-cells")
    assert [d.side for d in cells] == ["train", "val", "test"]
    assert sum("boxes left out, width or height of 0: 1" in d.notes for d in cells) == 2
    test, train = read(real_sets / "classification" / "signs10", CLASS)
    assert (len(train), len(set(train.groups)), len(test), len(set(test.groups))) == (3000, 500, 4920, 4920)
    assert [len(d) for d in read(real_sets / "classification" / "trash5", CLASS)] == [225, 850, 160]
    faces = read(real_sets / "landmarks" / "faces68")
    assert [(len(d), len(set(d.groups)), d.labels["points"].shape[1]) for d in faces] == [
        (3037, 250, 68),
        (543, 45, 68),
    ]
    (letters,) = read(real_sets / "embedding" / "omniglot", CLASS)
    (people,) = read(real_sets / "embedding" / "orl-faces", CLASS)
    assert (len(letters), len(letters.label_names["class"]), len(people)) == (2720, 136, 400)
