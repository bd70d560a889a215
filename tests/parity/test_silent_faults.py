"""Faults that no tool reports, each planted and each caught; and the clean files, which pass.

What each does on its own is told in the docstring; that the planted file loads and answers (no error anywhere) is part
of the fault.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from parity.bar_nets import GRAY, MADE, Bench, bench_of, fitted, source_for
from sepilot_export.convert import onnx_file, tflite
from sepilot_export.convert.ranges import Range, fit_ranges, output_range
from sepilot_export.verify.check import check_file
from sepilot_export.verify.file_check import FileCheck
from sepilot_runtime.contract.contract import Picture
from sepilot_train.base.quiet import quiet


def float_input(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pictures.astype(np.float32) * np.float32(1 / 255)


def raw_float32(bench: Bench) -> bytes:
    """The float32 TFLite of the deploy graph; a contract in it does no harm."""
    return bench.content("float32.tflite")


def ranges_of(bench: Bench, float32: bytes, pictures: NDArray[np.uint8]) -> dict[str, Range]:
    """As the export makes them."""
    fitted = fit_ranges(tflite.activations_of(float32), pictures)
    head = tflite.tensor_names(float32)["steering"]
    return {**fitted.ranges, head: output_range(fitted.seen[head])}


def says(check: FileCheck, *words: str) -> bool:
    return any(all(w in reason for w in words) for reason in check.reasons)


@pytest.mark.parametrize("name", [f.name for f in MADE])
def test_clean_files_pass(v27: Bench, name: str) -> None:
    check = check_file(v27.candidate(name), v27.reference)
    assert check.reasons == ()
    found = check.outputs["steering"]
    assert found.task is not None and found.task.mae < 0.3 * found.task.constant_mae
    # The control of every comparison below: the answers do depend on the picture.
    assert np.ptp(found.answers) > 1.0


def test_ema_calibration(v27: Bench) -> None:
    """ai-edge-quantizer's default: a moving average of ranges, which for one number per picture is its mean."""
    from ai_edge_quantizer import calibrator, recipe, recipe_manager

    float32, contract = raw_float32(v27), v27.source.contract
    pictures = v27.source.training.pictures[:100]
    with quiet("calibration"):
        good = ranges_of(v27, float32, pictures)
        manager = recipe_manager.RecipeManager()
        manager.load_quantization_recipe(recipe.static_wi8_ai8())
        worker = calibrator.Calibrator(float32, num_threads=1)
        worker.calibrate({"serve": [{"image": float_input(p[None])} for p in pictures]}, manager)
        averages = {n: (float(r["min"].min()), float(r["max"].max())) for n, r in worker.get_model_qsvs().items()}
        head = tflite.tensor_names(float32)["steering"]
        # Even with our own output range, the ranges inside are averages.
        inside = tflite.quantize(float32, contract, {**good, **averages, head: good[head]})
        whole = tflite.quantize(float32, contract, {**good, **averages})
    assert says(v27.plant("int8.tflite", inside), "max error")
    check = v27.plant("int8.tflite", whole)
    assert says(check, "max error") and says(check, "saturated")


def test_converter_on_an_unfoldable_batch_norm(v27: Bench, tmp_path: Any) -> None:
    """TensorFlow's int8 calibrator on the training graph: ranges of tensors that were overwritten in place."""
    import keras
    import tensorflow as tf

    def convert(model: Any) -> bytes:
        saved = tmp_path / model.name
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve",
            lambda image: {"steering": keras.tree.flatten(model(image, training=False))[0]},
            input_signature=[tf.TensorSpec((1, *GRAY.shape), tf.float32, name="image")],
        )
        archive.write_out(str(saved), verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["serve"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        # Black and white give the input the exact scale, so that nothing but the calibrator is at fault.
        extremes = np.stack([np.zeros(GRAY.shape, np.uint8), np.full(GRAY.shape, 255, np.uint8)])
        pictures = np.concatenate([v27.source.training.pictures[:100], extremes])
        converter.representative_dataset = lambda: ({"image": float_input(p[None])} for p in pictures)
        return bytes(converter.convert())

    with quiet("conversion"):
        planted = convert(v27.model)
    check = v27.plant("int8.tflite", planted)
    clean = check_file(v27.candidate("int8.tflite"), v27.reference)
    assert check.opened and not check.passed
    planted, before = (c.outputs["steering"].fidelity for c in (check, clean))
    assert planted.mean_error > 4 * before.mean_error


def test_file_without_weights(v27: Bench, tmp_path: Any) -> None:
    """A concrete function handed to the converter together with a Keras 3 model: unfrozen variables, NaN."""
    import tensorflow as tf

    model = v27.model
    with quiet("conversion"):
        function = tf.function(lambda image: {"steering": model(image, training=False)})
        concrete = function.get_concrete_function(tf.TensorSpec((1, *GRAY.shape), tf.float32, name="image"))
        content = bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], model).convert())
    assert len(content) < len(raw_float32(v27)) / 1.5
    check = v27.plant("float32.tflite", content)
    assert check.opened and says(check, "answered nan")


def test_dummy_body_of_a_fused_function(v27: Bench) -> None:
    """A function that TensorFlow Lite replaces by an operation of its own, as its detection post-processing: tf2onnx
    exports the body that nobody runs, here zeros, and says nothing."""
    import tensorflow as tf
    import tf2onnx

    fused = tf.function(
        lambda image: 0.0 * tf.reshape(tf.reduce_sum(image), (1, 1)),
        experimental_implements='name: "TFLite_Detection_PostProcess"',
    )
    with quiet("conversion"):
        function = tf.function(lambda image: {"steering": fused(image)})
        signature = (tf.TensorSpec((1, *GRAY.shape), tf.float32, name="image"),)
        proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=17)
    check = v27.plant("float32.onnx", proto.SerializeToString())
    assert check.opened and says(check, "golden")


@pytest.mark.slow
def test_wrong_channel_order(tmp_path: Any) -> None:
    """Weights that expect RGB behind a runtime that gives BGR."""
    bgr = Picture(height=24, width=40, color="bgr", crop_top=0.25)
    options = {"stem": 8, "widths": (12, 16), "repeats": (1, 1), "dense": (16,)}
    net = fitted("swift", bgr, options, seed=1, epochs=2)
    bench = bench_of(net, bgr, "swift", tmp_path, ("float32", "int8.onnx"))
    assert check_file(bench.candidate("float32.onnx"), bench.reference).passed
    swapped = dataclasses.replace(bench.reference, pictures=bench.reference.pictures[..., ::-1].copy())
    for name in ("float32.tflite", "int8.onnx", "float32.onnx"):
        assert says(check_file(bench.candidate(name), swapped), "max error")
    stem = bench.model.get_layer("stem_conv")
    (kernel,) = stem.get_weights()
    stem.set_weights([kernel[:, :, ::-1].copy()])
    with quiet("conversion"):
        from sepilot_export.convert import deploy

        contract = bench.source.contract
        content = onnx_file.convert_float32(deploy.deploy_graph(bench.model, contract), contract)
    check = bench.plant("float32.onnx", content)
    assert says(check, "max error") and says(check, "golden")


def test_gray_from_the_wrong_channel_order(v27: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preprocessing that takes red for blue: the pictures look right, and the golden frames do not agree."""
    from sepilot_runtime.contract import preprocess

    real = preprocess.cv2.cvtColor
    monkeypatch.setattr(preprocess.cv2, "cvtColor", lambda f, code, **k: real(f, preprocess.cv2.COLOR_RGB2GRAY, **k))
    check = check_file(v27.candidate("float32.tflite"), v27.reference)
    assert says(check, "golden frame")


def test_wrong_crop(v27: Bench) -> None:
    """A contract that cuts off another part of the frame than the training did."""
    base = v27.source.contract
    for name in ("float32.tflite", "float32.onnx", "int8.tflite"):
        form = v27.candidate(name).form
        wrong = dataclasses.replace(
            base,
            inputs=(dataclasses.replace(base.picture, crop_top=0.0, crop_left=0.2),),
            provenance=dataclasses.replace(base.provenance, precision=form.precision),
            tolerance=dict.fromkeys(base.tolerance, form.tolerance),
        )
        check = v27.plant(name, v27.content(name), wrong)
        assert says(check, "picture.crop_top: 0.25 expected, found 0.0")
        # The file alone, without the run to compare with, is refused as well.
        assert says(check, "golden frame")


@pytest.mark.parametrize("name", ["int8.tflite", "int8.onnx"])
def test_calibration_on_straight_frames(v27: Bench, name: str) -> None:
    """A calibration set in which nothing turns: the file cannot either."""
    source = v27.source
    straight = source.training.pictures[np.argsort(np.abs(source.training.labels["steering"]))[:60]]
    with quiet("calibration"):
        if name == "int8.tflite":
            float32 = raw_float32(v27)
            content = tflite.quantize(float32, source.contract, ranges_of(v27, float32, straight))
        else:
            float32 = onnx_file.prepare(v27.content("float32.onnx"))
            fitted = fit_ranges(onnx_file.activations_of(float32, source.contract), straight)
            ranges = {**fitted.ranges, "steering": output_range(fitted.seen["steering"])}
            content = onnx_file.quantize(float32, source.contract, straight, ranges)
    check = v27.plant(name, content)
    assert says(check, "max error") and says(check, "saturated") and says(check, "task MAE")


def test_swapped_contract(v27: Bench, tmp_path: Any) -> None:
    """The contract of another net for the same pictures: same shapes, same names, other promises."""
    from sepilot_train.models import build_model

    other = source_for(build_model("v27", GRAY.shape, {"filters": (8, 16), "dense": (16,)}), tmp_path, GRAY, "v27")
    contract = dataclasses.replace(other.contract, tolerance={"steering": 1e-4})
    check = v27.plant("float32.tflite", v27.content("float32.tflite"), contract)
    assert says(check, "golden frame") and says(check, "not this run's")
    # Its answers are still right: only the contract is wrong.
    assert not says(check, "max error")


@pytest.mark.slow
def test_a_head_that_saturates(tmp_path: Any) -> None:
    """A net whose last unit is dead beyond a point answers the same number to every sharp turn."""
    with quiet("building"):
        import keras

        net = fitted("v27", GRAY, {"filters": (8, 16), "dense": (16,)}, seed=2, epochs=3)
        below = keras.layers.Dense(1, activation="relu", name="below")
        top = keras.layers.Dense(1, name="top")
        capped = keras.Model(net.input, top(below(net.output)), name="capped")
        for layer in (below, top):  # 0.4 - relu(0.4 - x) is x up to 0.4, and 0.4 from there on.
            layer.set_weights([np.array([[-1.0]]), np.array([0.4])])
    bench = bench_of(capped, GRAY, "capped", tmp_path, ("float32.tflite", "int8.tflite"))
    for name in ("float32.tflite", "int8.tflite"):
        check = check_file(bench.candidate(name), bench.reference)
        assert says(check, "saturated")
        assert not says(check, "max error")
