"""The command line from end to end, as a user runs it: record, train, export, check, bench, drive, closed loop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sepilot_runtime.cli import main
from sepilot_runtime.engine.model_file import read_model_file

pytestmark = pytest.mark.slow

SMALL = ["--set", "training.epochs=3", "--set", "training.batch_size=32", "--set", "model.options.stem=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def drives(folder: Path) -> Path:
    out = folder / "drives"
    assert main(["record", "--simulator", "builtin", "--drives", "4", "--frames", "120", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def run(drives: Path, folder: Path) -> Path:
    out = folder / "run"
    assert main(["train", str(drives), "--recipe", "swift", *SMALL, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def exported(run: Path, folder: Path) -> Path:
    out = folder / "export"
    assert main(["export", str(run), "--calibration-frames", "60", "--out", str(out)]) == 0
    return out


def test_a_run_directory_holds_what_it_promises(run: Path) -> None:
    for name in ("model.keras", "recipe.toml", "split.json", "history.csv", "predictions.npz", "contract.json"):
        assert (run / name).stat().st_size > 0
    assert {p.name for p in (run / "figures").iterdir()} == {"training.png", "scatter.png", "driving.png", "bins.png"}
    found = json.loads((run / "validation.json").read_text())
    assert found["metrics"]["constant_mae"] > 0 and found["leak"]["close_in_time"] == 0.0
    with np.load(run / "predictions.npz") as data:
        assert len(data["names"]) == len(data["answer:steering"]) == found["validation_frames"]


def test_every_format_passes_check_without_the_original_drives(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["check", str(exported), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["files"]
    assert {(r["engine"], r["precision"]) for r in rows} >= {
        ("litert", "float32"), ("litert", "float16"), ("litert", "dynamic"), ("litert", "int8"),
        ("onnxruntime", "float32"), ("onnxruntime", "float16"), ("onnxruntime", "int8"),
    }  # fmt: skip
    assert all(r["passed"] for r in rows)
    assert all(r["max_error_deg"] <= 25e-5 for r in rows if r["precision"] == "float32")


def test_a_drive_of_the_run_is_no_new_one(
    exported: Path, drives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(sorted(p for p in drives.iterdir() if p.is_dir())[0], tmp_path / "renamed")
    capsys.readouterr()
    assert main(["check", str(exported), "--drives", str(copy)]) == 2
    assert f"{copy}: the model was trained on this drive" in capsys.readouterr().err


def test_files_with_the_preprocessing_inside_take_the_cameras_frames(
    run: Path, drives: Path, exported: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "frames"
    assert main(["export", str(run), "--with-preprocessing", "--formats", "float32.tflite", "--out", str(out)]) == 0
    assert main(["check", str(out)]) == 0
    tub = str(sorted(p for p in drives.iterdir() if p.is_dir())[0])
    said = []
    for file in (exported / "swift-float32.tflite", out / "swift-frame-float32.tflite"):
        capsys.readouterr()
        assert main(["drive", str(file), "--source", tub, "--max-frames", "30", "--quiet"]) == 0
        said.append([json.loads(line)["raw"] for line in capsys.readouterr().out.splitlines()])
    # An OpenCV that rounds otherwise than most moves the answers a little.
    assert len(said[0]) == 30 and said[1] == pytest.approx(said[0], abs=0.01)


def test_every_file_carries_the_runs_contract(exported: Path, run: Path) -> None:
    promised = json.loads((run / "contract.json").read_text())
    files = [p for p in exported.iterdir() if p.suffix in (".tflite", ".onnx")]
    assert len(files) >= 8
    for path in files:
        contract = json.loads(read_model_file(path).contract.to_json())
        for key in ("inputs", "outputs", "statistics"):
            assert contract[key] == promised[key], (path.name, key)


def test_bench_measures_every_file(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(p) for p in sorted(exported.iterdir()) if p.stem.endswith("float32") and p.suffix != ".json"]
    capsys.readouterr()
    assert main(["bench", *files, "--rounds", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {Path(r["file"]).name for r in rows} == {Path(f).name for f in files}
    assert all(0 < r["us_p50"] <= r["us_p99"] for r in rows)


def test_drive_steers_over_a_recording(exported: Path, drives: Path, folder: Path) -> None:
    tub = next(p.parent for p in sorted(drives.rglob("manifest.json")))
    lines, video = folder / "drive.jsonl", folder / "drive.mp4"
    model = next(p for p in sorted(exported.iterdir()) if p.name.endswith("float32.tflite"))
    command = ["drive", str(model), "--source", str(tub), "--max-frames", "20", "--output", str(lines)]
    assert main([*command, "--overlay", str(video)]) == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == 20 and all(-1 <= r["steering"] <= 1 for r in rows)
    assert video.stat().st_size > 10_000


def test_closed_loop_lists_files_expert_and_control(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = next(p for p in sorted(exported.iterdir()) if p.name.endswith("float32.tflite"))
    capsys.readouterr()
    assert main(["closed-loop", str(model), "--worlds", "2", "--steps", "80", "--json"]) == 0
    rows = {r["driver"]: r for r in json.loads(capsys.readouterr().out)["results"]}
    assert {"expert", "steering = 0", model.name} <= set(rows)
    assert rows["expert"]["survived"] == 2


def test_training_resumes_to_the_same_weights(drives: Path, run: Path, folder: Path) -> None:
    """Kill after the first epoch, resume, compare with the run that nobody disturbed."""
    import keras

    from sepilot_train.run import training

    out = folder / "killed"
    real_fit = training.fit

    def killed(*args: object, **kwargs: object) -> object:
        def stop(row: dict[str, float]) -> None:
            raise KeyboardInterrupt

        return real_fit(*args, **{**kwargs, "on_epoch": stop})  # type: ignore[arg-type]

    training.fit = killed  # type: ignore[assignment]
    try:
        assert main(["train", str(drives), "--recipe", "swift", *SMALL, "--out", str(out)]) == 130
    finally:
        training.fit = real_fit
    assert not (out / "model.keras").exists()
    assert main(["export", str(out), "--out", str(folder / "no")]) == 2
    assert main(["train", "--resume", "--out", str(out)]) == 0
    a, b = (keras.saving.load_model(p / "model.keras", compile=False).get_weights() for p in (run, out))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_second_training_refuses_the_same_directory(
    drives: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "model.keras").read_bytes()
    assert main(["train", str(drives), "--out", str(run)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (run / "model.keras").read_bytes() == before


def test_resuming_with_another_recipe_is_refused(drives: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["train", str(drives), "--recipe", "swift", "--set", "training.epochs=9", "--resume", "--out", str(run)])
        == 2
    )
    assert "another recipe" in capsys.readouterr().err


def test_a_run_whose_drive_has_gone_says_so(
    run: Path, drives: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = folder / "moved"
    shutil.copytree(drives, folder / "copy")
    (folder / "copy").rename(moved)
    hidden = folder / "hidden"
    drives.rename(hidden)
    try:
        assert main(["export", str(run), "--formats", "float32.tflite", "--out", str(folder / "e2")]) == 2
        assert "--drives" in capsys.readouterr().err
        assert not (folder / "e2").exists()
    finally:
        hidden.rename(drives)


def test_preview_draws_a_sheet(drives: Path, folder: Path) -> None:
    sheet = folder / "sheet.png"
    assert main(["train", str(drives), "--recipe", "swift", "--preview", str(sheet)]) == 0
    assert sheet.read_bytes()[:4] == b"\x89PNG"
