"""Run directories that were damaged after the training: one line that names file and key."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drive_factory import write_tub
from model_factory import contract_of
from sepilot_export.compress.distill import require_fair
from sepilot_export.pipeline.export import source_of
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.frame_set import Answers, FrameLabels
from sepilot_train.fit.outputs.scalar.metrics import scalar_metrics
from sepilot_train.run.leak import Leak
from sepilot_train.run.material import gather
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.request import Request
from sepilot_train.run.run import Run, open_run
from sepilot_train.run.validation import Validation


def run_over(tub: Path, folder: Path) -> Run:
    """What an export reads of a run, without a training: the first half of the frames trained, the rest judged."""
    folder.mkdir()
    recipe = load_recipe("swift", ["picture.height=24", "picture.width=32"])
    request = Request(drives=(str(tub),), validation_drives=(), reader=ReaderOptions(), filter=DriveFilter(), seed=0)
    names = [f"{i}_cam_image_array_.jpg" for i in range(40)]
    drive = {"id": tub.name, "fingerprint": "0", "train": names[:20], "validation": names[20:]}
    (folder / "split.json").write_text(json.dumps({"kind": "blocks", "drives": [drive]}))
    zeros = np.zeros(20, np.float32)
    found = Validation(
        split="blocks", train_frames=20, validation_frames=20, train_drives=(tub.name,), validation_drives=(tub.name,),
        full_scale_deg=25.0, metrics=scalar_metrics(zeros, zeros, 0.25),
        leak=Leak(lookup_mae=0.0, constant_mae=0.0, close_in_time=0.0), epochs=0, kept_epoch=0, stopped_early=False,
        seconds=0.0, skipped={},
    )  # fmt: skip
    (folder / "validation.json").write_text(json.dumps(dataclasses.asdict(found)))
    answers = {"steering": zeros}
    judged = FrameLabels(drives=(tub.name,) * 20, names=tuple(names[20:]), labels=answers)
    Answers(frames=judged, values=answers).save(folder / "predictions.npz")
    return Run(path=folder, recipe=recipe, contract=contract_of(recipe.picture), request=request)


def write(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


def metrics(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document["metrics"])
        path.write_text(json.dumps(document))

    return apply


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)


def test_a_whole_run_is_a_source(tmp_path: Path) -> None:
    source = source_of(run_over(write_tub(tmp_path / "tub"), tmp_path / "run"))
    assert source.constant == {"steering": 0.25} and (len(source.training), len(source.held_out)) == (20, 20)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("predictions.npz", cut_off, "cannot be read"),
        ("predictions.npz", damage, "cannot be read"),
        ("predictions.npz", write(""), "cannot be read"),
        ("split.json", write("{}"), "kind: missing"),
        ("split.json", write("[]"), "document: a table expected, found []"),
        ("split.json", write('{"kind": "blocks"}'), "drives: missing"),
        ("split.json", write('{"kind": "blocks", "drives": [{"id": "tub"}]}'), "drives[0].fingerprint: missing"),
        ("split.json", write('{"kind": "blocks", "drives": []}'), "drives: frames of validation expected, found none"),
        ("validation.json", write("{}"), "split: missing"),
        ("validation.json", metrics(lambda found: found.pop("constant")), "metrics.constant: missing"),
        (
            "validation.json",
            metrics(lambda found: found.update(constant="0")),
            "metrics.constant: a number expected, found '0'",
        ),
    ],
)
def test_a_damaged_run_is_one_line(tmp_path: Path, name: str, change: Callable[[Path], None], says: str) -> None:
    run = run_over(write_tub(tmp_path / "tub"), tmp_path / "run")
    change(run.path / name)
    with pytest.raises(RunError) as caught:
        source_of(run)
    assert str(caught.value).startswith(f"{run.path / name}: ") and says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["contract.json", "recipe.toml", "model.keras", "predictions.npz", "request.json"])
def test_a_pipe_in_a_run_is_one_line(name: str, tmp_path: Path) -> None:
    run = run_over(write_tub(tmp_path / "tub"), tmp_path / "run")
    for there in ("model.keras", "request.json"):
        (run.path / there).touch()
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    with pytest.raises(RunError, match=rf"{name}: cannot be read: a file expected, found a pipe"):
        open_run(run.path)


def test_a_teacher_with_a_damaged_split_is_named(tmp_path: Path) -> None:
    run = run_over(write_tub(tmp_path / "tub"), tmp_path / "run")
    recipe = load_recipe("swift", ["data.guard_s=0.05", "data.block_s=0.1"])
    material = gather(run.request, recipe, progress=False)
    with pytest.raises(RunError, match=r"was trained on .* frames of drive tub"):
        require_fair([run], material)
    (run.path / "split.json").write_text("{}")
    with pytest.raises(RunError, match=r"split\.json: kind: missing"):
        require_fair([run], material)
