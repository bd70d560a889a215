"""Arithmetic of boxes, by hand and against its definition; every gate with the fault that it is there for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.contract.contract import Picture
from sepilot_runtime.contract.outputs.boxes import drawing
from sepilot_runtime.contract.outputs.boxes.geometry import Slots, inside, iou_matrix, matched, moved_by
from sepilot_runtime.contract.outputs.boxes.output import Boxes
from sepilot_runtime.contract.outputs.boxes.task import BoxesTask
from sepilot_runtime.contract.outputs.protocol import Evidence
from sepilot_runtime.contract.window import window_of

NAMES = ("cone", "car", "sign")
OUTPUT = Boxes(
    name="boxes", names=NAMES, grid=((6, 8), (3, 4)), anchors=(((0.1, 0.1), (0.2, 0.1)), ((0.3, 0.3), (0.5, 0.4)))
)
TASK = BoxesTask(OUTPUT)
SLOTS = Slots.of(OUTPUT)
WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])

Raw = NDArray[np.float32]
Label = NDArray[np.float32]


def scene(seed: int, most: int = 6) -> Label:
    """A label (most, 5) of one to `most` boxes, none of which covers another one."""
    rng = np.random.default_rng(seed)
    rows = np.full((most, 5), np.nan, np.float32)
    for place in range(int(rng.integers(1, most + 1))):
        size = rng.uniform(0.1, 0.3, 2)
        middle = np.array(((place % 3 + 0.5) / 3, (place // 3 + 0.5) / 2)) + rng.uniform(-0.01, 0.01, 2)
        rows[place] = (rng.integers(len(NAMES)), *middle, *size)
    return rows


def answer_to(label: Label, *, sure: float = 4.0, output: Boxes = OUTPUT) -> Raw:
    """What a perfect net says: in the slot of the cell whose anchor is most like the box."""
    slots = Slots.of(output)
    numbers = np.full((output.slots, 4), 0.5)
    scores = np.full((output.slots, len(output.names)), -8.0)
    for place, *box in label[label[:, 0] >= 0].tolist():
        inner = (np.array(box[:2]) - slots.corner) / slots.cell
        holds = ((inner >= 0) & (inner < 1)).all(axis=1)
        like = np.minimum(slots.anchor, box[2:]).prod(axis=1) / np.maximum(slots.anchor, box[2:]).prod(axis=1)
        at = int(np.where(holds, like, -1).argmax())
        numbers[at] = slots.encode(np.array([box]), np.array([at]))[0]
        scores[at, int(place)] = sure
    return np.concatenate((numbers.reshape(-1), scores.reshape(-1))).astype(np.float32)


SCENES = np.stack([scene(seed) for seed in range(60)])
ANSWERS = np.stack([answer_to(label) for label in SCENES])


def test_a_contract_says_where_every_number_belongs() -> None:
    assert OUTPUT.slots == 2 * 48 + 2 * 12 and OUTPUT.shape == (120 * 7,)
    assert OUTPUT.tensors == {"boxes.boxes": (120, 4), "boxes.scores": (120, 3)}
    alone = Boxes(name="thing", names=("a",), grid=((1, 1),), anchors=(((1.0, 1.0),),))
    assert alone.tensors == {"thing.boxes": (4,), "thing.scores": (1,)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "a")}, "different names expected, found a, a"),
        ({"grid": ((0, 4), (1, 1))}, "rows and columns of 1 or more expected"),
        ({"anchors": (((0.1, 0.1),),)}, "some for each of 2 scales expected"),
        ({"anchors": (((0.1, 40),), ((0.1, 0.1),))}, "fractions of the picture"),
        ({"confidence": 1.0}, r"outputs.boxes.confidence: must be in \(0, 1\), found 1.0"),
        ({"max_boxes": 1000}, "1 to 300 expected, found 1000"),
        ({"grid": ((60, 80), (1, 1))}, "at most 30,000 numbers expected, found 9,602 slots of 4 and 3"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(change: dict, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        dataclasses.replace(OUTPUT, **change)


def test_a_perfect_answer_says_the_label() -> None:
    for label, answer in zip(SCENES, ANSWERS, strict=True):
        found = TASK.decode(answer)
        real = label[label[:, 0] >= 0]
        assert sorted(t["class"] for t in found) == sorted(NAMES[int(place)] for place in real[:, 0])
        for thing in found:
            assert thing["confidence"] == pytest.approx(1 / (1 + np.exp(-4.0)))
            x, y, width, height = thing["box"]
            nearest = np.abs(real[:, 1:] - (x + width / 2, y + height / 2, width, height)).max(axis=1).min()
            assert nearest < 1e-6
    assert TASK.error(ANSWERS, SCENES).tolist() == [0.0] * len(SCENES)
    assert TASK.label_error(SCENES, SCENES).tolist() == [0.0] * len(SCENES)


def slow_nms(boxes: NDArray, sure: NDArray, places: NDArray, iou: float) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-sure, kind="stable"):
        if all(places[i] != places[j] or iou_matrix(boxes[[i]], boxes[[j]])[0, 0] <= iou for j in kept):
            kept.append(int(i))
    return kept


def test_of_overlapping_boxes_of_a_class_the_surest_is_left() -> None:
    rng = np.random.default_rng(0)
    raw = np.concatenate((rng.uniform(0, 1, OUTPUT.slots * 4), rng.normal(0, 2, OUTPUT.slots * 3))).astype(np.float32)
    found = TASK.found(raw)
    scores = raw[OUTPUT.slots * 4 :].reshape(-1, 3).astype(float)
    sure, places = 1 / (1 + np.exp(-scores.max(axis=1))), scores.argmax(axis=1)
    some = np.flatnonzero(sure >= 0.25)
    boxes = SLOTS.decode(raw[: OUTPUT.slots * 4].reshape(-1, 4)[some], some)
    kept = slow_nms(boxes, sure[some], places[some], 0.5)[:100]
    assert 20 < len(kept) < len(some)
    assert found.places.tolist() == places[some][kept].tolist()
    assert np.allclose(found.boxes, boxes[kept])
    assert np.all(np.diff(found.confidence) <= 0)
    assert len(TASK.found(raw, most=5).places) == 5


def test_numbers_beyond_all_bounds_stay_finite() -> None:
    wild = np.full(OUTPUT.shape, 1e30, np.float32)
    assert all(np.isfinite(thing["box"]).all() for thing in TASK.decode(wild))


def test_labels_are_of_the_picture_and_of_the_own_classes() -> None:
    recorded = np.full((4, 3, 5), np.nan, np.float32)
    recorded[0, 0] = (1, 0.5, 0.5, 0.2, 0.2)  # In the middle, of the recording's second class.
    recorded[0, 1] = (0, 0.5, 0.06, 0.1, 0.1)  # In the upper quarter, which is cut off.
    recorded[0, 2] = (0, 0.5, 0.25, 0.1, 0.2)  # Half of it is left.
    recorded[1, 0, 0] = -1
    recorded[2, 0] = (2, 0.5, 0.5, 0.2, 0.2)  # Of a class that the net does not learn.
    picture = Picture(height=60, width=80, color="bgr", crop_top=0.25)
    windows = np.tile(np.array(window_of(400, 400, picture)) / 400, (4, 1))
    found = TASK.labels(recorded, ("sign", "cone", "moon"), windows)
    assert found[0, :2, 0].tolist() == [0, 2] and np.isnan(found[0, 2]).all()
    assert found[0, 0, 1:] == pytest.approx([0.5, 1 / 3, 0.2, 0.2 / 0.75])
    assert found[0, 1, 1:] == pytest.approx([0.5, 0.05 / 0.75, 0.1, 0.1 / 0.75])
    assert found[1, 0, 0] == found[2, 0, 0] == -1 and np.isnan(found[1:3, 1:]).all()
    assert TASK.known(found).tolist() == [True, True, True, False]
    assert TASK.words(found[0]) == "1 cone, 1 sign" and TASK.words(found[1]) == "nothing"
    assert TASK.words(found[3]) == "unknown"


def test_boxes_in_a_letterbox_come_back_to_the_frame() -> None:
    """A wide frame has bars above and below; a picture that was stretched has none."""
    for fit in ("letterbox", "stretch"):
        window = window_of(300, 600, Picture(height=60, width=60, color="bgr", fit=fit))
        fractions = np.array([window]) / (600, 300, 600, 300)
        label = np.full((1, 1, 5), np.nan, np.float32)
        label[0, 0] = (1, 0.3, 0.2, 0.2, 0.3)
        moved = TASK.labels(label, NAMES, fractions)[0]
        value = TASK.in_frame(TASK.decode(answer_to(moved)), window)
        assert value[0]["box"] == pytest.approx([0.2 * 600, 0.05 * 300, 0.2 * 600, 0.3 * 300], abs=1e-3)
    outside = [{"class": "car", "confidence": 1.0, "box": [0.4, -0.1, 0.2, 0.2]}]
    assert TASK.in_frame(outside, (0.0, -150.0, 600.0, 600.0)) == [], "it lies in the bar above the frame"


def test_moved_boxes_are_upright_around_their_corners() -> None:
    label = np.array([[[1, 0.3, 0.4, 0.2, 0.1], [0, 0.9, 0.5, 0.1, 0.1]]], np.float32)
    mirrored = moved_by(label, np.array([[[-1, 0, 1], [0, 1, 0]]]))
    assert mirrored[0, 0] == pytest.approx([1, 0.7, 0.4, 0.2, 0.1]) and mirrored[0, 1, 1] == pytest.approx(0.1)
    quarter = moved_by(label, np.array([[[0, -1, 1], [1, 0, 0]]]))
    assert quarter[0, 0] == pytest.approx([1, 0.6, 0.3, 0.1, 0.2])
    shifted = moved_by(label, np.array([[[1, 0, 0.08], [0, 1, 0]]]))
    assert shifted[0, 1] == pytest.approx([0, 0.965, 0.5, 0.07, 0.1], abs=1e-6), "cut at the edge"
    gone = moved_by(label, np.array([[[1, 0, 0.135], [0, 1, 0]]]))
    assert np.isnan(gone[0, 1]).all() and gone[0, 0, 0] == 1, "less than a fifth is left of it"
    nothing = moved_by(label, np.array([[[1, 0, 2], [0, 1, 0]]]))
    assert nothing[0, 0, 0] == -1 and np.isnan(nothing[0, 1]).all()
    assert np.isnan(inside(np.full((2, 2, 5), np.nan))).all(), "nobody looked"


def test_each_label_is_found_once() -> None:
    there, classes = np.array([[0.1, 0.1, 0.2, 0.2]]), np.array([0])
    said = np.array([[0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.2, 0.21], [0.1, 0.1, 0.2, 0.2]])
    assert matched(said, np.array([1, 0, 0]), there, classes, 0.5).tolist() == [-1, 0, -1]


def test_the_error_is_one_less_f1_and_nothing_costs_one() -> None:
    label = np.full((3, 2, 5), np.nan, np.float32)
    label[0] = ((0, 0.2, 0.2, 0.1, 0.1), (1, 0.7, 0.7, 0.3, 0.3))
    label[1, 0, 0] = -1
    only_one = label[0].copy()
    only_one[1] = np.nan
    said = np.stack([answer_to(only_one), answer_to(label[1]), answer_to(label[0])])
    assert TASK.error(said, label)[:2] == pytest.approx([1 - 2 / 3, 0])
    assert np.isnan(TASK.error(said, label)[2])
    still = np.broadcast_to(np.asarray(TASK.constant(label)), said.shape)
    assert TASK.error(still, label)[:2].tolist() == [1.0, 0.0] and TASK.decode(still[0].astype(np.float32)) == []


def test_what_is_asked_of_a_file_is_what_labels_need() -> None:
    low, high = TASK.asked(SCENES)["boxes.boxes"]
    assert (low, high) == (0.0, 1.0)
    tiny = np.full((1, 1, 5), np.nan, np.float32)
    tiny[0, 0] = (0, 0.5, 0.5, 0.01, 0.01)
    low, _ = TASK.asked(tiny)["boxes.boxes"]
    assert low == pytest.approx(0.5 + np.log2(0.01 / 0.1) / 4)


def test_deviations_count_boxes_as_far_as_somebody_goes_by_them() -> None:
    other = ANSWERS.copy()
    empty = int(np.flatnonzero(ANSWERS[0, 480:].reshape(-1, 3).max(axis=1) < 0)[0])
    other[0, 4 * empty] += 0.4
    assert TASK.deviation(ANSWERS, other)[0] < 1e-3
    sure = int(ANSWERS[1, 480:].reshape(-1, 3).max(axis=1).argmax())
    other[1, 4 * sure + 2] += 0.4
    assert TASK.deviation(ANSWERS, other)[1] == pytest.approx(0.4, rel=0.05)
    other[2, -1] = 0.0
    assert TASK.deviation(ANSWERS, other)[2] == pytest.approx(0.5, abs=0.01)


def evidence(said: NDArray[np.float32], labels: NDArray[np.float32] = SCENES) -> Evidence:
    return Evidence(
        said=said, expected=ANSWERS, labels=labels, drives=["a"] * len(said),
        pictures=np.zeros((len(said), 1, 1, 1), np.uint8),
    )  # fmt: skip


def faults(found: Evidence, precision: str) -> dict[str, str]:
    figures = {rule.name: (rule, rule.figure(found)) for rule in TASK.gates()}
    told = {
        name: rule.fault(figure, rule.limits[precision], len(found.said)) for name, (rule, figure) in figures.items()
    }
    return {name: text for name, text in told.items() if text}


def test_the_training_models_own_answers_pass_every_gate() -> None:
    assert faults(evidence(ANSWERS), "float32") == {}
    assert faults(evidence(ANSWERS, np.full_like(SCENES, np.nan)), "float32") == {}


def test_a_box_at_the_edge_of_confidence_may_come_and_go() -> None:
    edge = np.stack([answer_to(label, sure=-1.09) for label in SCENES])
    less = np.stack([answer_to(label, sure=-1.12) for label in SCENES])
    task = BoxesTask(OUTPUT)
    found = dataclasses.replace(evidence(less), expected=edge)
    assert len(task.decode(edge[0])) and not len(task.decode(less[0]))
    figures = {rule.name: rule.figure(found) for rule in task.gates()}
    assert figures["lost_boxes"].mean == 0 and figures["new_boxes"] is None
    back = dataclasses.replace(found, said=edge, expected=less)
    assert {rule.name: rule.figure(back) for rule in task.gates()}["new_boxes"].mean == 0


def int8(values: NDArray[np.float32]) -> NDArray[np.float32]:
    step = np.ptp(values) / 255
    return (values / step).round() * step


def own_step(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate((int8(answers[:, :480]), int8(answers[:, 480:])), axis=1)


def one_step_in_pixels(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes in pixels of a picture of 640 beside probabilities, as some exporters have them."""
    pixels, said = answers[:, :480] * 640, 1 / (1 + np.exp(-answers[:, 480:]))
    step = np.ptp(pixels) / 255
    said = np.clip((said / step).round() * step, 1e-6, 1 - 1e-6)
    return np.concatenate(((pixels / step).round() * step / 640, np.log(said / (1 - said))), axis=1)


def axes_swapped(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    changed = answers.copy()
    changed[:, :480] = answers[:, :480].reshape(-1, 120, 4)[..., [1, 0, 3, 2]].reshape(-1, 480)
    return changed


def another_strides_anchors(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sizes as if the coarse scale's anchors were the fine one's."""
    wrong = dataclasses.replace(OUTPUT, anchors=OUTPUT.anchors[::-1])
    return np.stack([answer_to(label, output=wrong) for label in SCENES])


def padding_as_boxes(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    changed = answers.copy()
    changed[:, 480:].reshape(-1, 120, 3)[:, -3:, 0] = 3.0
    return changed


def by_position(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores first, as an interpreter's order may have them."""
    return np.concatenate((answers[:, 480:], answers[:, :480]), axis=1)


def classes_swapped(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    changed = answers.copy()
    changed[:, 480:] = answers[:, 480:].reshape(-1, 120, 3)[..., [1, 0, 2]].reshape(-1, 360)
    return changed


def stretched(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of pictures that were stretched where the labels are of a letterbox."""
    labels = SCENES.copy()
    labels[..., 2], labels[..., 4] = 0.5 + (labels[..., 2] - 0.5) * 1.33, labels[..., 4] * 1.33
    return np.stack([answer_to(label) for label in inside(labels)])


def missed(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """A tenth of all boxes is not said any more."""
    changed = answers.copy()
    pictures, places = np.nonzero(answers[:, 480:] > 0)
    changed[pictures[::10], 480 + places[::10]] = -8
    return changed


@pytest.mark.parametrize(
    ("plant", "gates"),
    [
        (one_step_in_pixels, {"lost_boxes", "mae_increase"}),
        (axes_swapped, {"lost_boxes", "mae_increase"}),
        (another_strides_anchors, {"lost_boxes", "new_boxes", "mae_increase"}),
        (padding_as_boxes, {"max_error", "new_boxes", "mae_increase"}),
        (by_position, {"max_error", "lost_boxes", "mae_increase"}),
        (classes_swapped, {"max_error", "lost_boxes", "new_boxes", "mae_increase"}),
        (stretched, {"lost_boxes", "new_boxes"}),
        (missed, {"max_error", "lost_boxes"}),
    ],
)
def test_every_planted_fault_is_caught(plant: Callable[[Raw], Raw], gates: set[str]) -> None:
    assert faults(evidence(own_step(ANSWERS)), "int8") == {}
    assert faults(evidence(plant(ANSWERS)), "int8").keys() >= gates


def test_who_draws_shows_each_box_in_the_colour_of_its_class() -> None:
    frame = np.zeros((240, 320, 3), np.uint8)
    drawing.draw_on(frame, [{"class": "car", "confidence": 0.9, "box": [40.0, 60.0, 100.0, 120.0]},
                            {"class": "cone", "confidence": 0.5, "box": [-10.0, -10.0, 60.0, 300.0]}])  # fmt: skip
    assert tuple(frame[120, 40]) == drawing.color_of("car") and frame[70, 100].sum() == 0
    assert tuple(frame[239, 30]) == drawing.color_of("cone"), "cut at the frame's edge"
    small = np.zeros((40, 100, 3), np.uint8)
    TASK.draw(small, TASK.decode(ANSWERS[0]), (10, 10, 60, 20), (0, 0, 255), SCENES[0])
    assert (small == (0, 0, 255)).all(axis=2).any() and (small == drawing.MARK).all(axis=2).any()
