"""A net that steers, gives throttle and says a speed: through every format, and through every step of compression."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_factory import steering_output
from parity.bar_nets import GRAY, MADE, bar_frames, contract_for, frame_set
from sepilot_export.convert import deploy
from sepilot_export.convert.formats import FORMATS, format_named, limits_of
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.pipeline.converter import Converter, Made
from sepilot_export.quantize.int8 import Int8, Int8Options
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.contract.contract import Scalar, golden_from
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.engine.pilot import answers_to, load_pilot
from sepilot_train.base.frame_set import FrameSet
from sepilot_train.base.quiet import quiet
from sepilot_train.fit.keras_engine import KerasEngine
from sepilot_train.fit.predict import predict

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


@dataclass(frozen=True)
class Files:
    folder: Path
    made: dict[str, Made]
    int8: Int8


@pytest.fixture(scope="module")
def files(source: ExportInputs, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Every format, with the search for layers to keep in float32."""
    folder, work = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("work")
    limits = {form.name: limits_of(form, {}, 0.01) for form in FORMATS}
    with quiet("export"):
        model = deploy.load_training_model(source.model_path, source.contract)
        deployed = deploy.deploy_graph(model, source.contract)
        options = Int8Options(calibration_frames=60, max_drop=0.01)
        int8 = Int8(source, model, work, limits, options, lambda step: None)
        converter = Converter(source, deployed, int8, work, limits, lambda step: None)
        made = {form.name: converter.write(form, folder)[1] for form in MADE}
    return Files(folder, made, int8)


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
def test_every_file_gives_each_answer_under_its_own_name(files: Files, source: ExportInputs, name: str) -> None:
    """Two heads in each other's place would be off by half of their range."""
    form = format_named(name)
    pilot = load_pilot(files.folder / f"three-{name}")
    said = answers_to(pilot.infer_picture, source.held_out.pictures)
    for output in OUTPUTS:
        error = task_of(output).distance(said[output.name], source.saved[output.name]) / output.scale
        assert error.max() <= form.limits.max_error * output.magnitude, output.name
        assert np.corrcoef(said[output.name], source.saved[output.name])[0, 1] > 0.99
        assert pilot.contract.tolerance[output.name] == form.tolerance * output.magnitude


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


def test_calibration_holds_the_tails_of_every_output(files: Files) -> None:
    found = files.int8.calibration()
    assert found is not None and found.manifest.choices is not None
    reasons = {frame.reason for frame in found.manifest.frames}
    assert {f"lowest prediction of {output.name}" for output in OUTPUTS} <= reasons
    assert set(found.manifest.outputs) == {output.name for output in OUTPUTS}
    assert len(found.manifest.choices.errors) == 9


def test_the_noise_of_every_head_is_told(files: Files) -> None:
    for suffix in files.int8.quantized:
        noise, bits = files.int8.layers(suffix)
        assert {output.name for output in OUTPUTS} <= {row.layer for row in noise}
        assert {output.name for output in OUTPUTS} <= set(bits)


def test_a_twin_is_held_against_its_file_in_the_steps_of_each_output(files: Files) -> None:
    twin = files.made["int8-twin.onnx"].twin
    assert twin is not None and set(twin.output_steps) == {output.name for output in OUTPUTS}
    assert twin.output_steps["speed"] > twin.output_steps["throttle"]
    one = {output.name: np.zeros(3) for output in OUTPUTS}
    other = {**one, "speed": np.array([0.0, 2 * twin.output_steps["speed"], 0.0])}
    assert twin.distance(one, other) == 2.0
