from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sepilot_runtime.base.errors import ContractError
from sepilot_runtime.contract.outputs.classes.output import Classes
from sepilot_runtime.contract.outputs.classes.task import ClassesTask, probabilities
from sepilot_runtime.contract.outputs.protocol import Evidence

SIGNS = ClassesTask(Classes(name="class", names=("stop", "yield", "turn-left")))
EVERYWHERE = np.tile([0.0, 0.0, 1.0, 1.0], (6, 1))


def evidence(said: NDArray[np.float64], expected: NDArray[np.float64], labels: list[float]) -> Evidence:
    n = len(said)
    pictures = np.zeros((n, 2, 2, 1), np.uint8)
    return Evidence(
        said=said, expected=expected, labels=np.array(labels, np.float32), drives=["d"] * n, pictures=pictures
    )


def sure(classes: list[int], by: float = 8.0) -> NDArray[np.float64]:
    """Logits of answers that are sure of these classes."""
    return np.eye(3)[classes] * by


def faults(found: Evidence, precision: str = "int8") -> list[str]:
    rules = {rule.name: rule for rule in SIGNS.gates()}
    said = [rule.fault(rule.figure(found), rule.limits[precision], len(found.said)) for rule in rules.values()]
    return [text for text in said if text]


def test_the_most_probable_class_is_said_with_its_probability_and_of_equals_the_first() -> None:
    said = SIGNS.decode(np.array([0.0, 2.0, 1.0], np.float32))
    assert said == {"class": "yield", "probability": pytest.approx(np.exp(2) / (1 + np.exp(2) + np.exp(1)))}
    assert SIGNS.decode(np.array([1.0, 3.0, 3.0], np.float32))["class"] == "yield"
    assert SIGNS.decode(np.array([1e4, -1e4, 0.0], np.float32)) == {"class": "stop", "probability": 1.0}


def test_what_is_not_sure_enough_is_not_recognized() -> None:
    task = ClassesTask(Classes(name="class", names=("a", "b"), reject_below=0.8))
    assert task.decode(np.array([0.0, 0.1], np.float32))["class"] is None
    assert task.decode(np.array([0.0, 9.0], np.float32))["class"] == "b"
    assert task.words(task.decode(np.array([0.0, 0.0], np.float32))) == "not recognized 50%"


def test_probabilities_that_a_file_gives_are_taken_as_they_are() -> None:
    task = ClassesTask(Classes(name="class", names=("a", "b"), gives="probabilities"))
    assert task.decode(np.array([0.25, 0.75], np.float32)) == {"class": "b", "probability": 0.75}
    assert task.constant(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx([0.75, 0.25], abs=1e-5)
    assert probabilities(np.array(SIGNS.constant(np.array([0.0, 0.0, 1.0, 2.0])))[None])[0] == pytest.approx(
        [0.5, 0.25, 0.25], abs=1e-5
    )


def test_labels_are_found_by_their_names_whatever_a_recordings_order_is() -> None:
    recorded = np.array([0, 1, 2, np.nan, 1, 7], np.float32)
    found = SIGNS.labels(recorded, ("turn-left", "stop", "cow"), EVERYWHERE)
    assert found[:2].tolist() == [2, 0] and np.isnan(found[[2, 3, 5]]).all() and found[4] == 0
    assert SIGNS.known(found).tolist() == [True, True, False, False, True, False]
    assert SIGNS.labels(recorded[:3], (), EVERYWHERE[:3]).tolist() == [0, 1, 2]


def test_errors_are_wrong_classes() -> None:
    said = sure([0, 1, 2, 0])
    assert SIGNS.error(said, np.array([0.0, 1.0, 1.0, np.nan])).tolist()[:3] == [0, 0, 1]
    assert np.isnan(SIGNS.error(said, np.array([0.0, 1.0, 1.0, np.nan]))[3])
    assert SIGNS.label_error(np.array([0.0, 1.0]), np.array([0.0, 2.0])).tolist() == [0, 1]
    assert SIGNS.contrary(sure([0, 1]), sure([0, 2])).tolist() == [False, True]
    unsure = sure([0, 1], by=0.1)
    assert not SIGNS.contrary(unsure, sure([2, 2])).any(), "what is guessed contradicts nothing"


def test_a_file_that_says_the_same_passes() -> None:
    expected = sure([0, 1, 2, 0, 1, 2] * 20)
    labels = [0.0, 1.0, 2.0, 0.0, 1.0, 2.0] * 20
    assert not faults(evidence(expected, expected, labels), "float32")
    # Where two classes are as probable as each other, which one is said is no flip.
    tied = np.zeros((120, 3))
    tipped = tied + np.array([0.0, 0.01, 0.0])
    assert not faults(evidence(tipped, tied, [np.nan] * 120))


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (sure([1, 0, 2] * 40), "80 of 120 pictures of another class where the training model is sure"),
        (sure([0, 1, 2] * 40)[:, [1, 2, 0]], "120 of 120 pictures of another class"),
        (np.r_[sure([1, 0]), sure([2] + [0, 1, 2] * 39)], "one picture in a hundred has a probability moved by 0.8"),
    ],
    ids=["two names swapped", "names shifted by one", "two answers wrong"],
)
def test_what_changes_classes_is_caught(spoilt: NDArray[np.float64], words: str) -> None:
    expected, labels = sure([0, 1, 2] * 40), [0.0, 1.0, 2.0] * 40
    said = faults(evidence(spoilt, expected, labels))
    assert any(words in text for text in said), said


def test_an_error_rate_that_rises_is_caught_though_no_answer_was_sure() -> None:
    expected, labels = sure([0, 1, 2] * 400, by=0.3), [0.0, 1.0, 2.0] * 400
    spoilt = expected.copy()
    spoilt[::10] = sure([1], by=0.3)
    assert any("error rate" in text for text in faults(evidence(spoilt, expected, labels)))


def test_order_and_tails_show_every_class() -> None:
    said = np.r_[sure([2, 0, 1], 1.0), sure([0, 1, 2], 5.0)]
    order = SIGNS.ordered(said).tolist()
    assert order[0] == 3 and order[-1] == 5, "from the surest of the first class to the surest of the last"
    surest, least = SIGNS.tails(said, None)
    assert sorted(surest.order[:3].tolist()) == [3, 4, 5] and sorted(least.order[:3].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ("a",)}, "two classes or more"),
        ({"names": ("a", "a")}, "different names"),
        ({"names": ("a", "")}, "different names"),
        ({"names": ("a", "b"), "reject_below": 1.0}, "reject_below"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        Classes(name="class", **changes)  # type: ignore[arg-type]
