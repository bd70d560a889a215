"""Labelled sets with every fault that was seen in one: counted and named, or one line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import set_factory as make
from refusal import refused_at_once
from sepilot_runtime.base.errors import DriveError, UsageError
from sepilot_runtime.cli import main
from sepilot_runtime.recording.drive import Drive
from sepilot_runtime.recording.opening import meet, open_drives
from sepilot_runtime.recording.options import ReaderOptions
from set_factory import Scene, voc_xml

CLASS = ReaderOptions(labels=("class",))
SIZE = (48, 64)
EMPTY = Scene(picture=np.zeros((*SIZE, 3), np.uint8), boxes=())


def read(path: Path, options: ReaderOptions = ReaderOptions()) -> Drive:  # noqa: B008
    (drive,) = open_drives([path], options)
    return drive


def refused(path: Path, options: ReaderOptions = ReaderOptions()) -> str:  # noqa: B008
    return refused_at_once(lambda: open_drives([path], options), DriveError, within_s=5, most_bytes=64 << 20)


def with_boxes(kind: str, path: Path, boxes: list[tuple[str, float, float, float, float]], more: int = 0) -> Path:
    """A set of one picture with these boxes, and `more` with nothing, in a format by its name."""
    made = [EMPTY] * (1 + more)
    if kind == "voc":
        make.write_voc(path, made)
        (path / "Annotations" / "scene-0.xml").write_text(voc_xml("scene-0.png", SIZE, boxes))
        return path
    names = ["car", "cone"]
    if kind == "coco":
        make.write_coco(path, made, classes=names)
        file = path / "annotations" / "instances_train2017.json"
        document = json.loads(file.read_text())
        document["annotations"] = [
            {"image_id": 10, "category_id": names.index(name) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            for name, x0, y0, x1, y1 in boxes
        ]
        file.write_text(json.dumps(document))
        return path
    make.write_yolo(path, {"train": made}, classes=names)
    lines = [
        f"{names.index(name)} {(x0 + x1) / 128} {(y0 + y1) / 96} {(x1 - x0) / 64} {(y1 - y0) / 48}\n"
        for name, x0, y0, x1, y1 in boxes
    ]
    (path / "labels" / "train" / "scene-0.txt").write_text("".join(lines))
    return path


@pytest.mark.parametrize("kind", ["voc", "coco", "yolo"])
def test_boxes_that_are_none(kind: str, tmp_path: Path) -> None:
    boxes: list[tuple[str, float, float, float, float]] = [
        ("car", 10, 10, 20, 20), ("car", 5, 5, 5, 9), ("cone", 30, 20, 10, 40), ("car", 70, 5, 90, 15),
        ("car", -10, 10, 10, 50), ("car", float("nan"), 1, 2, 3),
    ]  # fmt: skip
    drive = read(with_boxes(kind, tmp_path / "set", boxes))
    taken = drive.labels["boxes"][0]
    assert taken == pytest.approx(
        np.array([[0, 15 / 64, 15 / 48, 10 / 64, 10 / 48], [0, 5 / 64, 29 / 48, 10 / 64, 38 / 48]])
    )
    for note in (
        "width or height of 0: 1", "inside out: 1", "outside of their pictures: 1", "not four numbers: 1",
    ):  # fmt: skip
        assert f"boxes left out, {note}" in drive.notes
    assert "boxes clipped at the edges of their pictures: 1" in drive.notes


@pytest.mark.parametrize("kind", ["voc", "coco", "yolo"])
def test_labels_in_another_unit(kind: str, tmp_path: Path) -> None:
    """Such as VOC's pixels read as YOLO's fractions: nearly every box lies outside."""
    boxes = [("car", 64.0 * i, 48.0 * i, 64.0 * i + 20, 48.0 * i + 20) for i in range(1, 8)]
    message = refused(with_boxes(kind, tmp_path / "set", boxes))
    assert message.endswith("found 7 of 7 outside; are they of other pictures, or in another unit?")


def test_pictures_without_labels_and_labels_without_pictures(tmp_path: Path) -> None:
    path = make.write_voc(tmp_path / "voc", [EMPTY] * 4, lists={"train": [0, 1, 2, 3]})
    (path / "Annotations" / "scene-0.xml").unlink()
    (path / "Annotations" / "scene-1.xml").write_text("<annotation><object>")
    (path / "JPEGImages" / "scene-2.png").unlink()
    assert "no annotations: 'scene-1.xml'" in read(path).notes
    assert read(path).skipped == {
        "picture without a label file": 1, "label file that is no annotation": 1, "missing image": 1,
    }  # fmt: skip
    beside = make.write_voc_beside(tmp_path / "renamed", [EMPTY] * 2)
    (beside / "scene-1.xml").rename(beside / "label-1.xml")
    drive = read(beside)
    assert drive.names == ("scene-1.png", "scene-0.png") and not drive.skipped, "by the name that it says"
    beside = make.write_voc_beside(tmp_path / "beside", [EMPTY] * 3)
    (beside / "scene-1.xml").unlink()
    (beside / "scene-2.png").unlink()
    cv2.imwrite(str(path / "JPEGImages" / "more.png"), EMPTY.picture)
    (path / "ImageSets" / "Main" / "train.txt").unlink()
    assert read(path).skipped["picture without a label file"] == 2
    assert read(beside).skipped == {"picture without a label file": 1, "missing image": 1}
    coco = make.write_coco(tmp_path / "coco", [EMPTY] * 3)
    (coco / "train2017" / "scene-0.png").rename(coco / "train2017" / "other.png")
    assert read(coco).skipped == {"missing image": 1}
    assert "pictures beside those that are not listed: 1" in read(coco).notes
    yolo = make.write_yolo(tmp_path / "yolo", {"train": [EMPTY] * 4})
    (yolo / "labels" / "train" / "scene-1.txt").unlink()
    drive = read(yolo)
    assert drive.labels["boxes"][:, 0, 0].tolist() == [-1.0] * 4 and not drive.skipped
    assert "1 pictures without a label file: taken as showing nothing" in drive.notes
    assert "3 pictures with an empty label file: taken as showing nothing" in drive.notes
    for file in (yolo / "labels" / "train").iterdir():
        file.unlink()
    assert "a label file for one of 4 pictures of yolo/train expected, found none" in refused(yolo)


def test_labels_of_a_picture_that_was_turned(tmp_path: Path) -> None:
    """Scaled since is all right: the labels say of which size they are."""
    path = make.write_voc_beside(tmp_path / "set", [EMPTY] * 3)
    (path / "scene-0.xml").write_text(voc_xml("", (64, 48), []))
    (path / "scene-1.xml").write_text(voc_xml("", (96, 128), [("car", 0, 0, 64, 48)]))
    drive = read(path)
    assert drive.skipped == {"labels are for a picture of another shape (turned, cropped, or another one)": 1}
    assert drive.labels["boxes"][0].tolist() == [[0.0, 0.25, 0.25, 0.5, 0.5]]
    (path / "scene-1.xml").write_text(voc_xml("", (0, 0), [("car", 0, 0, 64, 48)]))
    assert read(path).labels["boxes"][0].tolist() == [[0.0, 0.5, 0.5, 1.0, 1.0]]


def test_classes_that_differ_in_case_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make.write_class_folders(tmp_path / "folders", ("Stop", "go", "stop"), 1)
    words = "the classes 'Stop' and 'stop' differ in case only"
    assert refused(path, CLASS).startswith(f"{path}: {words}")
    assert main(["drives", str(path), "--label", "class"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    table = make.write_class_csv(tmp_path / "csv") / "labels.csv"
    table.write_text("image,class\ncar 0.png,Stop\ncone 0.png,stop\n")
    assert words in refused(table, CLASS)
    assert words in refused(with_boxes("voc", tmp_path / "voc", [("Stop", 0, 0, 9, 9), ("stop", 9, 9, 20, 20)]))


def test_a_set_of_one_class(tmp_path: Path) -> None:
    path = make.write_class_folders(tmp_path / "signs", ("stop",), 2)
    with pytest.raises(UsageError, match=r"^--label class: .*, found images; pictures lie in a folder for each of two"):
        open_drives([path], CLASS)
    (path / "later").mkdir()
    with pytest.raises(UsageError, match="--label class"):
        open_drives([path], CLASS)


def test_a_class_that_a_side_does_not_show(tmp_path: Path) -> None:
    path = with_boxes("yolo", tmp_path / "set", [("car", 0, 0, 9, 9)])
    assert "no example of 'cone'" in read(path).notes


def test_classes_and_pictures_that_are_not_listed(tmp_path: Path) -> None:
    path = with_boxes("coco", tmp_path / "coco", [("car", 0, 0, 9, 9)] * 4)
    file = path / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    for note, change in zip(
        document["annotations"][1:], ({"category_id": 9}, {"image_id": 99}, {"iscrowd": 1}), strict=True
    ):
        note.update(change)
    file.write_text(json.dumps(document))
    drive = read(path)
    assert len(drive.labels["boxes"][0]) == 1
    for line in (
        "boxes left out, of a class that is not listed: 1", "annotations of pictures that are not listed: 1",
        "regions of crowds left out: 1",
    ):  # fmt: skip
        assert line in drive.notes
    yolo = with_boxes("yolo", tmp_path / "yolo", [("car", 0, 0, 9, 9)])
    with (yolo / "labels" / "train" / "scene-0.txt").open("a") as labels:
        labels.write("7 .5 .5 .1 .1\n0.5 .5 .5 .1 .1\n0 .5 .5 .1\n1 .1 .1 .5 .1 .5 .5\n")
    drive = read(yolo)
    assert drive.labels["boxes"][0, 1] == pytest.approx([1, 0.3, 0.3, 0.4, 0.4])
    for line in (
        "boxes left out, of a class that is not listed: 2", "boxes left out, not 5 numbers in the line: 1",
        "outlines taken as the boxes around them: 1",
    ):  # fmt: skip
        assert line in drive.notes


def test_points_outside_and_two_to_a_name(tmp_path: Path) -> None:
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), EMPTY.picture)
    table = tmp_path / "faces.csv"
    table.write_text(
        "image,person,x0,y0,x1,y1\na.png,1,32,24,65,2\nb.png,1,0,0,,3\nb.png,2,64,48,1,-2\nc.png,3,1,1,1,1\n"
    )
    drive = read(table)
    assert drive.labels["points"] == pytest.approx(
        np.array([[[0.5, 0.5], [np.nan, np.nan]], [[1, 1], [np.nan, np.nan]]]), nan_ok=True
    )
    # The later row of a picture counts, as everywhere; that it was named for two persons is said.
    assert drive.groups == ("1", "2") and drive.skipped == {"frame named a second time": 1, "missing image": 1}
    assert "points outside of their pictures, taken as unknown: 2" in drive.notes
    table.write_text("image,x0,y0\n" + "".join(f"a.png,{100 * i},{100 * i}\n" for i in range(1, 9)))
    assert "points inside of their pictures expected, found 8 of 8 outside" in refused(table)


def test_two_in_a_picture_where_points_are_of_one(tmp_path: Path) -> None:
    box = ("car", 0, 0, 9, 9)
    scene = Scene(picture=EMPTY.picture, boxes=(box,), points=((1, 2), (3, 4), (5, 6)))
    path = make.write_coco(tmp_path / "coco", [scene], classes=("car",), points=True)
    file = path / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    first = document["annotations"][0]
    hidden = {**first, "keypoints": [9, 9, 0] * 3}
    other = {**first, "keypoints": [9, 9, 2, 9, 9, 1, 0, 0, 0]}
    document["annotations"] = [hidden, other, first, {**first, "keypoints": [1, 2, 2]}]
    file.write_text(json.dumps(document))
    drive = read(path)
    assert drive.labels["points"][0] == pytest.approx(
        np.array([[9 / 64, 9 / 48], [9 / 64, 9 / 48], [np.nan, np.nan]]), nan_ok=True
    )
    assert "others with points in a picture left out: 1" in drive.notes
    assert "points left out, not 3 times three numbers: 1" in drive.notes


def xml_of(text: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        make.write_voc(path, [EMPTY])
        (path / "Annotations" / "scene-0.xml").write_text(text)
        return path

    return write


def coco_of(**changes: Any) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        make.write_coco(path, [EMPTY])
        file = path / "annotations" / "instances_train2017.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        return path

    return write


def yolo_of(text: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        make.write_yolo(path, {"train": [EMPTY]})
        (path / "data.yaml").write_text(text)
        return path

    return write


def deep(path: Path) -> Path:
    make.write_coco(path, [EMPTY])
    (path / "annotations" / "instances_train2017.json").write_text('{"images": [' + "[" * 100_000)
    return path


def sparse(path: Path) -> Path:
    deep(path)
    os.truncate(path / "annotations" / "instances_train2017.json", 1 << 40)
    return path


def linked_out(path: Path) -> Path:
    make.write_yolo(path, {"train": [EMPTY]})
    picture = path / "images" / "train" / "scene-0.png"
    picture.rename(path.parent / "elsewhere.png")
    picture.symlink_to(path.parent / "elsewhere.png")
    return path


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))


@pytest.mark.parametrize(("write", "words"), [
    (xml_of(f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l9;</annotation>'), "found <!DOCTYPE a"),
    (xml_of('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'), "without a document type expected"),
    (xml_of("<annotation>" + "<a>" * 50_000), "no usable frame .*1 label file that is no annotation"),
    (xml_of("<annotation>" + " " * (1 << 20) + "</annotation>"), "no usable frame .*1 label file that is no annot"),
    (deep, "not JSON that can be read"),
    (sparse, "at most 536870912 bytes expected"),
    (coco_of(images={"a": 1}), "images: a list expected, found {'a': 1}"),
    (coco_of(annotations=None), "annotations: a list expected, found None"),
    (coco_of(categories=[{"id": 1}]), "categories: a list of tables with id and name expected"),
    (coco_of(images=[3, {"id": 1}, {"id": 2, "file_name": "../../../etc/passwd.png"}]), "1 missing image"),
    (yolo_of("train: images/train\nnames: *all\n"), "data.yaml: line 2: names: a text, a list or a table expected"),
    (yolo_of("train: images/train\nnames: classes.txt\n"), "names: a list or a table of classes expected"),
    (yolo_of("train: images/train\nnames: {0: a, 2: b}\n"), "names: 0 to 1 expected, found 0, 2"),
    (yolo_of("train: images/train\nnames: [a]\nnc: 2\n"), "nc: 1 expected, as many as names, found 2"),
    (yolo_of("train: images/train\nnames: [a]\nkpt_shape: [4]\n"), "kpt_shape: .* expected"),
    (yolo_of("train: images/dev\nval: http://x/y.zip\nnames: [a]\n"), "no pictures in images/dev; val"),
    (linked_out, "is a link that leads outside"),
])  # fmt: skip
def test_one_line_at_once(write: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "set")
    message = refused(path)
    assert re.search(words, message), message


def test_a_damaged_picture_is_left_to_the_cache(tmp_path: Path) -> None:
    path = make.write_voc(tmp_path / "set", [EMPTY] * 2)
    (path / "JPEGImages" / "scene-0.png").write_bytes(b"nothing")
    drive = read(path)
    assert len(drive) == 2
    with pytest.raises(DriveError, match="not an image"):
        drive.read(0)


def test_json_that_is_no_set_is_left_alone(tmp_path: Path) -> None:
    path = make.write_class_folders(tmp_path / "set", ("a", "b"), 1)
    (path / "notes.json").write_text('{"images": 3, "annotations": "none"}')
    drives, left_out = meet([path], ReaderOptions())
    assert [d.kind for d in drives] == ["images"] * 2 and [m.path.name for m in left_out] == ["notes.json"]
