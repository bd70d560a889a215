"""int8 that knows what it costs: layers kept in float32, the twin, the noise of each layer, files without zeros."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.bar_nets import GRAY, Bench, bar_frames, frame_set, source_for
from sepilot_export.convert import embed, tflite
from sepilot_export.convert.formats import choose_formats, format_named
from sepilot_export.convert.inputs import ExportInputs
from sepilot_export.convert.int8_as_onnx import to_onnx
from sepilot_export.convert.layer_names import names_of, onnx_layers, tflite_layers
from sepilot_export.convert.ranges import fit_ranges
from sepilot_export.pipeline.export import LAYERS_NAME, Written, export_source
from sepilot_export.pipeline.export_table import print_files, print_layers
from sepilot_export.quantize.int8 import Int8Options
from sepilot_export.quantize.sqnr import layer_rows, tflite_noise
from sepilot_export.verify.check import candidates_of, check_file, check_files
from sepilot_export.verify.file_check import FileCheck
from sepilot_export.verify.reference import read_reference
from sepilot_runtime.base.errors import RunError
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.base.quiet import quiet

INT8 = choose_formats(["float32.tflite", "float32.onnx", "int8"])


@dataclasses.dataclass(frozen=True)
class Soft:
    """A net with a softplus inside, which int8 destroys, exported with --max-drop."""

    source: ExportInputs
    folder: Path
    written: Written

    def row(self, name: str) -> Any:
        return next(f for f in self.written.files if f.format == name)


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> Soft:
    folder = tmp_path_factory.mktemp("soft")
    with quiet("fitting"):
        import keras

        K = keras.layers
        keras.utils.set_random_seed(0)
        image = K.Input(GRAY.shape, name="image")
        x = image
        for number, (filters, kind) in enumerate(((8, "relu"), (16, "softplus"), (16, "relu"))):
            x = K.Conv2D(filters, 3, strides=2, padding="same", name=f"conv{number}")(x)
            x = K.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
            x = K.Activation(kind, name=f"{kind}{number}")(x)
        x = K.Dense(16, activation="relu", name="dense1")(K.Flatten(name="flat")(x))
        model = keras.Model(image, K.Dense(1, name="steering")(x), name="soft")
        frames, labels = bar_frames(1200, 10)
        pictures = frame_set(frames, labels, GRAY, "fit").pictures.astype(np.float32) / 255
        model.compile(keras.optimizers.Adam(3e-3), "mse")
        model.fit(pictures, labels, epochs=6, batch_size=32, verbose=0)
    source = source_for(model, folder, GRAY, "soft")
    with pytest.raises(RunError, match=r"layer softplus1 .*activation softplus.*keep it in float32 with --max-drop"):
        export_source(source, choose_formats(["int8.tflite", "int8-twin.onnx"]), folder / "plain")
    written = export_source(
        source, INT8, folder / "export", int8=Int8Options(calibration_frames=100, max_drop=0.002), command="export"
    )
    return Soft(source, folder / "export", written)


def checks_of(folder: Path) -> dict[str, FileCheck]:
    found = check_files(candidates_of(folder), read_reference(folder))
    return {check.candidate.form.name: check for check in found}


def test_a_destroyed_layer_is_kept_in_float32_and_the_file_passes(soft: Soft) -> None:
    row = soft.row("int8.tflite")
    assert "softplus1" in row.kept_float and len(row.kept_float) <= 3
    assert any("error" in reason or "MAE" in reason for reason in row.kept_because)
    checks = checks_of(soft.folder)
    assert [name for name, check in checks.items() if not check.passed] == []
    # Still int8 where it counts: the input, and all kernels but those of the layers that were kept.
    assert load_pilot(soft.folder / row.file).engine.input_dtype == np.int8
    weights = embed.tflite_weights((soft.folder / row.file).read_bytes())
    assert sum(w.dtype == np.int8 for w in weights) >= len(weights) - len(row.kept_float)


def test_the_plain_file_would_have_failed(soft: Soft) -> None:
    from sepilot_export.convert.in_memory import pilot_of

    contract, held = soft.source.contract, soft.source.held_out
    with quiet("conversion"):
        import keras

        from sepilot_export.convert import deploy

        graph = deploy.deploy_graph(keras.models.load_model(soft.source.model_path), contract)
        tflite.save_graph(graph, contract, soft.folder.parent / "saved")
        float32 = tflite.convert(soft.folder.parent / "saved", "float32")
        ranges = fit_ranges(tflite.activations_of(float32), soft.source.training.pictures[:100]).ranges
        plain = pilot_of(tflite.quantize(float32, contract, ranges), "tflite", contract)
        answers = np.array([plain.infer_picture(p)["steering"][0] for p in held.pictures])
    assert np.abs(answers - soft.source.saved["steering"]).max() > format_named("int8.tflite").limits["max_error"]


def test_the_price_and_both_sets_of_frames_are_told(soft: Soft, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((soft.folder / "export.json").read_text())
    row = next(f for f in record["files"] if f["format"] == "int8.tflite")
    assert record["max_drop"] == 0.002 and row["limits"]["mae_increase"] == 0.002
    cost = row["cost"]
    assert min(cost["us"], cost["plain_us"], cost["float32_us"]) > 0
    assert max(cost["bytes"], cost["plain_bytes"]) < cost["float32_bytes"]
    decided, judged = row["figures"]
    assert (decided["on"], judged["on"]) == ("training frames beside the calibration", "held-out frames")
    assert judged["frames"] == 500 and 300 <= decided["frames"] <= 500 and decided["misses"] == []
    print_files(soft.written.files, soft.written.failed, soft.folder, soft.source.contract.outputs)
    print_layers(soft.folder)
    printed = capsys.readouterr().out
    assert "in float32 instead: " in printed and "of plain int8" in printed
    assert "training frames beside the calibration: mean" in printed and "held-out frames: mean" in printed
    assert any(line.startswith("softplus1") and "*" in line for line in printed.splitlines())


def test_the_layer_that_loses_most_stands_out(soft: Soft) -> None:
    record = json.loads((soft.folder / LAYERS_NAME).read_text())
    assert record["kept_float"]["int8.tflite"] == list(soft.row("int8.tflite").kept_float)
    for form in ("int8.tflite", "int8.onnx"):
        layers = [row["layer"] for row in record["sqnr_db"][form]]
        assert list(dict.fromkeys(layers))[:2] == ["conv0", "conv1"] and layers[-1] == "steering"
    lowest = min(record["sqnr_db"]["int8.tflite"], key=lambda row: row["sqnr_db"])
    assert lowest["layer"] == "softplus1"
    worst = record["damage_alone"]["int8.tflite"]
    assert worst[0]["layer"] in ("softplus1", "conv2") and worst[0]["mean"] > 3 * worst[3]["mean"]
    assert (soft.folder / "int8-layers.png").read_bytes()[:4] == b"\x89PNG"


def test_the_twin_of_a_mixed_file_answers_like_it(soft: Soft) -> None:
    row = soft.row("int8-twin.onnx")
    assert row.kept_float == soft.row("int8.tflite").kept_float and row.twin.steps <= row.twin.allowed_steps
    assert checks_of(soft.folder)["int8-twin.onnx"].twin_steps <= 4


def test_without_need_nothing_changes(v27: Bench, tmp_path: Path) -> None:
    formats = choose_formats(["int8.tflite", "int8.onnx"])
    options = Int8Options(calibration_frames=100, max_drop=0.02)
    written = export_source(v27.source, formats, tmp_path / "drop", int8=options)
    assert [f.kept_float for f in written.files] == [(), ()] and written.warnings == ()
    assert (tmp_path / "drop" / "v27-int8.tflite").read_bytes() == v27.content("int8.tflite")


def test_a_gate_that_nothing_holds_is_told(v27: Bench, tmp_path: Path) -> None:
    source = dataclasses.replace(v27.source, gates={"int8": {"max_error": 1e-6}})
    options = Int8Options(calibration_frames=32, max_drop=0.002)
    written = export_source(source, choose_formats(["int8.tflite"]), tmp_path / "out", int8=options)
    assert written.files[0].kept_float == ()
    (warning,) = [w for w in written.warnings if "worst half" in w]
    assert warning.startswith("int8.tflite: misses its gates on training frames (max error")


def test_too_few_frames_to_decide_on_are_refused(v27: Bench, tmp_path: Path) -> None:
    training = v27.source.training
    source = dataclasses.replace(v27.source, training=training.take(range(120)))
    with pytest.raises(RunError, match=r"--max-drop: 64 training frames beside the calibration frames expected"):
        export_source(
            source, choose_formats(["int8.onnx"]), tmp_path / "out",
            int8=Int8Options(calibration_frames=100, max_drop=0.01),
        )  # fmt: skip


def test_choices_of_calibration_frames_are_compared(v27: Bench) -> None:
    found = json.loads((v27.folder / "calibration.json").read_text())["choices"]
    assert [e["choice"] for e in found["errors"]] == ["tails", "random", "first"]
    assert all(0 < e["mean"] <= e["p99"] <= e["max"] for e in found["errors"])
    assert "training frames that none of the choices holds" in found["on"]


def test_an_outlier_among_the_calibration_frames_is_named(v27: Bench, tmp_path: Path) -> None:
    """A checkerboard, as a lens cap or a broken JPEG may give, reaches further than any picture of the track."""
    training = v27.source.training
    pictures = training.pictures.copy()
    pictures[123] = 255 * (np.indices(GRAY.shape).sum(axis=0) % 2)
    source = dataclasses.replace(v27.source, training=dataclasses.replace(training, pictures=pictures))
    options = Int8Options(calibration_frames=100)
    written = export_source(source, choose_formats(["int8.onnx"]), tmp_path / "out", int8=options)
    assert any("train-0123.jpg of drive train alone reaches" in w for w in written.warnings), written.warnings


def test_a_wrong_range_shows_in_its_layer(v27: Bench) -> None:
    """As a moving average would have it: one tensor's range a tenth of what it reaches."""
    float32 = v27.content("float32.tflite")
    pictures = v27.source.training.pictures[:20]
    with quiet("conversion"):
        from sepilot_export.convert import deploy

        names = names_of(deploy.deploy_graph(v27.model, v27.source.contract))
        tensors = tflite.tensor_names(float32)
        layers = tflite_layers(float32, names, {tensors["steering"]: "steering"})
        fitted = fit_ranges(tflite.activations_of(float32), pictures)
        target = layers["block2_separable2_pointwise"][-1]
        wrong = {**fitted.ranges, target: tuple(0.1 * x for x in fitted.ranges[target])}
        clean, planted = (
            layer_rows({"x": tflite_noise(float32, tflite.quantize(float32, v27.source.contract, r), layers, pictures)})
            for r in (fitted.ranges, wrong)
        )
    loss = {name: clean[name]["x"] - planted[name]["x"] for name in clean}
    first = next(name for name in loss if loss[name] > 5)
    assert first == "block2_separable2_pointwise" and min(r["x"] for r in clean.values()) > 15


def test_operations_are_told_by_layer_in_both_formats(v27: Bench) -> None:
    with quiet("graph"):
        from sepilot_export.convert import deploy, onnx_file

        names = names_of(deploy.deploy_graph(v27.model, v27.source.contract))
        prepared = onnx_file.prepare(v27.content("float32.onnx"))
    weighted = {name for name, has in names.items() if has}
    heads = {tflite.tensor_names(v27.content("float32.tflite"))["steering"]: "steering"}
    for parts in (tflite_layers(v27.content("float32.tflite"), names, heads), onnx_layers(prepared, names)):
        assert weighted <= set(parts) <= set(names)
        assert list(parts)[-1] == "steering"


def test_onnx_runtime_leaves_float_layers_alone(v27: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At load it quantizes a float32 dense layer between int8 ones by itself; only the answers show it."""
    import onnxruntime as ort

    from sepilot_export.convert import deploy, onnx_file

    contract, pictures = v27.source.contract, v27.source.training.pictures[:40]
    with quiet("conversion"):
        prepared = onnx_file.prepare(v27.content("float32.onnx"))
        names = names_of(deploy.deploy_graph(v27.model, contract))
        ranges = fit_ranges(onnx_file.activations_of(prepared, contract), pictures).ranges
    nodes = onnx_layers(prepared, names)["dense1"]

    def change() -> float:
        """Largest difference that ONNX Runtime's rewriting of the graph makes."""
        with quiet("quantization"):
            content = onnx_file.quantize(prepared, contract, pictures[:4], ranges, keep_float=nodes)
        answers = []
        for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
            options = ort.SessionOptions()
            options.graph_optimization_level = level
            session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            inputs = pictures.astype(np.float32) * np.float32(1 / 255)
            answers.append(np.array([session.run(None, {"image": x[None]})[0].item() for x in inputs]))
        return float(np.abs(answers[0] - answers[1]).mean())

    shielded = change()
    monkeypatch.setattr(onnx_file, "keep_float_nodes", lambda model: None)
    if not (unshielded := change()):
        pytest.skip(f"onnxruntime {ort.__version__} rewrites nothing here")
    assert unshielded > 2 * shielded


@pytest.fixture(scope="module")
def twins(v27: Bench) -> Iterator[dict[str, Any]]:
    yield {c.form.name: c for c in candidates_of(v27.folder) if c.form.name in ("int8.tflite", "int8-twin.onnx")}


def test_the_twin_answers_as_its_tflite_file(v27: Bench, twins: dict[str, Any]) -> None:
    original, twin = check_files(list(twins.values()), v27.reference)
    assert twin.passed and twin.twin_steps is not None and twin.twin_steps <= 1
    # The other int8 ONNX file comes from another quantizer and is not bound to it.
    assert (twin.answers["steering"] == original.answers["steering"]).mean() > 0.9


def test_a_twin_with_a_changed_scale_is_caught(v27: Bench, twins: dict[str, Any]) -> None:
    """The output's scale 6 % off: it loads and passes its golden frames."""
    import onnx

    model = onnx.load_model_from_string(v27.content("int8-twin.onnx"))
    scale = next(t for t in model.graph.initializer if t.name == "steering_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(1.06), scale.name))
    path = v27.scratch / "planted-int8-twin.onnx"
    contract = load_pilot(v27.folder / "v27-int8-twin.onnx").contract
    path.write_bytes(embed.embed_onnx(model.SerializeToString(), contract))
    planted = dataclasses.replace(twins["int8-twin.onnx"], path=path)
    assert load_pilot(path) and not any("twin" in r for r in check_file(planted, v27.reference).reasons)
    original, check = check_files([twins["int8.tflite"], planted], v27.reference)
    assert original.passed
    assert any("output steps from int8.tflite, whose twin it is, at most 6 allowed" in r for r in check.reasons)


def test_a_twin_that_strays_is_not_written(v27: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from sepilot_export.convert import int8_as_onnx as twin

    pictures, content = v27.source.training.pictures[:20], v27.content("int8.tflite")
    read, asked = twin._heads, []

    def wrong(file: bytes) -> Any:
        """Nine steps off, where the file is given its names; what the distance is measured in stays as it is."""
        heads = read(file)
        asked.append(file)
        if len(asked) > 1:
            return heads
        (name, head), affine = next(iter(heads.items())), next(iter(heads.values())).affine
        assert affine is not None
        return {name: dataclasses.replace(head, affine=dataclasses.replace(affine, zero_point=affine.zero_point + 9))}

    monkeypatch.setattr(twin, "_heads", wrong)
    with quiet("conversion"), pytest.raises(RunError, match=r"int8-twin\.onnx: at most 6 output steps.*found 9"):
        to_onnx(content, v27.source.contract, pictures)


def zeroed(model: Any, share: float) -> Any:
    """A copy in which that share of each kernel's weights, the smallest, is zero."""
    with quiet("pruning"):
        import keras

        copy = keras.models.clone_model(model)
        zeros = [
            np.where(np.abs(w) > np.quantile(np.abs(w), share), w, 0.0) if w.ndim > 1 and w.size >= 64 else w
            for w in model.get_weights()
        ]
        copy.set_weights(zeros)
        return copy


def test_zeros_are_left_out_where_there_are_enough(v27: Bench, tmp_path: Path) -> None:
    source = source_for(zeroed(v27.model, 0.7), tmp_path, GRAY, "pruned")
    written = export_source(source, choose_formats(["float32.tflite", "sparse.tflite"]), tmp_path / "out")
    dense, without = written.files
    assert (dense.format, without.format, written.left_out) == ("float32.tflite", "sparse.tflite", ())
    kernels = embed.tflite_weights((tmp_path / "out" / dense.file).read_bytes())
    assert dense.bytes - without.bytes > 0.25 * sum(kernel.nbytes for kernel in kernels)
    assert abs(without.sparsity - dense.sparsity) < 0.02 and dense.sparsity > 0.5
    assert [c.passed for c in checks_of(tmp_path / "out").values()] == [True, True]
    assert all(file.gzip_bytes < file.bytes for file in written.files)


def test_a_dense_net_has_no_sparse_file(v27: Bench, tmp_path: Path) -> None:
    written = export_source(v27.source, choose_formats(["float32.tflite", "sparse.tflite"]), tmp_path / "out")
    assert [f.format for f in written.files] == ["float32.tflite"]
    assert "sparse.tflite: left out, as no kernel has 30% zeros" in written.left_out[0]
    with pytest.raises(RunError, match="nothing to export: sparse"):
        export_source(v27.source, choose_formats(["sparse.tflite"]), tmp_path / "none")
