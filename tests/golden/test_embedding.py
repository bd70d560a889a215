"""Pictures of a few identities from a folder to a gallery: trained, exported, checked, enrolled, recognized."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest

import set_factory as sets
from sepilot_export.verify.reference import Reference, read_reference
from sepilot_runtime.cli import main
from sepilot_runtime.contract.outputs.embedding.gallery import gallery_for
from sepilot_runtime.contract.outputs.embedding.recognition import Recognizer
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.outputs.protocol import Evidence
from sepilot_runtime.engine.pilot import answers_to, load_pilot

pytestmark = pytest.mark.slow

TINY = [
    "picture.height=24", "picture.width=24", "picture.color=bgr", "model.options.stem=8",
    "model.options.widths=[16, 32]", "model.options.repeats=[0, 0]", "outputs.class.size=16",
    "outputs.class.false_accept_rate=0.05", "training.epochs=15", "training.min_epoch_frames=0",
    "training.batch_size=32", "training.ema=0.0", "augmentation.rotate_deg=0.0", "augmentation.shear_deg=0.0",
    "augmentation.zoom=0.0", "augmentation.shift_x=0.04", "augmentation.shift_y=0.04",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedding")


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    words = [word for text in TINY for word in ("--set", text)]
    data, run, out = sets.write_identities(folder / "ids", 30, 8), folder / "run", folder / "export"
    assert main(["train", str(data), "--recipe", "embed", *words, "--out", str(run)]) == 0
    formats = "float32.tflite,int8.tflite"
    assert main(["export", str(run), "--formats", formats, "--calibration-frames", "60", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def reference(exported: Path) -> Reference:
    return read_reference(exported)


def file_of(exported: Path, form: str) -> Path:
    return exported / f"embed-{form}"


def test_the_run_tells_how_well_unseen_identities_are_told_apart(folder: Path, exported: Path) -> None:
    found = json.loads((folder / "run" / "validation.json").read_text())["metrics"]
    assert found["identities"] == 6 and found["verification"]["eer"] < 0.2 and found["verification"]["one_shot"] > 0.6
    assert 0 <= found["pixels"]["eer"] <= 1 and found["spread"] > 0.1
    contract = json.loads((folder / "run" / "contract.json").read_text())
    assert contract["outputs"][0]["threshold"] == pytest.approx(found["threshold"])
    assert {p.name for p in (folder / "run" / "figures").iterdir()} == {"training.png", "similarities.png", "roc.png"}


def test_every_file_passes_check_with_the_gates_of_vectors(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check", str(exported), "--json"]) == 0
    assert all(row["passed"] for row in json.loads(capsys.readouterr().out)["files"])


def test_a_file_that_is_given_rgb_for_bgr_fails(exported: Path, reference: Reference) -> None:
    pilot = load_pilot(file_of(exported, "int8.tflite"))
    task = task_of(reference.contract.outputs[0])
    failed = {}
    for name, pictures in (("right", reference.pictures), ("planted", reference.pictures[..., ::-1])):
        said = answers_to(pilot.infer_picture, (np.ascontiguousarray(p) for p in pictures))["class"]
        found = Evidence(
            said=said, expected=reference.predictions["class"], labels=reference.labels["class"],
            drives=reference.drives, pictures=reference.pictures,
        )  # fmt: skip
        failed[name] = {r.name for r in task.gates() if r.fault(r.figure(found), r.limits["int8"], len(said))}
    assert not failed["right"] and failed["planted"] >= {"max_error", "flips"}


def test_people_are_enrolled_with_one_file_and_recognized_with_another(
    folder: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    team, model = folder / "team.json", str(file_of(exported, "int8.tflite"))
    fresh = sets.write_identities(folder / "fresh", 3, 6, first=100)
    for who in ("id100", "id101"):
        pictures = [str(fresh / who / f"{i}.png") for i in range(3)]
        assert main(["enrol", str(team), who, *pictures, "--model", model]) == 0
    assert stat.S_IMODE(team.stat().st_mode) == 0o600
    pilot = load_pilot(file_of(exported, "float32.tflite"))
    recognizer = Recognizer(gallery_for(pilot.contract, "x", team))

    def named(who: str, number: int) -> str | None:
        picture = cv2.imread(str(fresh / who / f"{number}.png"))
        name: str | None = recognizer.named(pilot.predict(picture).said("class"))["name"]
        return name

    assert [named("id100", 5), named("id101", 5), named("id102", 5)] == ["id100", "id101", None]
    capsys.readouterr()
    assert main(["enrol", str(team), "id100", str(fresh / "id102"), "--model", model]) == 2
    assert "id100: enrolled already, by 3 pictures" in capsys.readouterr().err
    assert main(["enrol", str(team), "id100", str(fresh / "id102"), "--add", "--model", model]) == 0
    assert "two people under one name?" in capsys.readouterr().err
    assert main(["enrol", str(team), "again", str(fresh / "id101"), "--model", model]) == 0
    assert "one person under two names?" in capsys.readouterr().err
    assert main(["enrol", str(team), "--forget", "id100"]) == 0 and "id100" not in team.read_text()
    capsys.readouterr()
    assert main(["enrol", str(team), "--list"]) == 0
    assert "2 enrolled" in (said := capsys.readouterr().out) and "id101: 3 pictures" in said
    assert main(["enrol", str(team), "--forget", "nobody"]) == 2
    assert main(["enrol", str(team), "x", str(fresh), "--model", model]) == 2
    assert "pictures expected, found none" in capsys.readouterr().err
