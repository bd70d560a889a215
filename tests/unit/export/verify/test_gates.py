"""What a gate lets through and what not, to the very edge of its limit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import model_factory as factory
from model_factory import steering_output
from sepilot_export.convert.formats import GateLimits, format_named
from sepilot_export.verify.fidelity import Fidelity, Interval
from sepilot_export.verify.gates import (
    contract_reasons,
    drop_from,
    faults_of,
    judge,
    override,
    preprocessing_reasons,
    remarks,
)
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.contract.contract import FrameInput, Picture

OUTPUT = steering_output(scale=25.0)
LIMITS = {"max_error": 0.02, "mae_increase": 0.002, "sign_flips": 0.01, "saturated": 0.02}
FORM = format_named("float32.tflite")
CONTRACT = factory.contract_of()


def fidelity(**changes: Any) -> Fidelity:
    """One that keeps every gate by the whole width of its limits."""
    figures = {"max_error": 0.0, "sign_flips": 0, "saturated": 0, "mae_increase": None}
    return Fidelity(mean_error=0.0, p99_error=0.0, max_error=0.0, figures={**figures, **changes})


def kinds(found: Fidelity, limits: GateLimits = LIMITS, frames: int = 1000) -> list[str]:
    return [fault.gate for fault in faults_of(found, limits, OUTPUT, frames)]


@pytest.mark.parametrize(
    ("key", "most", "over"), [("max_error", 0.5, 0.501), ("sign_flips", 10, 11), ("saturated", 20, 21)]
)
def test_a_limit_is_kept_to_its_very_edge(key: str, most: float, over: float) -> None:
    assert kinds(fidelity(**{key: most})) == []
    assert kinds(fidelity(**{key: over})) == [key]


def test_a_figure_that_is_no_number_fails() -> None:
    assert kinds(fidelity(max_error=float("nan"))) == ["max_error"]
    nan = float("nan")
    assert kinds(fidelity(mae_increase=Interval(mean=nan, low=nan, high=nan))) == ["mae_increase"]


@pytest.mark.parametrize("key", ["sign_flips", "saturated"])
def test_a_share_of_a_few_frames_is_one_whole_frame(key: str) -> None:
    limits = {**LIMITS, key: 0.011}
    assert kinds(fidelity(**{key: 1}), limits, 60) == []
    assert kinds(fidelity(**{key: 2}), limits, 60) == [key]
    assert kinds(fidelity(**{key: 1}), {**LIMITS, key: 0.0}, 60) == [key]


def test_the_whole_interval_of_the_task_must_lie_below_its_limit() -> None:
    assert kinds(fidelity(mae_increase=Interval(mean=0.001, low=0.0005, high=0.002))) == []
    assert kinds(fidelity(mae_increase=Interval(mean=0.001, low=0.0005, high=0.00201))) == ["mae_increase"]


def test_an_interval_wider_than_the_limit_counts_only_where_all_of_it_lies_above() -> None:
    wide = Interval(mean=0.0015, low=0.0005, high=0.0026)
    assert kinds(fidelity(mae_increase=wide)) == []
    assert len(list(remarks(fidelity(mae_increase=wide), LIMITS, OUTPUT))) == 1
    above = Interval(mean=0.004, low=0.0021, high=0.0063)
    assert kinds(fidelity(mae_increase=above)) == ["mae_increase"]
    # Exactly as wide as the limit can still tell.
    edge = {**LIMITS, "mae_increase": 0.25}
    just = Interval(mean=0.25, low=0.125, high=0.375)
    assert kinds(fidelity(mae_increase=just), edge) == ["mae_increase"]
    assert list(remarks(fidelity(mae_increase=just), edge, OUTPUT)) == []
    assert list(remarks(fidelity(), LIMITS, OUTPUT)) == []


def test_reasons_are_in_the_unit_of_the_output() -> None:
    found = fidelity(max_error=1.0, sign_flips=30, saturated=40, mae_increase=Interval(mean=0.1, low=0.099, high=0.1))
    assert list(judge(found, LIMITS, OUTPUT, 1000)) == [
        "max error 1 deg, at most 0.5 (0.02 of full scale) allowed",
        "task MAE +0.10000, 95 % within +0.09900 to +0.10000, +0.00200 allowed",
        "30 of 1000 frames steered to the other side",
        "40 of 1000 frames saturated: the file cannot steer as far as they ask for",
    ]


# --- Preprocessing inside the file ------------------------------------------------------------------------------------


def test_a_file_must_answer_to_frames_as_to_opencvs_pictures() -> None:
    plain = np.array([0.25, -0.5, 0.0], np.float32)
    assert list(preprocessing_reasons(plain + np.float32(0.03125), plain, OUTPUT)) == []
    assert list(preprocessing_reasons(plain, None, OUTPUT)) == []
    (reason,) = preprocessing_reasons(plain + np.array([0, 0.04, 0], np.float32), plain, OUTPUT)
    assert "by up to 1 deg, at most 0.875 allowed" in reason
    (reason,) = preprocessing_reasons(plain - np.array([0, 0, 0.04], np.float32), plain, OUTPUT)
    assert len(list(preprocessing_reasons(np.full(3, np.nan, np.float32), plain, OUTPUT))) == 1


# --- --max-drop -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "drop"), [("0.002", 0.002), ("0.5deg", 0.02), (" 3 deg ", 0.12), ("2", 2.0)])
def test_a_drop_is_in_label_units_or_degrees(word: str, drop: float) -> None:
    assert drop_from(word, OUTPUT) == pytest.approx(drop)


@pytest.mark.parametrize("word", ["", "deg", "5rad", "x"])
def test_a_drop_that_is_no_number(word: str) -> None:
    with pytest.raises(UsageError, match=r"--max-drop: a number of label units or of deg, .*found"):
        drop_from(word, OUTPUT)


@pytest.mark.parametrize("word", ["0", "-0.1", "0deg", "inf", "nan", "-inf"])
def test_a_drop_is_above_nothing_and_below_everything(word: str) -> None:
    with pytest.raises(UsageError, match="--max-drop: a number above 0 expected"):
        drop_from(word, OUTPUT)


# --- The contract in the file -----------------------------------------------------------------------------------------


def reason(**changes: Any) -> str:
    (found,) = contract_reasons(dataclasses.replace(CONTRACT, **changes), CONTRACT, FORM)
    return found


def test_the_runs_own_contract_has_no_reason() -> None:
    assert list(contract_reasons(CONTRACT, CONTRACT, FORM)) == []


def test_each_part_of_the_contract_is_compared() -> None:
    other = factory.contract_of(Picture(height=CONTRACT.picture.height, width=CONTRACT.picture.width, crop_top=0.5))
    assert "picture.crop_top: " in reason(inputs=other.inputs)
    frame = FrameInput(height=48, width=64)
    assert reason(frame=frame).endswith(f"frame: None expected, found {frame!r}")
    outputs = (dataclasses.replace(CONTRACT.outputs[0], scale=90.0),)
    assert reason(outputs=outputs).endswith("outputs[0].scale: 25.0 expected, found 90.0")
    for key in ("recipe_sha256", "dataset_fingerprint"):
        before = getattr(CONTRACT.provenance, key)
        changed = dataclasses.replace(CONTRACT.provenance, **{key: "f" * 64})
        assert reason(provenance=changed) == (
            f"its contract is not this run's: provenance.{key}: {before!r} expected, found {'f' * 64!r}"
        )
    golden = (*CONTRACT.golden[:-1], dataclasses.replace(CONTRACT.golden[-1], picture_crc32=7))
    assert f"golden[{len(golden) - 1}].picture_crc32: " in reason(golden=golden)
    assert reason(golden=CONTRACT.golden[:-1]) == "its contract is not this run's: golden differs"


def test_the_precision_is_the_formats() -> None:
    found = factory.with_precision(CONTRACT, "int8")
    reasons = list(contract_reasons(found, CONTRACT, FORM))
    assert reasons == ["its contract says int8, float32 expected"]


def test_only_the_first_difference_is_told() -> None:
    other = dataclasses.replace(CONTRACT.picture, crop_top=0.5)
    outputs = (dataclasses.replace(CONTRACT.outputs[0], scale=90.0),)
    found = dataclasses.replace(CONTRACT, inputs=(other,), outputs=outputs)
    assert len(list(contract_reasons(found, CONTRACT, FORM))) == 1


def test_what_is_too_long_to_print_is_only_named() -> None:
    """Up to eighty characters are shown."""

    def told(text: str) -> str:
        changed = dataclasses.replace(CONTRACT.provenance, recipe_sha256=text)
        return reason(provenance=changed)

    assert "expected, found" in told("f" * 80)
    assert told("f" * 81).endswith("provenance.recipe_sha256 differs")


# --- --gate -----------------------------------------------------------------------------------------------------------


ONE, TWO = {"steering": LIMITS}, {"steering": LIMITS, "throttle": LIMITS}


def test_a_gate_for_all_files_or_for_some() -> None:
    assert override(ONE, "int8", ["max_error=0.5"])["steering"]["max_error"] == 0.5
    assert override(ONE, "int8", ["int8.max_error=0.5"])["steering"]["max_error"] == 0.5
    assert override(ONE, "int8", ["float16.max_error=0.5"]) == ONE
    changed = {**LIMITS, "saturated": 0.0, "sign_flips": 1.0}
    assert override(ONE, "int8", ["saturated=0", "sign_flips=1"]) == {"steering": changed}
    assert override(ONE, "int8", []) == ONE


def test_a_gate_for_all_outputs_or_for_one() -> None:
    loose = {**LIMITS, "max_error": 0.5}
    assert override(TWO, "int8", ["max_error=0.5"]) == {"steering": loose, "throttle": loose}
    for word in ("throttle.max_error=0.5", "int8.throttle.max_error=0.5"):
        assert override(TWO, "int8", [word]) == {"steering": LIMITS, "throttle": loose}
    assert override(TWO, "int8", ["float16.throttle.max_error=0.5"]) == TWO
    with pytest.raises(UsageError, match=r"\[PRECISION.\]\[OUTPUT.\]KEY=VALUE .*OUTPUT one of steering, throttle"):
        override(TWO, "int8", ["int8.brake.max_error=1"])


@pytest.mark.parametrize("word", ["speed=1", "int9.max_error=1", "int8.speed=1", "max_error.int8=1", "", "int8.=1"])
def test_a_gate_that_is_none(word: str) -> None:
    with pytest.raises(UsageError, match="KEY one of max_error, mae_increase, sign_flips, saturated"):
        override(ONE, "int8", [word])


def test_a_gate_without_a_number() -> None:
    with pytest.raises(UsageError, match="--gate max_error=x: a number expected, found 'x'"):
        override(ONE, "int8", ["max_error=x"])
    for text in ("-0.1", "nan"):
        with pytest.raises(UsageError, match="a number from 0 on expected"):
            override(ONE, "int8", [f"max_error={text}"])
