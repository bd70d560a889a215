"""Learning boxes: which slot says what, what the losses ask, how figures are made."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_runtime.base.errors import DriveError, RecipeError
from sepilot_runtime.cli import main as sepilot
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.outputs.boxes.geometry import Slots
from sepilot_runtime.contract.outputs.boxes.task import BoxesTask
from sepilot_train.fit.augment import Augmentation, motion_of, uniform_count
from sepilot_train.fit.outputs.boxes.anchors import anchors_of, mean_iou
from sepilot_train.fit.outputs.boxes.assignment import assigned
from sepilot_train.fit.outputs.boxes.average_precision import average_precision, detections, ground_truth
from sepilot_train.fit.outputs.boxes.losses import box_loss, score_loss
from sepilot_train.fit.outputs.boxes.plots import plots_of
from sepilot_train.fit.outputs.boxes.target import BoxesTarget
from sepilot_train.fit.settings import TrainingSettings
from sepilot_train.run.net import build_net
from sepilot_train.run.recipe import load_recipe
from set_factory import scenes, write_voc

NAMES = ("cone", "car", "sign")
TARGET = BoxesTarget(names=NAMES, grid=((6, 6), (3, 3)), anchors=((0.1, 0.1), (0.2, 0.15), (0.3, 0.3), (0.6, 0.5)))
OUTPUT = TARGET.output("boxes", 1.0)
TASK = BoxesTask(OUTPUT)
SLOTS = Slots.of(OUTPUT)

Labels = NDArray[np.float32]


def label(*boxes: tuple[float, ...], most: int = 4) -> Labels:
    rows = np.full((1, most, 5), np.nan, np.float32)
    rows[0, : len(boxes)] = np.array(boxes).reshape(-1, 5)
    if not boxes:
        rows[0, 0, 0] = -1
    return rows


def said(target: BoxesTarget, labels: Labels, sure: float = 5.0) -> Labels:
    """Answers (n, numbers) that say what is wanted."""
    wanted = target.wanted("boxes", labels)
    boxes = np.nan_to_num(wanted["boxes.boxes"], nan=0.5).reshape(len(labels), -1)
    scores = np.where(wanted["boxes.scores"] > 0, sure, -8.0).reshape(len(labels), -1)
    return np.concatenate((boxes, scores), axis=1).astype(np.float32)


def scattered(count: int, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    labels = np.full((count, 3, 5), np.nan, np.float32)
    for one in labels:
        for row in range(rng.integers(1, 4)):
            size = rng.uniform(0.1, 0.3, 2)
            third = (row + 0.5) / 3  # Boxes that cover each other would go for one.
            one[row] = (rng.integers(3), third, *rng.uniform(size[1] / 2, 1 - size[1] / 2, 1), *size)
    return labels


def test_a_box_belongs_to_the_cell_of_its_middle_and_the_anchor_most_like_it() -> None:
    at = assigned(label((0, 0.45, 0.30, 0.11, 0.1), (1, 0.45, 0.30, 0.6, 0.55)), SLOTS)[0]
    row, column = 1, 2  # 0.30 and 0.45 of six cells.
    assert at.tolist() == [2 * (6 * row + column), 72 + 2 * (3 * 0 + 1) + 1, -1, -1]


def test_two_boxes_in_one_cell_are_both_learned_and_one_too_many_is_counted() -> None:
    twins = label(*[(0, 0.5, 0.5, 0.1 + 0.001 * i, 0.1) for i in range(4)], most=5)
    at = assigned(twins, SLOTS)[0]
    assert len(set(at[:4].tolist())) == 4 and at[4] == -1
    assert at[3] == 2 * (6 * 3 + 3), "the largest has the slot that is most like it"
    crowd = label(*[(0, 0.5, 0.5, 0.1, 0.1)] * 5, most=5)
    assert sorted(assigned(crowd, SLOTS)[0].tolist())[0] == -1
    metrics = TARGET.metrics(crowd, said(TARGET, crowd), TASK.constant(crowd))
    assert metrics.boxes == 5 and metrics.crowded == 1
    told = TARGET.remarks(crowd, label((1, 0.5, 0.5, 0.1, 0.1)))
    assert told[0] == "no box to train on of 2 of 3 classes: car, sign"
    assert told[1:] == [
        "no box to judge on of 2 of 3 classes: cone, sign",
        "1 boxes to train on find no free anchor in their cells: not learned",
    ]
    assert "Without a slot" in [told.name for told in metrics.told(OUTPUT)]


def test_a_middle_on_the_last_edge_has_a_cell() -> None:
    assert assigned(label((0, 1.0, 1.0, 0.3, 0.3)), SLOTS)[0, 0] >= 0


def test_what_is_wanted_is_what_the_runtime_reads() -> None:
    labels = scattered(40)
    assert TARGET.mae(labels, said(TARGET, labels)) == 0
    assert TARGET.wanted("boxes", label())["boxes.scores"].max() == 0


def test_one_cell_locates_as_the_source_has_it() -> None:
    """y = [p, box, classes]: where p is 0 the box does not matter, whatever it says."""
    target = BoxesTarget(names=("raccoon",), grid=((1, 1),), max_boxes=1)
    there, nothing = label((0, 0.4, 0.5, 0.5, 0.25)), label()
    wanted = target.wanted("boxes", np.concatenate((there, nothing)))
    assert {name: values.shape for name, values in wanted.items()} == {"boxes.boxes": (2, 4), "boxes.scores": (2, 1)}
    assert wanted["boxes.boxes"][0] == pytest.approx([0.4, 0.5, 0.5 - 1 / 4, 0.5 - 2 / 4])
    assert np.isnan(wanted["boxes.boxes"][1]).all() and wanted["boxes.scores"].tolist() == [[1], [0]]
    loss = target.losses("boxes", TrainingSettings())["boxes.boxes"]
    wild = wanted["boxes.boxes"].copy()
    wild[1] = 1e6
    assert float(loss(wanted["boxes.boxes"], wild)) == 0
    wild[0, 2] += 1
    assert float(loss(wanted["boxes.boxes"], wild)) == pytest.approx(0.95)


def test_losses_ask_only_what_the_labels_know() -> None:
    import tensorflow as tf

    wanted = np.array([[[0.5, 0.5, 0.5, 0.5], [np.nan] * 4]], np.float32)
    answer = tf.constant([[[0.6, 0.5, 0.5, 0.7], [3.0, 3.0, 3.0, 3.0]]])
    with tf.GradientTape() as tape:
        tape.watch(answer)
        loss = box_loss(2.0)(wanted, answer)
    slope = tape.gradient(loss, answer).numpy()
    assert float(loss) == pytest.approx(2 * (0.05 + 0.15), rel=1e-4)
    assert np.isfinite(slope).all() and not slope[0, 1].any() and slope[0, 0, 3] > 0
    target = np.array([[[1.0, 0.0]]], np.float32)
    right, wrong = np.array([[[4.0, -4.0]]], np.float32), np.array([[[-4.0, 4.0]]], np.float32)
    sure, unsure = float(score_loss(2.0)(target, right)), float(score_loss(2.0)(target, wrong))
    assert sure < 1e-4 < 7 < unsure
    assert float(score_loss(0.0)(target, right)) == pytest.approx(2 * math.log1p(math.exp(-4)), rel=1e-4)


def test_what_is_learned_from_a_net_is_what_it_is_sure_of() -> None:
    labels = scattered(4)
    wanted = TARGET.wanted("boxes", labels)
    answers = {
        "boxes.boxes": np.nan_to_num(wanted["boxes.boxes"], nan=0.9),
        "boxes.scores": np.where(wanted["boxes.scores"] > 0, 3.0, -6.0).astype(np.float32),
    }
    taught = TARGET.taught("boxes", answers)
    assert np.array_equal(np.isnan(taught["boxes.boxes"]), np.isnan(wanted["boxes.boxes"]))
    assert taught["boxes.scores"].max() == pytest.approx(1 / (1 + math.exp(-3)))


def test_labels_move_as_the_pictures_do() -> None:
    settings = Augmentation(mirror=1.0)
    uniforms = np.full((1, uniform_count(settings)), 0.5, np.float32)
    motion = motion_of(uniforms, settings, (60, 80))
    assert TARGET.moved(label((2, 0.3, 0.4, 0.2, 0.1)), motion)[0, 0] == pytest.approx([2, 0.7, 0.4, 0.2, 0.1])


def test_anchors_are_usual_sizes() -> None:
    rng = np.random.default_rng(0)
    usual = np.array(((0.05, 0.1), (0.2, 0.1), (0.4, 0.5)))
    sizes = np.concatenate([size * rng.uniform(0.9, 1.1, (50, 2)) for size in usual])
    found = anchors_of(rng.permutation(sizes), 3)
    assert np.array(found) == pytest.approx(usual, rel=0.05)
    assert mean_iou(sizes, found) > 0.85 > 0.5 > mean_iou(sizes, found[:1])


def test_drives_prints_anchors_for_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a letterbox of a picture that is wider than high, things are less high."""
    write_voc(tmp_path / "set", scenes(12, np.random.default_rng(0)))
    assert sepilot(["drives", str(tmp_path / "set"), "--anchors", "2", "--json"]) == 0
    stretched, boxed = json.loads(capsys.readouterr().out)["anchors"].values()
    for (width, height), (wide, high) in zip(stretched["sizes"], boxed["sizes"], strict=True):
        assert (wide, high) == pytest.approx((width, height * 48 / 64), abs=0.03)
    assert sepilot(["drives", str(tmp_path / "set"), "--anchors", "2"]) == 0
    printed = next(line for line in capsys.readouterr().out.splitlines() if "--set" in line)
    recipe = load_recipe("spot", [printed.split("'")[1]])
    assert np.array(recipe.outputs["boxes"].anchors).tolist() == stretched["sizes"]  # type: ignore[attr-defined]
    assert sepilot(["drives", str(tmp_path / "set"), "--anchors", "500"]) == 2
    assert "--anchors: 500 boxes or more expected, found" in capsys.readouterr().err


def test_net_and_output_have_the_same_cells() -> None:
    for wrong, message in (
        ("model.options.strides=[4,8]", "a multiple of the 2000 cells of strides 4, 8 expected, found 1000 slots"),
        ("model.options.strides=[5]", r"strides: some of 4, 8, 16 expected, found \[5\]"),
    ):
        with pytest.raises(RecipeError, match=message):
            build_net(load_recipe("spot", [wrong]))


def test_a_recipe_that_fits_nothing_is_refused_in_a_line() -> None:
    with pytest.raises(RecipeError, match=r"strides: pixels to a cell of each scale expected, such as \[16, 32\]"):
        BoxesTarget()
    with pytest.raises(RecipeError, match="anchors: as many for each of 2 scales expected, found 3"):
        BoxesTarget(strides=(16, 32), anchor_count=3)
    fine = BoxesTarget(strides=(2,)).fitted(Picture(height=160, width=160))
    with pytest.raises(RecipeError, match="at most 30,000 numbers expected, found 6,400 slots of 4 and 3; take a"):
        fine.output("boxes", 1.0)
    grid = BoxesTarget(strides=(16, 32)).fitted(Picture(height=100, width=160)).grid
    assert grid == ((7, 10), (4, 5)), "maps are rounded up, as the nets pad them"


def test_classes_come_from_the_labels_or_are_missed() -> None:
    class Recording:
        label_names = {"boxes": ("b10", "b2")}  # noqa: RUF012
        path = "here"

    drives: list = [Recording()]
    found = BoxesTarget(strides=(16,)).settled("boxes", drives, Picture(height=9, width=9))
    assert found.names == ("b2", "b10")
    with pytest.raises(DriveError, match="here: boxes of the class moon expected, found none"):
        BoxesTarget(strides=(16,), names=("moon",)).settled("boxes", drives, Picture(height=9, width=9))


def noisy(labels: Labels, seed: int = 1) -> Labels:
    """Answers with boxes of every quality, and some that are not there."""
    rng = np.random.default_rng(seed)
    answers = said(TARGET, labels, sure=1.0)
    count = 4 * OUTPUT.slots
    answers[:, :count] += rng.normal(0, 0.08, (len(labels), count))
    answers[:, count:] += rng.normal(0, 2, (len(labels), answers.shape[1] - count))
    return answers.astype(np.float32)


def test_average_precision_is_what_coco_says() -> None:
    """Judged by pycocotools, the reference implementation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = scattered(40)
    labels[3] = label()[0, :3]
    answers = noisy(labels)
    found = average_precision(labels, answers, TASK)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth(labels, NAMES)
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(detections(answers, TASK)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert 0.1 < found.at_50_95 < found.at_50 < 0.95
    assert (found.at_50_95, found.at_50) == pytest.approx(judge.stats[:2], abs=1e-9)
    assert np.nanmean(found.by_class) == pytest.approx(found.at_50)


def test_figures_beside_saying_nothing() -> None:
    labels = scattered(20)
    best = TARGET.metrics(labels, said(TARGET, labels), TASK.constant(labels))
    assert best.map50 == pytest.approx(1) and best.map50_95 == pytest.approx(1)
    assert best.precision == best.recall == 1 and (best.mae, best.constant_mae) == (0, 1)
    nothing = np.full((20, *OUTPUT.shape), TASK.constant(labels), np.float32)
    none = TARGET.metrics(labels, nothing, TASK.constant(labels))
    assert none.map50 == none.recall == none.precision == 0 and none.average_precision == (None,) * 3
    assert "constant_f1_error" in best.figures and best.told(OUTPUT)[0].name == "mAP50"
    from matplotlib.figure import Figure

    for plot in (*plots_of(labels, said(TARGET, labels), best, OUTPUT), *plots_of(labels, nothing, none, OUTPUT)):
        plot.draw(Figure().add_subplot())
