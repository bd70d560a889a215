"""`sepilot compress` as a user runs it: a run in, a smaller run out, which every later verb takes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from drive_factory import write_tub
from sepilot_export.compress import tfmot
from sepilot_export.compress.recipe import compression_names, load_compression
from sepilot_runtime.base.errors import RecipeError
from sepilot_runtime.cli import main

pytestmark = pytest.mark.slow

TINY = [
    "--set", "training.epochs=12", "--set", "training.batch_size=32", "--set", "training.min_epoch_frames=1024",
    "--set", "picture.height=32", "--set", "picture.width=48", "--set", "picture.crop_top=0",
    "--set", "model.options.stem=8", "--set", "model.options.widths=[16, 16]", "--set", "model.options.repeats=[1, 1]",
    "--set", "model.options.dense=[16]",
]  # fmt: skip


#: A net of 2,000 weights has few int8 steps; float32 keeps its own gates.
COARSE = ["--gate", "int8.saturated=0.1", "--gate", "int8.mae_increase=0.02"]


def quick(*sections: str) -> list[str]:
    """Overrides that keep a compression to a few steps."""
    words = []
    for section in sections:
        for value in ("epochs=4", "min_epoch_frames=512", "batch_size=32"):
            words += ["--set", f"{section}.finetune.{value}"]
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compress")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    tubs = [str(write_tub(folder / f"tub{i}", 160 - 10 * i)) for i in range(2)]
    out = folder / "run"
    assert main(["train", tubs[0], "--val", tubs[1], *TINY, "--out", str(out)]) == 0
    return out


def record(out: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((out / "compression.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def pruned(run: Path, folder: Path) -> Path:
    out = folder / "pruned"
    words = ["--set", "prune.sparsity=0.6", "--set", "prune.min_weights=16", *quick("prune")]
    assert main(["compress", str(run), "--recipe", "prune50", *words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def quantized(run: Path, folder: Path) -> Path:
    """`slim` then `qat`: recipes compose."""
    out = folder / "slim-qat"
    small = [
        "--set",
        "slim.macs=0.7",
        "--set",
        "slim.multiple_of=4",
        "--set",
        "slim.min_channels=4",
        "--set",
        "slim.blocks=0",
    ]
    words = ["--recipe", "slim", "qat", *small, *quick("slim", "quantize"), "--out", str(out)]
    assert main(["compress", str(run), *words]) == 0
    return out


def test_every_shipped_recipe_loads_and_says_what_it_is_for() -> None:
    names = {"prune50", "prune80", "prune2x4", "slim", "qat", "pqat", "cluster", "cqat", "distill"}
    assert set(compression_names()) >= names
    for name in compression_names():
        assert load_compression(name).name == name
        assert load_compression(name).summary
    with pytest.raises(RecipeError, match=r"prune\.sparsty: unknown key; known: sparsity"):
        load_compression("prune50", ["prune.sparsty=0.6"])


def test_the_files_of_a_pruned_run_hold_the_zeros_and_pass(pruned: Path, run: Path, folder: Path) -> None:
    found = record(pruned)
    assert found["parent"] == str(run.resolve()) and found["sections"] == ["prune"] and found["teachers"] == []
    assert (pruned / "command.txt").read_text().startswith("sepilot compress ")
    notes = {n["layer"]: n for n in found["layers"] if n["kind"] == "pointwise"}
    assert notes and all(n["sparsity"] == pytest.approx(0.6, abs=0.05) for n in notes.values())
    assert all(n["sparsity"] == 0 for n in found["layers"] if n["kind"] == "depthwise")
    out = folder / "pruned-export"
    words = ["--formats", "float32.tflite", "int8.tflite", "--calibration-frames", "150", "--out", str(out)]
    assert main(["export", str(pruned), *words]) == 0
    files = {f["format"]: f for f in json.loads((out / "export.json").read_text())["files"]}
    assert files["float32.tflite"]["sparsity"] > 0.3, "verified in the file, not in the model object"
    assert main(["check", str(out), *COARSE]) == 0


def test_what_was_pruned_is_not_slimmed(
    pruned: Path, run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["compress", str(pruned), "--recipe", "slim", "--out", str(folder / "no")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (f"sepilot: {pruned}: slim would undo its zeros; begin with {run.resolve()} and put slim first")


def test_slim_then_qat_is_smaller_and_its_int8_file_is_the_trained_one(quantized: Path, folder: Path) -> None:
    found = record(quantized)
    assert found["name"] == "swift-slim-qat"
    before, after, int8 = found["figures"]
    assert after["macs"] < 0.75 * before["macs"]
    assert int8["name"] == "int8.tflite" and found["outputs"]["steering"]["max_deviation"] < 0.12
    out = folder / "slim-qat-export"
    words = ["--formats", "float32.tflite", "int8.tflite", "--out", str(out)]
    assert main(["export", str(quantized), *words]) == 0
    assert main(["check", str(out), *COARSE]) == 0
    trained = (quantized / "int8.tflite").read_bytes()
    from ai_edge_litert.interpreter import Interpreter

    def weights(content: bytes) -> list[bytes]:
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        details = sorted(interpreter.get_tensor_details(), key=lambda t: str(t["name"]))
        return [np.asarray(t["quantization_parameters"]["scales"]).tobytes() for t in details if len(t["shape"]) == 4]

    exported = next(out.glob("*int8.tflite")).read_bytes()
    assert weights(exported) == weights(trained)


def test_a_student_learns_from_teachers(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = folder / "student.toml"
    recipe.write_text((run / "recipe.toml").read_text().replace('name = "swift"', 'name = "student"'))
    out = folder / "student"
    words = ["--set", f"distill.student={recipe}", "--set", "distill.epochs=6", "--set", "distill.views=2"]
    assert main(["compress", str(run), "--recipe", "distill", *words, "--out", str(out)]) == 0
    assert record(out)["teachers"] == [str(run.resolve())]
    before, after = record(out)["figures"]
    assert after["r2"] > 0.5 * before["r2"] > 0
    # A teacher that was trained on the frames that judge is refused.
    request = json.loads((run / "request.json").read_text())
    other = folder / "other-way-round"
    drives = [*request["validation_drives"], "--val", *request["drives"]]
    assert main(["train", *drives, *TINY, "--set", "training.epochs=1", "--out", str(other)]) == 0
    capsys.readouterr()
    unfair = ["compress", str(run), "--recipe", "distill", *words, "--teacher", str(other), "--out", str(folder / "no")]
    assert main(unfair) == 2
    assert "must not have seen them" in capsys.readouterr().err
    assert not (folder / "no").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "qat", "slim"], "qat quantizes and must be the last"),
        (["--recipe", "slim", "distill"], "must be the first"),
        (["--recipe", "prune51"], "no such recipe; shipped: "),
        (["--recipe", "slim", "--set", "prune.sparsity=0.5"], "a section of the recipes expected (slim)"),
        (["--recipe", "prune50", "--set", "prune.sparsity=2"], "sparsity: expected a value from 0.01 to 0.99; found 2"),
        (["--recipe", "prune50", "--drives", "/nowhere"], "/nowhere: no such file or folder"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    run: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["compress", str(run), *words, "--out", str(tmp_path / "out")]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sepilot: ")]
    assert len(error) == 1 and message in error[0]
    assert not list(tmp_path.iterdir())


def test_a_crash_leaves_its_log_under_a_name_that_nothing_had(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stand_in.py").write_text("print('much talk')\nraise KeyError('x')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tfmot, "_WORKER", "stand_in")
    (tmp_path / "out.log").write_text("what the shell wrote")
    capsys.readouterr()
    assert main(["compress", str(run), "--recipe", "cluster", "--out", str(tmp_path / "out")]) == 2
    log = tmp_path / "out-2.log"
    assert capsys.readouterr().err.endswith(f"sepilot: compression by tfmot: KeyError: 'x'; log: {log}\n")
    assert "much talk" in log.read_text()
    assert (tmp_path / "out.log").read_text() == "what the shell wrote"
    assert not (tmp_path / "out").exists()


def test_a_log_beside_the_new_run_is_the_users_own(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out.log").write_text("what the shell wrote")
    assert main(["compress", str(run), "--recipe", "cluster", *quick("cluster"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out.log").read_text() == "what the shell wrote"
    assert "clustering: epoch 4 of 4" in (tmp_path / "out" / "compress.log").read_text()


def test_drives_that_moved_are_found_in_a_folder_under_other_names(run: Path, folder: Path, tmp_path: Path) -> None:
    moved = [shutil.copytree(folder / f"tub{i}", tmp_path / "moved" / f"{i}" / "data") for i in range(2)]
    gone = [(folder / f"tub{i}").rename(folder / f"gone{i}") for i in range(2)]
    try:
        out = tmp_path / "out"
        words = ["--recipe", "cluster", *quick("cluster"), "--drives", str(tmp_path / "moved"), "--out", str(out)]
        assert main(["compress", str(run), *words]) == 0
        assert record(out)["sections"] == ["cluster"]
        request = json.loads((out / "request.json").read_text())
        assert request["drives"] + request["validation_drives"] == [str(path.resolve()) for path in moved]
    finally:
        for i, path in enumerate(gone):
            path.rename(folder / f"tub{i}")
