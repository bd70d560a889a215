"""Halves of the calibration frames that disagree, and the cause that is named."""

from __future__ import annotations

import numpy as np

from sepilot_export.convert.ranges import PerSampleRanges
from sepilot_export.quantize.calibration import CHOICES, select, spared
from sepilot_export.quantize.calibration_choice import ChoiceError, choice_warnings
from sepilot_export.quantize.calibration_stability import stability, stability_warnings
from sepilot_runtime.contract.contract import Scalar
from sepilot_train.base.frame_set import FrameSet

OUTPUTS = (Scalar(name="steering"),)

NAMES = tuple(f"{i}.jpg" for i in range(200))


def reaches(count: int = 100, tensors: int = 12, spread: float = 0.05, seed: int = 0) -> PerSampleRanges:
    """Every picture reaches about as far as the next."""
    rng = np.random.default_rng(seed)
    high = rng.uniform(1, 4, tensors) * (1 - spread * rng.random((count, tensors)))
    return PerSampleRanges(tensors=tuple(map(str, range(tensors))), low=-0.3 * high, high=high)


def told(found: PerSampleRanges, drives: tuple[str, ...] | None = None) -> str:
    (line,) = stability_warnings(found, drives or ("monday",) * len(found), NAMES)
    return line


def test_steady_frames_give_no_warning() -> None:
    found = reaches()
    assert stability_warnings(found, ("a",) * 100, NAMES) == []
    assert stability(found).worst < 0.06


def test_a_tensor_that_is_always_zero_disagrees_with_nothing() -> None:
    found = reaches(tensors=3)
    found.high[:, 1] = found.low[:, 1] = 0.0
    assert stability_warnings(found, ("a",) * 100, NAMES) == []
    silent = PerSampleRanges(tensors=("x",), low=np.zeros((10, 1)), high=np.zeros((10, 1)))
    assert stability_warnings(silent, ("a",) * 10, NAMES) == []


def test_an_outlier_is_named_with_its_drive() -> None:
    found = reaches()
    found.high[37] *= 3
    line = told(found, ("monday",) * 30 + ("tuesday",) * 70)
    assert "37.jpg of drive tuesday alone reaches 2." in line and "by 6" in line


def test_three_outliers_are_named_and_ten_are_not() -> None:
    found = reaches()
    found.high[[3, 41, 77]] *= 3
    assert all(name in told(found) for name in ("3.jpg", "41.jpg", "77.jpg"))
    many = reaches()
    many.high[1:20:2] *= 3
    assert "too few" in told(many)


def test_a_drive_unlike_the_others_is_named() -> None:
    """Half of its frames reach far, by chance more of them in one half of the set."""
    found = reaches(120)
    drives = tuple("night" if i % 6 == 1 else "day" for i in range(120))
    found.high[1::6] *= 4
    line = told(found, drives)
    assert "drive night (20 of 120 frames) is unlike the others" in line


def test_too_few_frames_are_told() -> None:
    rng = np.random.default_rng(4)
    high = rng.lognormal(0, 1.2, (16, 12))
    line = told(PerSampleRanges(tensors=tuple("abcdefghijkl"), low=-high, high=high))
    assert "16 frames are too few" in line and "--calibration-frames" in line


def error(choice: str, mean: float, p99: float, most: float, output: str = "steering") -> ChoiceError:
    unit = "deg" if output == "steering" else ""
    return ChoiceError(choice=choice, output=output, unit=unit, mean=mean, p99=p99, max=most)  # type: ignore[arg-type]


def test_a_choice_that_is_clearly_better_is_recommended() -> None:
    tails, random = error("tails", 0.11, 0.47, 1.3), error("random", 0.10, 0.48, 1.4)
    first = error("first", 0.15, 2.5, 6)
    assert choice_warnings("tails", [tails, random, first]) == []
    (line,) = choice_warnings("first", [tails, random, first])
    assert "--calibration tails" in line
    # A smaller mean does not outweigh a worse tail.
    assert choice_warnings("tails", [tails, error("random", 0.05, 0.9, 1.3)]) == []


def test_a_choice_that_one_output_pays_for_is_not_recommended() -> None:
    tails, random = error("tails", 0.11, 0.47, 1.3), error("random", 0.05, 0.20, 1.3)
    told = [tails, random, error("tails", 0.02, 0.05, 0.1, "throttle")]
    (line,) = choice_warnings("tails", [*told, error("random", 0.02, 0.05, 0.1, "throttle")])
    assert "mean of steering 0.050° against 0.110°" in line
    assert choice_warnings("tails", [*told, error("random", 0.03, 0.05, 0.1, "throttle")]) == []


def test_choices_of_calibration_frames_and_those_that_are_spared() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"{i}.jpg" for i in range(300))
    pictures, labels = rng.integers(0, 256, (300, 4, 4, 1), np.uint8), rng.uniform(-1, 1, 300).astype(np.float32)
    training = FrameSet(pictures=pictures, drives=("a",) * 300, names=names, labels={"steering": labels})
    taken: set[int] = set()
    for choice in CHOICES:
        found = select(training, {"steering": labels}, OUTPUTS, count=40, seed=0, choice=choice)
        assert len(set(found.index.tolist())) == 40
        assert set(found.reasons) == {choice} if choice != "tails" else len(set(found.reasons)) > 3
        taken |= set(found.index.tolist())
    assert set(select(training, {"steering": labels}, OUTPUTS, count=40, seed=0, choice="first").index) == set(
        range(40)
    )
    free = spared(300, taken, 100)
    assert len(free) == 100 and not set(free.tolist()) & taken and list(free) == sorted(free)
    assert len(spared(30, set(range(20)), 100)) == 10 and len(spared(20, set(range(20)), 100)) == 0
