"""A net that steers, gives throttle and says a speed: through every format, and through every step of compression."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from model_factory import steering_output
from parity.bar_nets import GRAY, MADE, bar_frames, contract_for, frame_set
from sepilot_export.compress.distill import answers_of
from sepilot_export.compress.recipe import Compression, Distill, compression_names, load_compression
from sepilot_export.compress.steps import Net, Task, require_supported, steps_of
from sepilot_export.convert import deploy
from sepilot_export.convert.formats import choose_formats, format_named
from sepilot_export.convert.in_memory import pilot_of
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.convert.int8_as_onnx import Twin
from sepilot_export.pipeline.export import export_source
from sepilot_export.quantize.int8 import Int8Options
from sepilot_export.verify.raw_frames import RawFrames
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.cli import main as sepilot
from sepilot_runtime.contract.contract import FrameInput, Scalar, golden_from
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.pilot import answers_to, load_pilot
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.augment import Augmentation
from sepilot_train.fit.keras_engine import KerasEngine
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.fit.predict import predict
from sepilot_train.run.recipe import load_recipe

# In no alphabetical order, while TFLite and Keras sort by name.
OUTPUTS = (steering_output(), Scalar(name="throttle", low=0.0), Scalar(name="speed", unit="m/s", low=0.0, high=4.0))


def three_labels(steering: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The bar on the right asks for right, in the middle for throttle, and the more on the right the faster."""
    return {
        "steering": steering,
        "throttle": 0.8 - 0.6 * np.abs(steering),
        "speed": (2.0 + 1.5 * steering).astype(np.float32),
    }


def frames_of(count: int, seed: int, drive: str) -> FrameSet:
    frames, steering = bar_frames(count, seed)
    return dataclasses.replace(frame_set(frames, steering, GRAY, drive), labels=three_labels(steering))


@pytest.fixture(scope="module")
def model() -> Any:
    with quiet("fitting"):
        import keras

        keras.utils.set_random_seed(0)
        K = keras.layers
        image = x = keras.Input(GRAY.shape, name="image")
        for number, width in enumerate((8, 16), start=1):
            x = K.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(x)
            x = K.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
            x = K.ReLU(name=f"relu{number}")(x)
        x = K.Dense(24, activation="relu", name="dense")(K.Flatten(name="flat")(x))
        # A head of its own beside two alike.
        own = K.Dense(8, activation="relu", name="own")(x)
        heads = {
            "throttle": K.Dense(1, name="throttle")(own),
            "steering": K.Dense(1, name="steering")(x),
            "speed": K.Dense(1, name="speed")(x),
        }
        net = keras.Model(image, heads, name="three")
        train = frames_of(1000, 10, "fit")
        net.compile(keras.optimizers.Adam(3e-3), dict.fromkeys(heads, "mse"))
        net.fit(train.pictures / np.float32(255), dict(train.labels), epochs=8, batch_size=32, verbose=0)
    return net


@pytest.fixture(scope="module")
def source(model: Any, tmp_path_factory: pytest.TempPathFactory) -> ExportInputs:
    held_frames, _ = bar_frames(300, 1)
    held = frames_of(300, 1, "held")
    saved = predict(model, held.pictures)
    chosen = np.argsort(saved["steering"])[[0, 100, 200, -1]]
    contract = dataclasses.replace(
        contract_for(GRAY, "three"),
        outputs=OUTPUTS,
        tolerance={output.name: 1e-3 for output in OUTPUTS},
        golden=tuple(golden_from(held_frames[i], {name: said[i] for name, said in saved.items()}) for i in chosen),
    )
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    training = frames_of(500, 0, "train")
    return ExportInputs(
        model_path=path,
        contract=contract,
        gates={},
        training=training,
        held_out=held,
        saved=saved,
        constant={name: float(values.mean()) for name, values in training.labels.items()},
    )


@pytest.fixture(scope="module")
def folder(source: ExportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every format, with the search for layers to keep in float32."""
    out = tmp_path_factory.mktemp("files") / "export"
    options = Int8Options(calibration_frames=60, max_drop=0.01)
    written = export_source(source, MADE, out, int8=options)
    assert not written.failed and len(written.files) == len(MADE)
    return out


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_the_training_model_is_an_engine_like_its_files(model: Any, source: ExportInputs) -> None:
    engine = KerasEngine(model, source.contract, source.model_path)
    engine.input_tensor()[0] = source.held_out.pictures[0] / np.float32(255)
    assert {name: float(said[0]) for name, said in engine.run().items()} == pytest.approx(
        {name: float(said[0]) for name, said in source.saved.items()}, abs=1e-5
    )
    braking = (*OUTPUTS[:2], Scalar(name="brake"))
    tolerance = {output.name: 1e-3 for output in braking}
    other = dataclasses.replace(source.contract, outputs=braking, tolerance=tolerance, golden=())
    with pytest.raises(RunError, match="outputs steering, throttle, brake expected by its contract, found speed, "):
        KerasEngine(model, other, source.model_path)
    with pytest.raises(RunError, match="outputs steering, throttle, brake expected from the contract, found speed, "):
        deploy.load_training_model(source.model_path, other)


@pytest.mark.parametrize("name", [form.name for form in MADE])
def test_every_file_gives_each_answer_under_its_own_name(folder: Path, source: ExportInputs, name: str) -> None:
    """Two heads in each other's place would be off by half of their range."""
    form = format_named(name)
    pilot = load_pilot(folder / f"three-{name}")
    said = answers_to(pilot.infer_picture, source.held_out.pictures)
    for output in OUTPUTS:
        error = task_of(output).distance(said[output.name], source.saved[output.name]) / output.scale
        assert error.max() <= 0.12 * output.magnitude, output.name
        assert np.corrcoef(said[output.name], source.saved[output.name])[0, 1] > 0.99
        assert pilot.contract.tolerance[output.name] == form.tolerance * output.magnitude


def test_every_file_is_judged_by_every_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sepilot(["check", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["files"]
    assert [row["format"] for row in rows] == [form.name for form in MADE]
    assert all(list(row["outputs"]) == [output.name for output in OUTPUTS] for row in rows)


def test_files_that_take_frames_give_every_answer(source: ExportInputs, tmp_path: Path) -> None:
    frames, _ = bar_frames(300, 1)
    index = np.arange(0, 300, 10)
    raw = RawFrames(input=FrameInput(height=48, width=64), frames=frames[index], index=index)
    formats = choose_formats(["float32.tflite", "float32.onnx"])
    export_source(source, formats, tmp_path / "out", raw=raw)
    for form in formats:
        said = answers_to(load_pilot(tmp_path / "out" / f"three-frame-{form.name}").infer, frames[index])
        for name, expected in source.saved.items():
            np.testing.assert_allclose(said[name], expected[index], atol=1e-4)


def test_parity_is_asked_of_every_output(model: Any, source: ExportInputs) -> None:
    pictures = source.held_out.pictures[:16]
    for name in ("steering", "throttle", "speed"):
        deployed = deploy.deploy_graph(model, source.contract)
        kernel, bias = deployed.get_layer(name).get_weights()
        deployed.get_layer(name).set_weights([kernel, bias + 0.01])
        with pytest.raises(RunError, match=rf"the deploy graph's {name} differs .* first at layer {name}"):
            deploy.require_parity(model, deployed, pictures)


def test_an_output_that_is_dead_is_named(source: ExportInputs) -> None:
    dead = deploy.load_training_model(source.model_path, source.contract)
    kernel, bias = dead.get_layer("throttle").get_weights()
    dead.get_layer("throttle").set_weights([np.zeros_like(kernel), bias])
    with pytest.raises(RunError, match=r"answers throttle .* does not depend on its input"):
        deploy.require_parity(dead, deploy.deploy_graph(dead, source.contract), source.held_out.pictures[:16])


def test_calibration_holds_the_tails_of_every_output(folder: Path) -> None:
    found = document(folder, "calibration.json")
    reasons = {frame["reason"] for frame in found["frames"]}
    assert {f"lowest prediction of {output.name}" for output in OUTPUTS} <= reasons
    assert set(found["outputs"]) == {output.name for output in OUTPUTS}
    assert len(found["choices"]["errors"]) == 9


def test_the_noise_of_every_head_is_told(folder: Path) -> None:
    found, heads = document(folder, "int8-layers.json"), {output.name for output in OUTPUTS}
    for form in ("int8.tflite", "int8.onnx"):
        assert heads <= {row["layer"] for row in found["sqnr_db"][form]}
        assert heads <= set(found["kernel_bits"][form])


def test_a_twin_is_held_against_its_file_in_the_steps_of_each_output(folder: Path) -> None:
    row = next(f for f in document(folder, "export.json")["files"] if f["format"] == "int8-twin.onnx")
    twin = Twin(**row["twin"])
    assert set(twin.output_steps) == {output.name for output in OUTPUTS}
    assert twin.output_steps["speed"] > twin.output_steps["throttle"]
    one = {output.name: np.zeros(3) for output in OUTPUTS}
    other = {**one, "speed": np.array([0.0, 2 * twin.output_steps["speed"], 0.0])}
    assert twin.distance(one, other, OUTPUTS) == 2.0


TARGETS = {
    "steering": ScalarTarget(unit="deg", positive="right", mirror="negate"),
    "throttle": ScalarTarget(low=0.0),
    "speed": ScalarTarget(unit="m/s", low=0.0, high=4.0, weight=0.3),
}
SHORT: dict[str, Any] = {"min_epoch_frames": 0, "batch_size": 32}


def shortened(name: str) -> Compression:
    """A shipped recipe with a fine-tuning of seconds, and limits that a tiny net can keep."""
    limits: dict[str, dict[str, Any]] = {
        "slim": {"macs": 0.7, "min_channels": 4, "multiple_of": 4, "rounds": 1},
        "cluster": {"clusters": 16},
        "quantize": {"calibration_frames": 100},
        "distill": {"student": "", "views": 1},
        "prune": {"min_weights": 256},
    }
    compression = load_compression(name)
    for section in compression.sections:
        settings = getattr(compression, section)
        epochs = 20 if section in ("slim", "distill", "prune") else 4
        finetune = dataclasses.replace(settings.finetune, epochs=epochs, **SHORT)
        changed = dataclasses.replace(settings, finetune=finetune, **limits[section])
        compression = dataclasses.replace(compression, **{section: changed})
    return compression


@pytest.mark.slow
@pytest.mark.parametrize("name", compression_names())
def test_every_shipped_compression_keeps_every_answer(
    name: str, model: Any, source: ExportInputs, tmp_path: Path
) -> None:
    import keras

    still = Augmentation(mirror=0.0)  # A mirrored bar asks for another speed.
    recipe = dataclasses.replace(load_recipe("swift"), outputs=TARGETS, picture=GRAY, augmentation=still)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    teacher = SimpleNamespace(path=tmp_path, recipe=recipe, load_model=lambda: model)
    material = SimpleNamespace(frames=lambda side: source.training if side == "train" else source.held_out)
    task = Task(
        run=cast(Any, teacher), request=cast(Any, SimpleNamespace(seed=0)), teachers=(cast(Any, teacher),),
        moved_to=(), progress=False,
    )  # fmt: skip
    net = Net(model=copy, recipe=recipe, material=cast(Any, material))
    compression = shortened(name)
    require_supported(copy, recipe, [compression])
    for step, apply in steps_of(task, compression):
        net = apply(net, task.work(net, tmp_path / step, tmp_path / "log"))
    said, held = predict(net.model, source.held_out.pictures), source.held_out
    assert (net.int8 is not None) == ("quantize" in compression.sections)
    for output in OUTPUTS:
        labels = held.labels[output.name]
        # A constant is off by 0.87 of the deviation of labels that are spread evenly.
        assert np.abs(said[output.name] - labels).mean() < 0.7 * labels.std(), output.name
    if net.int8 is not None:
        contract = dataclasses.replace(source.contract, golden=())
        answers = answers_to(pilot_of(net.int8, "tflite", contract).infer_picture, held.pictures)
        for output in OUTPUTS:
            error = task_of(output).distance(answers[output.name], said[output.name])
            assert error.max() < 0.12 * output.scale * output.magnitude, output.name


def test_a_teacher_must_know_what_the_student_learns(model: Any, source: ExportInputs, tmp_path: Path) -> None:
    recipe = dataclasses.replace(load_recipe("swift"), outputs=TARGETS, picture=GRAY)
    teacher = SimpleNamespace(path=tmp_path, recipe=dataclasses.replace(recipe, outputs={}), load_model=lambda: model)
    with pytest.raises(RunError, match="a teacher with the output throttle expected, found one of steering"):
        answers_of([cast(Any, teacher)], source.training, recipe, Distill(student=""))
