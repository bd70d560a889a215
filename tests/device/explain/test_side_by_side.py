"""Two files over one recording: the figures are right, and a file that steers otherwise is caught."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import ConstantEngine
from model_factory import (
    BIAS,
    CLASSES,
    STEERING,
    THROTTLE_BIAS,
    classes_contract,
    contract_of,
    frames,
    two_output_contract,
    write_onnx,
    write_tflite,
)
from sepilot_runtime.base.errors import DriveError, OutputError, UsageError
from sepilot_runtime.commands.compare import main
from sepilot_runtime.contract.contract import Picture, Scalar
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.pilot import Pilot
from sepilot_runtime.explain.side_by_side import (
    Answers,
    Said,
    answers_of,
    difference,
    judgement,
    latencies,
    worst_frames,
)
from sepilot_runtime.source.protocol import Frame


def said(a: NDArray[np.floating], b: NDArray[np.floating], recorded: NDArray[np.floating] | None = None) -> Said:
    labels = np.full(len(a), np.nan) if recorded is None else np.asarray(recorded, np.float64)
    constant = np.nan if recorded is None else labels.mean()
    return Said(
        outputs=(STEERING, STEERING),
        decoded=(a / STEERING.scale, b / STEERING.scale),
        values=np.array([a, b], np.float64),
        contrary=task_of(STEERING).contrary(a / STEERING.scale, b / STEERING.scale),
        recorded=labels,
        errors=np.abs(np.stack([a, b, np.full(len(a), constant)]) - labels),
    )


def answers(found: Said) -> Answers:
    count = len(found.recorded)
    return Answers(
        ids=np.arange(count),
        times_s=np.arange(count) / 20,
        said={"steering": found},
        latency_us=np.ones((2, count)),
    )


def test_the_figures_of_a_known_difference() -> None:
    a = np.array([-10.0, -1.0, 0.2, 1.0, 10.0])
    b = a + np.array([0.0, 2.0, -0.5, 0.3, -4.0])
    found = difference(said(a, b))
    assert found.frames == 5 and found.contrary == 1
    assert found.mean == pytest.approx(1.36) and found.bias == pytest.approx(-0.44)
    assert found.p50 == pytest.approx(0.5) and found.p99 == found.max == pytest.approx(4.0)
    assert found.far == pytest.approx(3 / 5)
    assert found.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_a_file_and_itself_do_not_differ() -> None:
    a = np.linspace(-20, 20, 50)
    found = difference(said(a, a))
    assert found.max == found.far == found.contrary == 0 and found.correlation == pytest.approx(1)


def test_a_constant_correlates_with_nothing() -> None:
    assert difference(said(np.zeros(5), np.arange(5.0))).correlation is None


def test_the_better_file_is_named_and_the_worthless_one_too() -> None:
    rng = np.random.default_rng(0)
    recorded = 15 * np.sin(np.arange(1000) / 40)
    good, bad = recorded + rng.normal(0, 1, 1000), rng.normal(0, 15, 1000)
    judged = judgement(said(good, bad, recorded))
    assert judged is not None and judged.b_over_a.low > 0
    assert judged.over_constant[0].high < 0 < judged.over_constant[1].low
    assert judged.mae[0] == pytest.approx(np.abs(good - recorded).mean())
    assert judged.constant_mae == pytest.approx(np.abs(recorded - recorded.mean()).mean())
    # The same error on other frames is no difference.
    equal = judgement(said(good, recorded - (good - recorded), recorded))
    assert equal is not None and equal.b_over_a.low <= 0 <= equal.b_over_a.high


def test_without_labels_nothing_is_judged() -> None:
    assert judgement(said(np.zeros(3), np.ones(3))) is None


def test_the_worst_frames_lie_apart() -> None:
    apart = np.zeros(100)
    apart[[20, 21, 22, 70]] = [3, 9, 3, 5]
    found = said(np.zeros(100), apart)
    assert worst_frames(answers(found), found, 2) == [21, 70]


def test_both_see_every_frame_in_turns() -> None:
    order: list[str] = []

    class Noted(ConstantEngine):
        def run(self) -> Mapping[str, NDArray[np.float32]]:
            order.append(self.path.name)
            return self.answers

    first, second = (Pilot(Noted(contract_of(), value, path=Path(name))) for name, value in (("a", 0.1), ("b", -0.2)))
    given = [
        Frame(id=i, time_s=i / 20, image=f, arrived_ns=0, labels={"steering": 0.5}) for i, f in enumerate(frames(4))
    ]
    found = answers_of(first, second, given)
    assert "".join(order) == "ab" + "abbaabba"
    np.testing.assert_allclose(found.said["steering"].values, [[2.5] * 4, [-5.0] * 4])
    np.testing.assert_allclose(found.said["steering"].recorded, 12.5)
    assert all(latency.count == 4 and latency.min_us > 0 for latency in latencies(found))


def test_no_frames_are_no_comparison() -> None:
    pilot = Pilot(ConstantEngine(contract_of()))
    with pytest.raises(DriveError, match="no frame"):
        answers_of(pilot, pilot, [])


# --- The verb -------------------------------------------------------------------------------------------------------


def test_formats_agree_and_the_gate_holds(
    files: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    a, b = str(files["float32.tflite"]), str(files["int8.tflite"])
    assert main([a, b, "--frames", str(images), "--max-diff", "1", "--out", str(out), "--count", "3"]) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    assert cv2.imread(str(out / "worst.png")).shape[1] > 1000
    document = json.loads((out / "compare.json").read_text())
    assert 0 < document["outputs"]["steering"]["difference"]["max"] < 1
    assert document["outputs"]["steering"]["judgement"] is None
    assert [file["precision"] for file in document["files"]] == ["float32", "int8"]


def test_a_planted_fault_fails_the_gate(
    files: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Within the wide tolerance of an int8 contract, so that it opens: 0.025 of full scale are 0.6 degrees.
    bent = write_tflite(tmp_path / "bent.tflite", int8=True, bias=BIAS + 0.025)
    argv = [str(files["float32.tflite"]), str(bent), "--frames", str(images)]
    assert main([*argv, "--max-diff", "0.4"]) == 1
    assert "apart, 0.4° allowed by --max-diff" in capsys.readouterr().err
    assert main([*argv, "--max-diff", "1.5"]) == 0


def test_files_of_other_pictures_and_engines_compare(
    files: dict[str, Path], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = write_onnx(tmp_path / "wide.onnx", contract_of(Picture(height=24, width=40, color="bgr", crop_top=0.25)))
    assert main([str(files["float32.tflite"]), str(wide), "--frames", str(images), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [file["picture"] for file in document["files"]] == [[12, 20, 1], [24, 40, 3]]
    assert [file["engine"] for file in document["files"]] == ["litert", "onnxruntime"]
    assert document["outputs"]["steering"]["difference"]["correlation"] > 0.9


def test_mistakes_are_named(files: dict[str, Path], images: Path, tmp_path: Path) -> None:
    a, b = str(files["float32.tflite"]), str(files["float32.onnx"])
    with pytest.raises(UsageError, match="one of litert"):
        main([a, b, "--frames", str(images), "--engine", "onnxruntime"])
    with pytest.raises(UsageError, match="found 3"):
        main([a, b, "--frames", str(images), "--engine", "litert,litert,litert"])
    with pytest.raises(UsageError, match="live source"):
        main([a, b, "--frames", "rtsp://car/road"])
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="exists"):
        main([a, b, "--frames", str(images), "--out", str(tmp_path / "taken")])


def test_every_output_that_both_have_is_compared(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """B's throttle, named, is 0.1 higher; its steering is the same. The gate of each output is its own."""
    both = write_tflite(tmp_path / "a.tflite", two_output_contract(), more={"throttle": THROTTLE_BIAS})
    loose = dataclasses.replace(two_output_contract(), tolerance={"steering": 0.2, "throttle": 0.2})
    other = write_onnx(tmp_path / "b.onnx", loose, more={"throttle": THROTTLE_BIAS + 0.1})
    argv = [str(both), str(other), "--frames", str(images)]
    assert main([*argv, "--json"]) == 0
    outputs = json.loads(capsys.readouterr().out)["outputs"]
    assert list(outputs) == ["steering", "throttle"] and outputs["throttle"]["unit"] == ""
    assert outputs["steering"]["difference"]["max"] < 1e-3
    assert 0.05 < outputs["throttle"]["difference"]["max"] < 0.11
    assert main([*argv, "--max-diff", "steering=1", "--max-diff", "throttle=0.2"]) == 0
    table = capsys.readouterr().out
    assert "steering:" in table and "throttle:" in table and max(map(len, table.splitlines())) <= 80
    assert main([*argv, "--max-diff", "throttle=0.01", "--out", str(tmp_path / "worst.png")]) == 1
    assert "throttle 0.10 apart, 0.01 allowed by --max-diff" in capsys.readouterr().err


def test_files_without_a_common_output_do_not_compare() -> None:
    pilots = [Pilot(ConstantEngine(contract_of(outputs=(Scalar(name=name),), golden=0))) for name in ("speed", "brake")]
    with pytest.raises(UsageError, match="no output of one name"):
        answers_of(*pilots, [])
    metres = Pilot(ConstantEngine(contract_of(outputs=(Scalar(name="speed", unit="m/s"),), golden=0)))
    with pytest.raises(UsageError, match="speed: one unit expected, found '' and 'm/s'"):
        answers_of(pilots[0], metres, [])


def test_two_files_with_their_classes_in_another_order_are_held_against_the_same_names() -> None:
    """B says the opposite of what A says, by numbers; by names the two are one."""
    contract = classes_contract()
    other = dataclasses.replace(contract, outputs=(dataclasses.replace(CLASSES, names=CLASSES.names[::-1]),))
    pilots = [Pilot(ConstantEngine(c)) for c in (contract, other)]
    for pilot, numbers in zip(pilots, ((0.0, 2.0), (2.0, 0.0)), strict=True):
        pilot.engine.run()["class"][:] = numbers  # type: ignore[index]
    seen = [
        Frame(id=i, time_s=i, image=f, arrived_ns=0, labels={"class": float(i % 3)}, label_names={"class": SHOWN})
        for i, f in enumerate(frames(6))
    ]
    found = answers_of(*pilots, seen).said["class"]
    assert found.recorded == [*SHOWN, *SHOWN]
    # The class "behind" is none of theirs: of nobody's error.
    np.testing.assert_equal(found.errors[:2], [[0, np.nan, 1] * 2] * 2)
    judged = judgement(found)
    assert judged is not None and judged.frames == 4 and judged.mae == (0.5, 0.5)


SHOWN = ("right", "behind", "left")
