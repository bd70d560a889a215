"""Arithmetic of points, by hand; and what a file must not do to them is caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_factory import contract_of
from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.outputs.points.drawing import draw_on
from sepilot_runtime.contract.outputs.points.output import Points
from sepilot_runtime.contract.outputs.points.task import PointsTask
from sepilot_runtime.contract.outputs.protocol import Evidence

EYES = Points(
    name="face", names=("left", "right", "mouth"), presence=True, flip_pairs=(("left", "right"),),
    skeleton=(("left", "right"),), normalize_by=("left", "right"),
)  # fmt: skip
FACE = PointsTask(EYES)
SHAPE = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.8]])
NAN = np.nan
WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])


def answers(shapes: NDArray[np.float64], logit: float = 4.0) -> NDArray[np.float64]:
    """(n, 7) of (n, 3, 2)."""
    return np.c_[shapes.reshape(len(shapes), -1), np.full(len(shapes), logit)]


def faces(count: int = 200) -> NDArray[np.float64]:
    return SHAPE + np.random.default_rng(0).normal(0, 0.03, (count, 3, 2))


def labels_of(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Not quite where the training model finds them."""
    return shapes + np.random.default_rng(1).normal(0, 0.015, shapes.shape)


def faults(said: NDArray[np.float64], expected: NDArray[np.float64], labels: Any, precision: str = "int8") -> list[str]:
    count = len(said)
    found = Evidence(
        said=said, expected=expected, labels=np.asarray(labels), drives=["d"] * count,
        pictures=np.zeros((count, 2, 2, 1), np.uint8),
    )  # fmt: skip
    texts = [rule.fault(rule.figure(found), rule.limits[precision], count) for rule in FACE.gates()]
    return [text for text in texts if text]


def test_points_are_said_by_name_and_moved_into_the_frame() -> None:
    said = FACE.decode(answers(SHAPE[None]).astype(np.float32)[0])
    assert said["present"] == pytest.approx(1 / (1 + np.exp(-4)))
    assert list(said["points"]) == ["left", "right", "mouth"] and said["points"]["mouth"] == pytest.approx([0.5, 0.8])
    moved = FACE.in_frame(said, (10.0, -20.0, 100.0, 200.0))
    assert moved["points"]["mouth"] == pytest.approx([60.0, 140.0])
    assert FACE.words(said) == "3 points 98%"
    beyond = FACE.decode(np.array([-0.2, 0.5, 1.3, 0.5, 0.5, 0.5, 0.0], np.float32))
    assert beyond["points"]["left"] == [0.0, 0.5] and beyond["points"]["right"] == [1.0, 0.5]


def test_where_nothing_is_no_point_is_said() -> None:
    said = FACE.decode(answers(SHAPE[None], -2.0).astype(np.float32)[0])
    assert said["points"] == {} and FACE.words(said) == "nothing 12%"
    assert FACE.in_frame(said, (0.0, 0.0, 9.0, 9.0)) == said
    target = PointsTask(Points(name="target", names=("target",)))
    assert list(target.output.tensors) == ["target"], "what is always there comes in one tensor"
    assert target.words(target.decode(np.array([0.25, 0.5], np.float32))) == "target at 0.25, 0.5"


def test_labels_go_by_name_into_the_picture_and_what_it_does_not_show_is_unknown() -> None:
    recorded = np.array([[[0.5, 0.9], [0.25, 0.5], [0.75, 0.5]]], np.float32)
    found = FACE.labels(recorded, ("mouth", "left", "right"), np.array([[0.0, 0.25, 1.0, 0.5]]))
    assert found[0, :2].tolist() == [[0.25, 0.5], [0.75, 0.5]] and np.isnan(found[0, 2]).all(), "the mouth is cut off"
    letterbox = FACE.labels(recorded, ("mouth", "left", "right"), np.array([[0.0, -0.5, 1.0, 2.0]]))
    assert letterbox[0, 2].tolist() == pytest.approx([0.5, 0.7])
    assert np.isnan(FACE.labels(recorded, ("left",), WHOLE)[0, 1:]).all()


def test_errors_are_shares_of_the_normalizer_and_1_for_what_is_or_is_not_there() -> None:
    labels = np.stack([SHAPE, SHAPE, SHAPE, np.full((3, 2), NAN), np.full((3, 2), NAN)])
    labels[1, 2] = NAN
    said = np.r_[answers(np.stack([SHAPE, SHAPE]) + np.array([0.04, 0.0])), answers(SHAPE[None], -3.0)]
    said = np.r_[said, answers(SHAPE[None]), answers(SHAPE[None], -3.0)]
    assert FACE.error(said, labels).tolist() == pytest.approx([0.1, 0.1, 1.0, 1.0, 0.0])
    assert FACE.known(labels).all()
    always = PointsTask(Points(name="face", names=EYES.names, normalize_by="box"))
    assert always.known(labels).tolist() == [True, True, True, False, False]
    box = np.sqrt(0.4 * 0.4)
    assert always.error(said[:, :6], labels)[:1].tolist() == pytest.approx([0.04 / box])
    assert np.isnan(always.error(said[:, :6], labels)[3:]).all()


def test_the_constant_is_the_mean_shape_of_what_is_known() -> None:
    labels = np.stack([SHAPE, SHAPE + 0.1, np.full((3, 2), NAN)])
    labels[1, 2] = NAN
    constant = np.array(FACE.constant(labels))
    assert constant[:6] == pytest.approx([0.35, 0.45, 0.75, 0.45, 0.5, 0.8])
    assert FACE.presence(constant[None])[0] == pytest.approx(2 / 3)


def test_a_file_that_says_nearly_the_same_passes() -> None:
    shapes = faces()
    expected = answers(shapes)
    assert not faults(expected, expected, labels_of(shapes), "float32")
    steps = np.round(expected * 255) / 255
    assert not faults(steps, expected, labels_of(shapes)), "an int8 tensor's steps are no fault"
    gone = answers(shapes, -4.0)
    assert not faults(gone + np.r_[[0.3] * 6, 0.0], gone, np.full_like(shapes, NAN)), (
        "where nothing is places say nothing"
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s[..., ::-1], "largest shift of a point"),
        (lambda s: s[:, [1, 0, 2]], "largest shift of a point"),
        (lambda s: np.stack([s[..., 0], 0.125 + 0.75 * s[..., 1]], axis=-1), "99th percentile of the shift"),
        (lambda s: s + 0.009 * np.sign(s - 0.5), "NME"),
    ],
    ids=["x and y swapped", "mirrored without its pairs", "letterbox for stretch", "a little too wide"],
)
def test_what_moves_points_is_caught(spoil: Any, words: str) -> None:
    shapes = faces()
    assert any(words in text for text in faults(answers(spoil(shapes)), answers(shapes), labels_of(shapes)))


def test_a_thing_that_appears_or_goes_is_caught_where_both_are_sure() -> None:
    shapes = faces()
    expected = answers(shapes)
    spoilt = expected.copy()
    spoilt[:5, -1] = -4.0
    assert any("5 of 200 pictures hold something for one" in text for text in faults(spoilt, expected, shapes))
    hardly = expected.copy()
    hardly[:, -1] = 0.05
    tipped = hardly - np.eye(7)[6] * 0.1
    assert not any("hold something" in text for text in faults(tipped, hardly, shapes))


def test_order_and_tails_show_all_that_is_said() -> None:
    shapes = np.stack([SHAPE + np.array([x, 0.0]) for x in (0.1, -0.2, 0.0, 0.2)])
    said = answers(shapes)
    said[2, -1] = -5.0
    assert FACE.ordered(said).tolist() in ([2, 1, 0, 3], [2, 3, 0, 1])
    left, right, unlike, unsure = FACE.tails(said, None)
    assert left.order[0] == 1 and right.order[0] == 3 and unlike.order[0] in (1, 3) and unsure.order[-1] == 2


def test_a_reading_falls_as_points_leave_their_places() -> None:
    there = answers(SHAPE[None])
    near, far, gone = answers(SHAPE[None] + 0.1), answers(SHAPE[None] + 0.3), answers(SHAPE[None], -4.0)
    found = [float(FACE.reading(said, there)[0]) for said in (there, near, far, gone)]
    assert found == sorted(found, reverse=True) and found[0] == pytest.approx(98.2, abs=0.05)


def test_a_contract_holds_them() -> None:
    contract = contract_of(outputs=(EYES,), golden=0)
    again = Contract.from_json(contract.to_json(), where="it")
    assert again.output("face") == EYES
    assert dict(again.tensors) == {"face.places": (6,), "face.presence": (1,)} and EYES.shape == (7,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ()}, "names: a point or more"),
        ({"names": ("a", "a")}, "names: different names"),
        ({"flip_pairs": (("a", "c"),)}, "flip_pairs: points among a, b expected, found c"),
        ({"flip_pairs": (("a", "b"), ("b", "a"))}, "flip_pairs: each point in one pair"),
        ({"skeleton": (("a", "a"),)}, "skeleton: two points expected"),
        ({"normalize_by": ("a", "z")}, "normalize_by: points among"),
        ({"presence_from": 1.0}, "presence_from"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        Points(**{"name": "points", "names": ("a", "b"), **changes})


def test_points_are_drawn_where_they_are() -> None:
    frame = np.zeros((90, 120, 3), np.uint8)
    draw_on(frame, {"present": 1.0, "points": {"left": [30.0, 40.0], "right": [90.0, 40.0]}}, EYES)
    assert frame[40, 30].any() and frame[40, 90].any() and frame[40, 60].any() and not frame[70].any()
    canvas = np.zeros((20, 120, 3), np.uint8)
    FACE.draw(canvas, {"present": 1.0, "points": {"left": [0.25, 0.4]}}, (10, 6, 100, 8), (0, 200, 0), SHAPE)
    assert canvas[8, 35, 1] == 200 and canvas[4, 40].any()
