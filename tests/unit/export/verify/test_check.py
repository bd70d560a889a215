"""`sepilot check` on files made without TensorFlow: verdicts, exit codes, what it writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drive_factory import write_tub
from export_factory import write_record
from model_factory import PICTURE, contract_of, frames, steering_of, write_onnx, write_tflite
from repository import ROOT
from sepilot_export.record.exports import EXPORT_NAME, SeenDrive, SeenDrives
from sepilot_export.verify.reference import REFERENCE_NAME, Reference, read_reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.recording.opening import open_drives
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.cache import load_pictures
from sepilot_train.run.request import wanted_frames

MADE = ("float32.tflite", "int8.tflite", "float32.onnx")


def reference_of() -> Reference:
    rng = np.random.default_rng(0)
    pictures = np.stack([picture_of(f, PICTURE) for f in frames(150, seed=1)])
    predictions = np.array([steering_of(p) for p in pictures], np.float32)
    return Reference(
        pictures=pictures,
        drives=("held",) * 150,
        names=tuple(f"{i}.jpg" for i in range(150)),
        labels={"steering": (predictions + rng.normal(0, 0.15, 150)).clip(-1, 1).astype(np.float32)},
        predictions={"steering": predictions},
        constant={"steering": 0.0},
        contract=contract_of(),
    )


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An export directory of the ramp model."""
    folder = tmp_path / "export"
    folder.mkdir()
    write_tflite(folder / "ramp-float32.tflite")
    write_tflite(folder / "ramp-int8.tflite", int8=True)
    write_onnx(folder / "ramp-float32.onnx")
    reference_of().save(folder / REFERENCE_NAME)
    seen = SeenDrives(reader=ReaderOptions(), filter=DriveFilter(), seen=())
    write_record(folder, [{"format": name, "sha256": ""} for name in MADE], drives=dataclasses.asdict(seen))
    return folder


def remember(folder: Path, tub: Path, *, train: int, validation: int, **options: object) -> None:
    """Write into export.json that the run has seen `tub`, under a name that says nothing."""
    filter_ = DriveFilter(**options)  # type: ignore[arg-type]
    (drive,) = open_drives([tub], ReaderOptions())
    fingerprint = load_pictures(wanted_frames(drive, filter_, 0.05), PICTURE, progress=False).fingerprint
    seen = SeenDrive(id="mon/data", fingerprint=fingerprint, train=train, validation=validation)
    record = json.loads((folder / EXPORT_NAME).read_text())
    record["drives"] = dataclasses.asdict(SeenDrives(reader=ReaderOptions(), filter=filter_, seen=(seen,)))
    (folder / EXPORT_NAME).write_text(json.dumps(record))


def rows(folder: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    return {r["format"]: r for r in json.loads((folder / "check.json").read_text())["files"]}


def test_clean_files_pass_and_are_reported(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(exported)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("pass") == len(MADE) and "FAIL" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    found = json.loads((exported / "check.json").read_text())
    assert found["passed"] and found["reference"]["frames"] == 150
    assert found["reference"]["constant_mae"] > found["reference"]["task_mae"] > 0
    for row in found["files"]:
        assert 0 <= row["mean_error_deg"] <= row["p99_error_deg"] <= row["max_error_deg"] < 1
        assert row["mae_increase"]["low"] <= row["mae_increase"]["mean"] <= row["mae_increase"]["high"]
        assert row["bytes"] == (exported / row["file"]).stat().st_size
    assert (exported / "check.png").read_bytes()[:4] == b"\x89PNG"
    (pair,) = found["witnesses"]
    assert pair["precision"] == "float32" and pair["max_deg"] < 1e-3


def test_a_file_with_other_weights_fails_alone(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tflite(exported / "ramp-int8.tflite", int8=True, gain=0.4)
    assert main(["check", str(exported)]) == 1
    assert "FAIL ramp-int8.tflite: " in capsys.readouterr().out
    found = rows(exported)
    assert [found[name]["passed"] for name in MADE] == [True, False, True]
    assert any("max error" in r for r in found["int8.tflite"]["reasons"])


def test_gates_come_from_the_export_and_yield_to_flags(exported: Path) -> None:
    assert main(["check", str(exported), "--gate", "int8.max_error=0.0001"]) == 1
    assert rows(exported)["int8.tflite"]["limits"]["max_error"] == 0.0001
    record = json.loads((exported / EXPORT_NAME).read_text())
    record["files"][1]["limits"]["max_error"] = 0.0001
    (exported / EXPORT_NAME).write_text(json.dumps(record))
    assert main(["check", str(exported)]) == 1
    assert main(["check", str(exported), "--gate", "int8.max_error=0.1"]) == 0
    assert main(["check", str(exported), "--gate", "int8.max=0.1"]) == 2


def test_json_goes_to_stdout_alone(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(exported), "--json", "--png", str(exported / "here.png")]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert (exported / "here.png").exists() and not (exported / "check.png").exists()


def test_another_models_contract_is_told(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = contract_of()
    other = dataclasses.replace(base, provenance=dataclasses.replace(base.provenance, recipe_sha256="9" * 64))
    write_onnx(exported / "ramp-float32.onnx", other)
    assert main(["check", str(exported)]) == 1
    assert "not this run's: provenance.recipe_sha256" in " ".join(capsys.readouterr().out.split())


def test_a_file_in_the_wrong_place_is_told(exported: Path) -> None:
    write_tflite(exported / "ramp-int8.tflite")
    assert main(["check", str(exported)]) == 1
    assert "its contract says float32, int8 expected" in rows(exported)["int8.tflite"]["reasons"]


@pytest.mark.parametrize("fault", ["truncated", "missing", "no contract", "text"])
def test_files_that_do_not_open_exit_with_2(exported: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = exported / "ramp-float32.onnx"
    content = path.read_bytes()
    if fault == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "missing":
        path.unlink()
    elif fault == "no contract":
        write_onnx(path, text="")
    else:
        path.write_text("not a model")
    assert main(["check", str(exported)]) == 2
    assert "FAIL ramp-float32.onnx: " in capsys.readouterr().out
    found = rows(exported)
    assert found["float32.tflite"]["passed"] and not found["float32.onnx"]["passed"]


def test_what_is_no_export_is_refused(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path / "nothing", tmp_path, exported / "ramp-float32.onnx"):
        assert main(["check", str(folder)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("sepilot: ") and len(err.splitlines()) == 1
    write_onnx(exported / "stranger.onnx")
    assert main(["check", str(exported)]) == 2
    assert "stranger.onnx: not of this export" in capsys.readouterr().err


def test_a_damaged_reference_is_refused(exported: Path) -> None:
    path = exported / REFERENCE_NAME
    content = path.read_bytes()
    for bad in (content[: len(content) // 2], b"", b"PK no zip"):
        path.write_bytes(bad)
        with pytest.raises(RunError, match="damaged"):
            read_reference(exported)
    path.unlink()
    with pytest.raises(RunError, match="a directory of `sepilot export` expected"):
        read_reference(exported)


def test_the_reference_survives_writing(exported: Path) -> None:
    a, b = reference_of(), read_reference(exported)
    assert np.array_equal(a.pictures, b.pictures) and np.array_equal(
        a.predictions["steering"], b.predictions["steering"]
    )
    assert (a.drives, a.names, a.contract, a.constant) == (b.drives, b.names, b.contract, b.constant)


def test_exports_from_before_there_were_several_outputs_are_read(exported: Path) -> None:
    """Their arrays have no output's name, and their rows the limits of the only one."""
    with np.load(exported / REFERENCE_NAME) as data:
        arrays = {key: data[key] for key in data.files}
    for older, key in (("labels", "label"), ("predictions", "answer"), ("constant", "constant")):
        arrays[older] = arrays.pop(f"{key}:steering")
    np.savez(exported / REFERENCE_NAME, **arrays)
    found, before = read_reference(exported), reference_of()
    assert np.array_equal(found.predictions["steering"], before.predictions["steering"])
    assert found.constant == before.constant
    assert not any(row.get("outputs") for row in json.loads((exported / EXPORT_NAME).read_text())["files"])
    assert main(["check", str(exported)]) == 0


def test_other_drives_are_compared_with_a_float32_file_that_passed(exported: Path, tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "sunday", 40)
    assert main(["check", str(exported), "--drives", str(tub)]) == 0
    found = json.loads((exported / "check.json").read_text())
    assert found["reference"]["frames"] == 150 and found["drives"]["reference"]["frames"] == 40
    assert "ramp-float32.tflite" in found["drives"]["reference"]["source"]
    assert [r["format"] for r in found["drives"]["files"]] == list(MADE)


@pytest.mark.parametrize(("train", "validation", "how"), [(30, 10, "trained"), (30, 0, "trained"), (0, 40, "judged")])
def test_a_drive_that_the_run_has_seen_is_refused_by_its_content(
    exported: Path, tmp_path: Path, train: int, validation: int, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = [0.3] * 30 + [0.0] * 10
    seen = write_tub(tmp_path / "mon" / "data", 40, throttle=moving)
    remember(exported, seen, train=train, validation=validation, first=3)
    copied = shutil.copytree(seen, tmp_path / "elsewhere" / "another")
    for path in (seen, copied):
        assert main(["check", str(exported), "--drives", str(path)]) == 2
        error = capsys.readouterr().err
        assert f"{path}: the model was {how} on this drive (mon/data)" in error and error.count("\n") == 1


def test_another_drive_of_a_seen_drives_name_is_new(exported: Path, tmp_path: Path) -> None:
    remember(exported, write_tub(tmp_path / "mon" / "data", 40), train=40, validation=0)
    other = write_tub(tmp_path / "fri" / "data", 30)
    assert main(["check", str(exported), "--drives", str(other)]) == 0
    assert json.loads((exported / "check.json").read_text())["drives"]["reference"]["frames"] == 30


def test_an_export_that_does_not_know_its_drives_takes_no_others(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((exported / EXPORT_NAME).read_text())
    del record["drives"]
    (exported / EXPORT_NAME).write_text(json.dumps(record))
    assert main(["check", str(exported), "--drives", str(write_tub(tmp_path / "sunday", 40))]) == 2
    assert "export.json: drives: missing" in capsys.readouterr().err


def test_other_drives_need_a_float32_file_that_passed(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tub = write_tub(tmp_path / "sunday", 40)
    for name in ("tflite", "onnx"):
        (write_tflite if name == "tflite" else write_onnx)(exported / f"ramp-float32.{name}", gain=0.9)
    assert main(["check", str(exported), "--drives", str(tub)]) == 2
    assert "a float32 file that passed" in capsys.readouterr().err


def test_check_needs_no_tensorflow(exported: Path) -> None:
    """The whole verb with TensorFlow, Keras and the converters blocked from import."""
    code = (
        "import sys\n"
        "for n in ('tensorflow', 'keras', 'tf_keras', 'onnx', 'tf2onnx', 'ai_edge_quantizer', 'jax'):\n"
        "    sys.modules[n] = None\n"
        "from sepilot_export.commands.check import main\n"
        f"sys.exit(main([{str(exported)!r}]))\n"
    )
    path = os.pathsep.join(str(ROOT / part) for part in ("runtime", "train", "export"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pass") == len(MADE)
    assert done.stderr == ""
