"""Several outputs, by recipe alone: trained, judged and read back by name; what does not fit is one line."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import RecipeError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.contract import golden_frame
from sepilot_runtime.contract.preprocess import picture_of
from sepilot_runtime.recording.options import DriveFilter, ReaderOptions
from sepilot_train.base.frame_set import read_answers
from sepilot_train.fit.predict import predict
from sepilot_train.run.material import gather
from sepilot_train.run.recipe import load_recipe
from sepilot_train.run.recipe_toml import to_toml
from sepilot_train.run.request import Request
from sepilot_train.run.run import Run, open_run

TINY = [
    "picture.height=24",
    "picture.width=32",
    "training.epochs=1",
    "training.min_epoch_frames=0",
    "training.batch_size=16",
]
BRAKE = "outputs.brake={low=0.0}"


def tub(folder: Path, column: str = "user/brake", count: int = 40) -> Path:
    """The brake follows how far the wheels are turned, the throttle its opposite."""
    turned = [abs(angle) for angle in make.angles(count)]
    records = {i: {column: value} for i, value in enumerate(turned)}
    return make.write_tub(folder, count, throttle=[0.1 + 0.8 * (1 - value) for value in turned], records=records)


def train(out: Path, *words: str, recipe: str = "swift-throttle") -> int:
    settings = [word for text in TINY for word in ("--set", text)]
    return main(["train", *words, "--recipe", recipe, *settings, "--out", str(out)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str, str]:
    """A third number, which no code knows of: one line of the recipe and one column of the recording.

    The run, and what its training said on both channels.
    """
    folder, out, err = tmp_path_factory.mktemp("braking"), io.StringIO(), io.StringIO()
    words = ["--val", str(tub(folder / "b", count=30)), "--set", BRAKE, "--set", "outputs.throttle.weight=0.5"]
    with redirect_stdout(out), redirect_stderr(err):
        assert train(folder / "run", str(tub(folder / "a")), *words) == 0
    return open_run(folder / "run"), out.getvalue(), err.getvalue()


@pytest.fixture
def braking(trained: tuple[Run, str, str]) -> Run:
    return trained[0]


def test_a_third_output_is_a_line_of_the_recipe_and_a_column_of_the_recording(braking: Run) -> None:
    names = ["steering", "throttle", "brake"]
    assert [output.name for output in braking.contract.outputs] == names
    steering, throttle, brake = braking.contract.outputs
    assert (steering.unit, steering.scale, steering.positive) == ("deg", 25.0, "right")
    assert (throttle.low, throttle.high, throttle.positive) == (0.0, 1.0, "forward")
    assert (brake.unit, brake.scale, brake.low, brake.high, brake.positive) == ("", 1.0, 0.0, 1.0, "")
    held, saved = braking.frames("validation", progress=False), braking.predictions()
    assert list(held.labels) == list(saved.values) == list(saved.frames.labels) == names
    assert held.labels["brake"] == pytest.approx([abs(a) for a in make.angles(30)], abs=1e-6)
    assert all(np.array_equal(held.labels[name], saved.frames.labels[name]) for name in names)
    # The recording is known again by all of its labels.
    assert "brake" in braking.request.reader.labels and braking.recipe == load_recipe(str(braking.path / "recipe.toml"))


def test_each_output_is_judged_beside_its_constant(braking: Run) -> None:
    found = json.loads((braking.path / "validation.json").read_text())["outputs"]
    saved = braking.predictions()
    for name, figures in found.items():
        label, said = saved.frames.labels[name], saved.values[name]
        assert figures["mae"] == pytest.approx(np.abs(said - label).mean(), rel=1e-5)
        constant = braking.frames("train", progress=False).labels[name].mean()
        assert figures["constant_mae"] == pytest.approx(np.abs(label - constant).mean(), rel=1e-4)
    assert (braking.path / "figures" / "brake-scatter.png").exists()


def test_golden_frames_answer_by_name(braking: Run) -> None:
    net = braking.load_model()
    assert net.output_names == ["steering", "throttle", "brake"]
    pictures = np.stack([picture_of(golden_frame(g), braking.contract.picture) for g in braking.contract.golden])
    for name, values in predict(net, pictures).items():
        expected = [golden.expected[name][0] for golden in braking.contract.golden]
        assert values == pytest.approx(expected, abs=1e-6)
    # Both ends of every output are there, so that outputs that change places are noticed.
    saved = braking.predictions().values
    for name, values in saved.items():
        found = [golden.expected[name][0] for golden in braking.contract.golden]
        assert np.ptp(found) >= 0.6 * np.ptp(values) - 1e-6


def test_the_first_epoch_says_what_each_output_has_in_the_loss(trained: tuple[Run, str, str]) -> None:
    _, out, err = trained
    (line,) = (line for line in err.splitlines() if line.startswith("validation loss by output"))
    parts = re.findall(r"(\w+) (\d\.\d{4}) x (\S+) = (\d\.\d{4}) \((\d+)%\)", line)
    assert [(name, float(weight)) for name, _, weight, _, _ in parts] == [
        ("steering", 1),
        ("throttle", 0.5),
        ("brake", 1),
    ]
    for _, loss, weight, product, _ in parts:
        assert float(product) == pytest.approx(float(loss) * float(weight), abs=1.1e-4)
    assert sum(int(share) for *_, share in parts) == pytest.approx(100, abs=2)
    assert re.search(r"^throttle: constant", out, re.MULTILINE)


def test_a_column_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drive = tub(tmp_path / "a", column="user/other")
    assert train(tmp_path / "run", str(drive), "--set", BRAKE) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"sepilot: {drive}: has no brake labels")


def test_an_output_may_learn_a_column_of_another_name(tmp_path: Path) -> None:
    drive, judge = (tub(tmp_path / name, column="user/pedal", count=n) for name, n in (("a", 40), ("b", 30)))
    recipe = load_recipe("swift-throttle", [*TINY, "outputs.brake={low=0.0,label='user/pedal'}"])
    reader = ReaderOptions(labels=("user/pedal",))
    request = Request(
        drives=(str(drive),), validation_drives=(str(judge),), reader=reader, filter=DriveFilter(), seed=0
    )
    found = gather(request, recipe, progress=False).frames("train").labels
    assert found["brake"] == pytest.approx([abs(angle) for angle in make.angles(40)], abs=1e-6)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("outputs.brake=1", "outputs.brake: a table expected, found 1"),
        (
            "outputs.brake={kind='sound'}",
            "outputs.brake.kind: one of scalar, classes, boxes, points, embedding expected, found 'sound'",
        ),
        ("outputs.brake={weigth=1}", "outputs.brake.weigth: unknown key; known: kind, label, "),
        ("outputs.brake={low=1.0}", "outputs.brake: low must lie below high, found 1.0 and 1.0"),
        ("outputs.brake={weight=-1}", "outputs.brake: weight: expected a value from 0"),
        ("outputs.brake={low=0.0,mirror='negate'}", "outputs.brake: mirror: negate takes a range around 0"),
        ("outputs.steering={high=1.5}", "outputs.steering: a range around 0 within [-1, 1] expected"),
        ("outputs.brake/2={low=0.0}", "outputs.brake/2: a name of letters, digits and _ expected"),
    ],
)
def test_mistakes_in_outputs_are_one_line(override: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("swift-throttle", [override])
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_outputs_survive_being_written_out(tmp_path: Path) -> None:
    recipe = load_recipe("swift-throttle", [BRAKE, "outputs.throttle.loss=mae"])
    (tmp_path / "own.toml").write_text(to_toml(recipe))
    again = load_recipe(str(tmp_path / "own.toml"))
    assert again == recipe and again.sha256 == recipe.sha256 and list(again.targets) == list(recipe.targets)


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("swift", "36227ce23394863a"),
        ("v27", "ad6324e575696a74"),
        ("v27-foldable", "9e39f97a6b961a77"),
        ("pilotnet", "0820fa2fb6a11ef5"),
    ],
)
def test_recipes_without_outputs_are_the_recipes_that_they_were(name: str, sha256: str) -> None:
    """A run knows its recipe by the sum."""
    assert load_recipe(name).sha256.startswith(sha256)
    assert list(load_recipe(name).targets) == ["steering"]


def test_answers_of_a_run_from_before_there_were_several(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"drives": ("a", "b"), "names": ("1", "2")}
    arrays |= {"labels": np.array([0.1, 0.2], np.float32), "predictions": np.array([0.3, 0.4], np.float32)}
    np.savez_compressed(tmp_path / "predictions.npz", **arrays)
    found = read_answers(tmp_path / "predictions.npz", "steering")
    assert found.frames.drives == ("a", "b") and found.frames.names == ("1", "2")
    assert found.frames.labels["steering"].tolist() == arrays["labels"].tolist()
    assert found.values["steering"].tolist() == arrays["predictions"].tolist()
