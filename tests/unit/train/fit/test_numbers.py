"""What goes beside augmented pictures."""

from __future__ import annotations

import numpy as np
import pytest

from sepilot_runtime.base.errors import RecipeError
from sepilot_runtime.contract.vector import Vector
from sepilot_train.fit.numbers import Numbers, given
from sepilot_train.fit.outputs.scalar.target import ScalarTarget

TARGETS = {"steering": ScalarTarget(unit="deg", positive="right", mirror="negate", label="angle")}
MIRRORED = np.array([False, True])


def test_a_mirrored_picture_turns_what_was_said_before_and_swaps_the_sides() -> None:
    asked = {
        "before": Numbers(previous="steering"),
        "command": Numbers(one_hot=("left", "ahead", "right"), mirror_pairs=(("left", "right"),)),
        "speed": Numbers(),
    }
    numbers = {name: one.settled(name, TARGETS) for name, one in asked.items()}
    assert numbers["before"].columns == ("angle",)
    vectors = {
        "before": np.array([[0.5], [0.5]], np.float32),
        "command": np.array([[1, 0, 0], [1, 0, 0]], np.float32),
        "speed": np.array([[3], [3]], np.float32),
    }
    found = given(numbers, vectors, MIRRORED, np.zeros((2, 3), np.float32))
    assert found["before"].tolist() == [[0.5], [-0.5]]
    assert found["command"].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found["speed"].tolist() == [[3], [3]]


def test_dropout_gives_zeros_to_its_share() -> None:
    numbers = {"speed": Numbers(dropout=0.3).settled("speed", TARGETS)}
    chances = np.linspace(0, 1, 100, endpoint=False, dtype=np.float32)[:, np.newaxis]
    found = given(numbers, {"speed": np.ones((100, 1), np.float32)}, np.zeros(100, bool), chances)
    assert found["speed"].sum() == 70


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"previous": "brake"}, "one of steering expected, found brake"),
        ({"one_hot": ("left", "right"), "columns": ("a", "b")}, "one column of 2 places"),
        ({"one_hot": ("left", "right"), "mirror_pairs": (("left", "up"),)}, "mirror_pairs"),
        ({"one_hot": ("left", "right"), "scale": 2.0}, "neither negated nor divided"),
        ({"scale": 0.0}, "scale"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_what_cannot_be_is_refused(spoilt: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Numbers(**spoilt).settled("v", TARGETS).vector("v")  # type: ignore[arg-type]


def test_numbers_of_a_recording() -> None:
    """The first frame and one after a pause have none before them; what stands for no place is not known."""
    before = np.array([-1, 0, -1, 2])
    command = Vector(name="c", size=2, columns=("command",), one_hot=("left", "right"))
    found = command.numbers({"command": np.array([0, 1, 2, np.nan])}, before)
    assert found[:2].tolist() == [[1, 0], [0, 1]] and np.isnan(found[2:]).all()
    last = Vector(name="b", size=1, columns=("angle",), previous="steering")
    found = last.numbers({"angle": np.array([0.1, 0.2, np.nan, 0.4])}, before)
    assert found[:, 0].tolist() == pytest.approx([0, 0.1, 0, 0])
