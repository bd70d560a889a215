"""What `sepilot check` says about a file that fails: a planted fault for each cause; silence where nothing is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export_factory import write_record
from model_factory import PICTURE, contract_of, frames, steering_of, with_precision, write_onnx, write_tflite
from sepilot_export.record.exports import EXPORT_NAME
from sepilot_export.verify import causes, check
from sepilot_export.verify.causes import advice_of
from sepilot_export.verify.check import candidates_of, check_files
from sepilot_export.verify.file_check import Advice
from sepilot_export.verify.gates import Fault, Kind
from sepilot_export.verify.reference import REFERENCE_NAME, Reference, read_reference
from sepilot_runtime.base.files import sha256_of
from sepilot_runtime.base.processor import NO_VNNI, int8_kernels
from sepilot_runtime.cli import main
from sepilot_runtime.contract.contract import Contract
from sepilot_runtime.contract.preprocess import picture_of

MADE = ("float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx")
COUNT = 200


def reference_of(contract: Contract, most: float = 1.0) -> Reference:
    """`most`: the model's largest answer to either side."""
    pictures = np.stack([picture_of(f, PICTURE) for f in frames(COUNT, seed=1)])
    said = np.array([steering_of(p) for p in pictures], np.float32).clip(-most, most)
    labels = (said + np.random.default_rng(0).normal(0, 0.15, COUNT)).clip(-1, 1).astype(np.float32)
    return Reference(
        pictures=pictures, drives=("held",) * COUNT, names=tuple(map(str, range(COUNT))), labels={"steering": labels},
        predictions={"steering": said}, constant={"steering": 0.0}, contract=contract,
    )  # fmt: skip


def write_export(folder: Path, contract: Contract | None = None, **more: Any) -> Path:
    """An export of the ramp model whose export.json knows its files' bytes. `more`: goes into export.json."""
    contract = contract or contract_of()
    folder.mkdir()
    write_tflite(folder / "ramp-float32.tflite", contract)
    write_tflite(folder / "ramp-int8.tflite", contract, int8=True)
    write_onnx(folder / "ramp-float32.onnx", contract)
    write_onnx(folder / "ramp-int8.onnx", with_precision(contract, "int8"))
    reference_of(contract).save(folder / REFERENCE_NAME)
    write_record(folder, more.pop("files", MADE), **more)
    return folder


def sealed_anew(folder: Path) -> None:
    """The bytes that lie there now are those that the export wrote."""
    content = json.loads((folder / EXPORT_NAME).read_text())
    for row in content["files"]:
        row["sha256"] = sha256_of(folder / row["file"])
    (folder / EXPORT_NAME).write_text(json.dumps(content))


def advice(folder: Path, name: str) -> Advice | None:
    checks = {c.candidate.form.name: c for c in check_files(candidates_of(folder), read_reference(folder))}
    assert not checks[name].passed
    return checks[name].advice


def answering(
    monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    """From now on the interpreter gives other answers for the file `name` than what stands in it."""
    plain = check.answers_to

    def run(infer: Any, items: Any) -> dict[str, NDArray[np.float32]]:
        answers = plain(infer, items)
        own = infer.__self__.engine.path.name.endswith(f"-{name}")
        return {output: change(values) for output, values in answers.items()} if own else answers

    monkeypatch.setattr(check, "answers_to", run)


def test_bytes_that_the_export_did_not_write_are_the_cause(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "export")
    write_tflite(folder / "ramp-int8.tflite", int8=True, gain=0.4)
    found = advice(folder, "int8.tflite")
    assert found and "another SHA-256" in found.cause and "copy it again" in found.next_step
    (folder / "ramp-int8.tflite").unlink()
    found = advice(folder, "int8.tflite")
    assert found and "no longer there" in found.cause


def wrong_in_some_frames(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """As 16-bit sums that saturate: rare, and large."""
    return np.where(np.arange(len(answers)) % 20 == 0, answers - 0.8, answers).astype(np.float32)


def test_kernels_are_the_cause_where_the_same_file_is_right_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_export(tmp_path / "export", processor={"cpu": "a", "int8_kernels": "AVX-VNNI"})
    answering(monkeypatch, "int8.onnx", wrong_in_some_frames)
    monkeypatch.setattr(causes, "int8_kernels", lambda: NO_VNNI)
    found = advice(folder, "int8.onnx")
    kernels = f"{NO_VNNI}; exported on AVX-VNNI"
    assert found and found.cause.startswith(f"this processor's int8 kernels ({kernels}): their 16-bit sums saturate; ")
    assert "off on its 64 worst frames, not 20" in found.cause
    assert found.next_step == "export again with this version, or take int8.tflite"
    # Other kernels may be wrong, too, but do not saturate.
    monkeypatch.setattr(causes, "int8_kernels", lambda: "dot products")
    found = advice(folder, "int8.onnx")
    assert found and "(dot products; exported on AVX-VNNI); computed in float32" in found.cause
    assert main(["check", str(folder)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"cause: {found.cause}" in said and f"next: {found.next_step}" in said
    row = next(r for r in json.loads((folder / "check.json").read_text())["files"] if r["format"] == "int8.onnx")
    assert (row["cause"], row["next_step"]) == (found.cause, found.next_step)


def test_kernels_are_not_blamed_for_a_wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_export(tmp_path / "export")
    write_onnx(folder / "ramp-int8.onnx", with_precision(contract_of(), "int8"), gain=0.4)
    sealed_anew(folder)
    monkeypatch.setattr(causes, "int8_kernels", lambda: NO_VNNI)
    found = advice(folder, "int8.onnx")
    assert found and found.cause == "int8 itself: float32.onnx passes"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "--max-drop 0.5deg, which keeps the worst layers in float32, or take float32.tflite"),
        ({"max_drop": 0.002}, "a smaller --max-drop than 0.002, or take float32.tflite"),
        ({"of_training": True}, "take float32.tflite"),
    ],
)
def test_int8_that_costs_too_much_is_told_from_a_model_that_does_not_convert(
    tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    rows = [{"format": n} | ({"of_training": True} if more.get("of_training") else {}) for n in MADE]
    folder = write_export(tmp_path / "export", max_drop=more.get("max_drop"), files=rows)
    write_tflite(folder / "ramp-int8.tflite", int8=True, gain=0.4)
    sealed_anew(folder)
    found = advice(folder, "int8.tflite")
    assert found and found.cause == "int8 itself: float32.tflite passes" and found.next_step.endswith(words)
    # Where float32 fails as well, int8 is not to blame, and nothing is known.
    write_tflite(folder / "ramp-float32.tflite", gain=0.4)
    sealed_anew(folder)
    assert advice(folder, "int8.tflite") is None and advice(folder, "float32.tflite") is None


def test_an_output_that_is_too_narrow_is_told_from_a_model_that_has_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_export(tmp_path / "export")
    answering(monkeypatch, "int8.tflite", lambda answers: answers.clip(-0.2, 0.2))
    found = advice(folder, "int8.tflite")
    assert found and "its answers end at 5.0 deg to one side, the training model's at 9.8" in found.cause
    assert "--calibration-frames" in found.next_step
    reference_of(contract_of(), most=0.2).save(folder / REFERENCE_NAME)
    found = advice(folder, "int8.tflite")
    assert found and "the training model itself gives its last answer" in found.cause


def test_golden_frames_of_another_model_are_told_from_a_bad_net(tmp_path: Path) -> None:
    contract = contract_of()
    golden = tuple(
        dataclasses.replace(g, expected={"steering": (g.expected["steering"][0] + 0.3,)}) for g in contract.golden
    )
    folder = write_export(tmp_path / "export", dataclasses.replace(contract, golden=golden))
    found = advice(folder, "float32.onnx")
    assert found and "its answers to the held-out frames are right, so its golden frames" in found.cause


def test_a_file_of_another_run_is_told(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "export")
    provenance = dataclasses.replace(contract_of().provenance, recipe_sha256="9" * 64)
    write_onnx(folder / "ramp-float32.onnx", dataclasses.replace(contract_of(), provenance=provenance))
    sealed_anew(folder)
    found = advice(folder, "float32.onnx")
    assert found and "of another training run" in found.cause


@pytest.mark.parametrize(("off", "known"), [(0.0, True), (0.5, False)])
def test_the_preprocessing_is_the_cause_where_the_net_alone_is_right(tmp_path: Path, off: float, known: bool) -> None:
    folder = write_export(tmp_path / "export")
    reference = read_reference(folder)
    good = next(check_files(candidates_of(folder), reference))
    bad = dataclasses.replace(good, faults=(Fault(kind=Kind.PREPROCESSING, text="pixels"),))
    plain = {"float32.tflite": {"steering": reference.predictions["steering"] + np.float32(off)}}
    found = advice_of(bad, {}, dataclasses.replace(reference, plain=plain))
    assert (found is not None and found.cause.startswith("the preprocessing inside the file")) is known


def test_a_format_that_was_not_exported_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = [
        {"format": name, "reason": "the quantizer crashed", "way_out": "take float32.onnx"}
        for name in ("int8.tflite", "int8-twin.onnx")
    ]
    folder = write_export(tmp_path / "export", files=[{"format": n} for n in MADE if n != "int8.tflite"], failed=lost)
    (folder / "ramp-int8.tflite").unlink()
    assert main(["check", str(folder)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "FAIL int8.tflite, int8-twin.onnx (made from it): was not exported: the quantizer crashed" in said
    assert "next: take float32.onnx" in said and said.count("FAIL") == 1
    found = json.loads((folder / "check.json").read_text())
    assert found["passed"] is False and found["not_exported"] == lost
    assert all(row["passed"] for row in found["files"])


@pytest.mark.parametrize(
    "failed", [{}, ["int8.onnx"], [{"format": "int8.onnx"}], [{"format": "x", "reason": "", "way_out": ""}]]
)
def test_a_damaged_list_of_failures_is_one_line(
    tmp_path: Path, failed: object, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_export(tmp_path / "export", failed=failed)
    assert main(["check", str(folder)]) == 2
    assert "export.json" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_the_verdict_is_whole_in_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the longest name, and figures of every width."""
    folder = tmp_path / "export"
    folder.mkdir()
    write_tflite(folder / "ramp-float32.tflite")
    write_tflite(folder / "ramp-int8-float-head.tflite", with_precision(contract_of(), "int8-float-head"), gain=-1.0)
    reference_of(contract_of()).save(folder / REFERENCE_NAME)
    write_record(folder, ("float32.tflite", "int8-float-head.tflite"))
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["check", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("pass float32.tflite  ") for line in lines)
    row = next(line for line in lines if line.startswith("FAIL int8-float-head.tflite "))
    assert "…" not in row and len(row.split()) == 9 and len(row) <= 80
    assert lines[-1].endswith(f"int8 kernels: {int8_kernels()}")
