"""The deploy graph and the files: the same function as the training model, in the form that was promised."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.bar_nets import GRAY, MADE, Bench, contract_for
from sepilot_export.convert import deploy, embed, support
from sepilot_export.convert.formats import FORMATS, choose_formats, format_named
from sepilot_export.pipeline.export import export_source
from sepilot_export.quantize.int8 import Int8Options
from sepilot_runtime.base.errors import OutputError, RunError
from sepilot_runtime.contract.contract import Contract, Picture
from sepilot_runtime.engine.model_file import read_model_file
from sepilot_runtime.engine.pilot import load_pilot
from sepilot_train.base.quiet import quiet

NETS = {
    "swift": (32, 48, 1),
    "v27": (32, 48, 1),
    "v27-foldable": (32, 48, 1),
    "pilotnet": (66, 70, 3),
    "donkey-linear": (80, 80, 3),
}


def random_net(name: str) -> tuple[Any, Contract]:
    """A net of the project with weights and batch statistics that are nowhere zero or one."""
    from sepilot_train.models import build_model

    shape = NETS[name]
    model = build_model(name, shape, {})
    picture = Picture(height=shape[0], width=shape[1], color="gray" if shape[2] == 1 else "bgr")
    contract = contract_for(picture, name)
    rng = np.random.default_rng(0)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for norm in norms:
        norm.momentum = 0.0
    model(noise(contract, 16).astype(np.float32) / 255, training=True)
    for norm in norms:
        gamma, beta, *statistics = norm.get_weights()
        norm.set_weights([rng.uniform(0.5, 1.5, gamma.shape), rng.uniform(-0.2, 0.2, beta.shape), *statistics])
    return model, contract


def noise(contract: Contract, count: int = 6) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, *contract.picture.shape), np.uint8) // rng.integers(
        1, 5, (count, 1, 1, 1), np.uint8
    )


@pytest.mark.parametrize("name", NETS)
def test_the_deploy_graph_is_the_same_function_without_batch_norm(name: str) -> None:
    model, contract = random_net(name)
    deployed = deploy.deploy_graph(model, contract)
    assert deploy.require_parity(model, deployed, noise(contract)) <= deploy.FLOAT_PARITY
    kinds = [type(layer).__name__ for layer in deployed.layers]
    assert not {"BatchNormalization", "Dropout", "Identity"} & set(kinds)
    assert deployed.input_shape == (1, *contract.picture.shape)
    assert {k: v.shape for k, v in deployed.output.items()} == {"steering": (1, 1)}
    rewritten = [x.name for x in deployed.layers if x.name.endswith("_norm")]
    assert len(rewritten) == (5 if name == "v27" else 0)


def test_shared_and_branching_layers_survive(tmp_path: Path) -> None:
    """A convolution that feeds two layers must not swallow the batch norm of one of them."""
    import keras

    K = keras.layers
    image = K.Input((16, 16, 1), name="image")
    x = K.Conv2D(4, 3, padding="same", name="both")(image)
    a = K.BatchNormalization(name="norm")(x)
    shared = K.Conv2D(4, 1, name="shared")
    y = K.Add(name="add")([shared(a), shared(K.ReLU(name="relu")(x))])
    y = K.BatchNormalization(name="norm2")(y)
    z = K.Dense(3, name="dense")(K.GlobalAveragePooling2D(name="average")(y))
    z = K.Dense(1, name="steering")(K.BatchNormalization(name="norm3")(z))
    model = keras.Model(image, z)
    rng = np.random.default_rng(0)
    for layer in (model.get_layer(n) for n in ("norm", "norm2", "norm3")):
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    contract = contract_for(Picture(height=16, width=16), "branches")
    deployed = deploy.deploy_graph(model, contract)
    deploy.require_parity(model, deployed, noise(contract))
    kinds = {layer.name: type(layer).__name__ for layer in deployed.layers}
    assert (kinds["norm"], kinds["norm2"], "norm3" in kinds) == ("DepthwiseConv2D", "DepthwiseConv2D", False)


def test_a_wrong_deploy_graph_is_found_and_its_layer_named() -> None:
    model, contract = random_net("v27")
    deployed = deploy.deploy_graph(model, contract)
    layer = deployed.get_layer("block3_norm")
    scale, shift = layer.get_weights()
    layer.set_weights([scale, shift + 0.05])
    with pytest.raises(RunError, match="first at layer block3_norm"):
        deploy.require_parity(model, deployed, noise(contract))


def test_a_model_that_ignores_its_input_is_refused() -> None:
    model, contract = random_net("swift")
    last = model.get_layer("steering")
    last.set_weights([np.zeros_like(w) for w in last.get_weights()])
    with pytest.raises(RunError, match="does not depend on its input"):
        deploy.require_parity(model, deploy.deploy_graph(model, contract), noise(contract))


def test_a_model_that_does_not_fit_its_contract_is_refused(v27: Bench, tmp_path: Path) -> None:
    wide = dataclasses.replace(v27.source.contract, inputs=(dataclasses.replace(GRAY, width=41),))
    with pytest.raises(RunError, match=r"one input of \(None, 24, 41, 1\) expected"):
        deploy.load_training_model(v27.source.model_path, wide)
    broken = tmp_path / "model.keras"
    broken.write_bytes(v27.source.model_path.read_bytes()[:2000])
    with pytest.raises(RunError, match=r"model\.keras"):
        deploy.load_training_model(broken, v27.source.contract)


@pytest.mark.parametrize("name", [f.name for f in MADE])
def test_every_file_has_the_shape_that_its_format_promises(v27: Bench, name: str) -> None:
    form, path = format_named(name), v27.folder / f"v27-{name}"
    contract = read_model_file(path).contract
    assert (contract.provenance.precision, contract.tolerance) == (form.precision, {"steering": form.tolerance})
    for key in ("picture", "outputs", "golden", "statistics"):
        assert getattr(contract, key) == getattr(v27.source.contract, key)
    assert {"tensorflow", "onnxruntime", "ai-edge-quantizer"} <= set(contract.provenance.versions)
    engine = load_pilot(path).engine
    assert engine.name == form.engine
    assert engine.input_dtype == (np.int8 if name in ("int8.tflite", "int8-float-head.tflite") else np.float32)


def test_int8_files_compute_in_int8(v27: Bench) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for name, output, floats in (("int8.tflite", np.int8, 0), ("int8-float-head.tflite", np.float32, 2)):
        interpreter = Interpreter(model_content=v27.content(name))
        (head,) = interpreter.get_output_details()
        assert head["dtype"] == output
        activations = [t for t in interpreter.get_tensor_details() if t["dtype"] == np.float32 and t["name"]]
        assert (
            sum("Relu" in t["name"] or "BiasAdd" in t["name"] or "dequant" in t["name"] for t in activations) <= floats
        )


def test_onnx_files_are_standard(v27: Bench) -> None:
    import onnx

    for name in ("float32.onnx", "float16.onnx", "int8.onnx", "int8-twin.onnx"):
        model = onnx.load_model_from_string(v27.content(name))
        onnx.checker.check_model(model, full_check=True)
        kinds = [n.op_type for n in model.graph.node]
        assert {o.domain: o.version for o in model.opset_import}[""] == 17
        assert "Transpose" not in kinds and "BatchNormalization" not in kinds
        assert ([i.name for i in model.graph.input], [o.name for o in model.graph.output]) == (["image"], ["steering"])
        assert ("QuantizeLinear" in kinds) == name.startswith("int8")
    for name in ("int8.onnx", "int8-twin.onnx"):
        assert all(w.dtype == np.int8 for w in embed.onnx_weights(v27.content(name)))


def test_smaller_precisions_make_smaller_files(v27: Bench) -> None:
    empty = len(v27.source.contract.to_json())
    size = {f.name: len(v27.content(f.name)) - empty for f in MADE}
    for suffix in ("tflite", "onnx"):
        assert size[f"float16.{suffix}"] < 0.95 * size[f"float32.{suffix}"]
    weights = {
        n: sum(w.nbytes for w in embed.tflite_weights(v27.content(n))) for n in ("float32.tflite", "int8.tflite")
    }
    assert weights["int8.tflite"] == pytest.approx(weights["float32.tflite"] / 4, rel=0.05)


def test_export_json_tells_what_made_the_files(v27: Bench) -> None:
    import gzip
    import hashlib

    record = json.loads((v27.folder / "export.json").read_text())
    assert (
        record["recipe"] == "v27" and record["tools"]["tensorflow"] and 0 <= record["deploy_graph_difference"] <= 1e-5
    )
    assert [f["format"] for f in record["files"]] == [f.name for f in MADE]
    for row in record["files"]:
        data = (v27.folder / row["file"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["bytes"], row["gzip_bytes"]) == (len(data), len(gzip.compress(data, 9)))
    frames = json.loads((v27.folder / "calibration.json").read_text())["frames"]
    assert len(frames) == 100
    assert not {f["name"] for f in frames} & set(v27.reference.names)
    assert {p.name for p in v27.folder.iterdir()} - {r["file"] for r in record["files"]} == {
        "calibration.json", "command.txt", "export.json", "int8-layers.json", "int8-layers.png", "reference.npz",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx"])
def test_embedding_changes_no_answer(v27: Bench, name: str, tmp_path: Path) -> None:
    put = embed.embed_tflite if name.endswith("tflite") else embed.embed_onnx
    base = read_model_file(v27.folder / f"v27-{name}").contract
    longer = dataclasses.replace(base, provenance=dataclasses.replace(base.provenance, created="later" * 50))
    content = put(put(v27.content(name), longer), base)
    path = tmp_path / name
    path.write_bytes(content)
    assert read_model_file(path).contract == base
    assert b"laterlater" not in content
    pictures = v27.reference.pictures[:20]
    a, b = load_pilot(v27.folder / f"v27-{name}"), load_pilot(path)
    assert [a.infer_picture(p)["steering"][0] for p in pictures] == [
        b.infer_picture(p)["steering"][0] for p in pictures
    ]


def test_zeros_are_counted_in_every_file(tmp_path: Path, v27: Bench) -> None:
    """Half of each kernel set to zero is half of the weights in each format."""
    import keras

    model = keras.models.clone_model(v27.model)
    model.set_weights(v27.model.get_weights())
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([w * (rng.random(w.shape) < 0.5) if w.ndim > 1 else w for w in layer.get_weights()])
    from parity.bar_nets import source_for

    source = source_for(model, tmp_path, GRAY, "pruned")
    formats = choose_formats(["float32", "int8.tflite", "int8.onnx"])
    files = export_source(source, formats, tmp_path / "out", int8=Int8Options(calibration_frames=32)).files
    for f in files:
        # The rewritten batch norms add a few weights that are not zero; int8 rounds a few more to it.
        assert 0.42 < f.sparsity < 0.60, f
        assert read_model_file(tmp_path / "out" / f.file).contract.provenance.sparsity == f.sparsity


def test_the_same_run_gives_the_same_tflite_files(v27: Bench, tmp_path: Path) -> None:
    formats = choose_formats(["float32.tflite", "int8.tflite"])
    export_source(v27.source, formats, tmp_path / "again", int8=Int8Options(calibration_frames=100))
    for form in formats:
        assert (tmp_path / "again" / f"v27-{form.name}").read_bytes() == v27.content(form.name)


def test_an_export_never_overwrites(v27: Bench) -> None:
    before = sorted((p.name, p.stat().st_mtime_ns) for p in v27.folder.iterdir())
    with pytest.raises(OutputError, match="exists already"):
        export_source(v27.source, FORMATS, v27.folder)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in v27.folder.iterdir()) == before


def test_a_model_that_answers_otherwise_than_in_training_is_refused(v27: Bench, tmp_path: Path) -> None:
    """As after a change of the drive, or of the crop in the contract."""
    shifted = dataclasses.replace(v27.source.held_out, pictures=np.roll(v27.source.held_out.pictures, 6, axis=2))
    source = dataclasses.replace(v27.source, held_out=shifted)
    with pytest.raises(RunError, match=r"does not answer as it did in training: frame held-\d+\.jpg"):
        export_source(source, FORMATS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_contract_that_the_file_does_not_keep_is_refused(v27: Bench, tmp_path: Path) -> None:
    """Golden frames that were made with another crop."""
    contract = v27.source.contract
    wrong = dataclasses.replace(contract, inputs=(dataclasses.replace(contract.picture, crop_bottom=0.3),))
    source = dataclasses.replace(v27.source, contract=wrong)
    with pytest.raises(RunError, match=r"float32\.tflite: the file does not pass its own golden frames"):
        export_source(source, choose_formats(["float32.tflite"]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_layers_that_a_format_breaks_are_named_before_anything_is_converted() -> None:
    import keras

    K = keras.layers

    def net(layer: Any) -> Any:
        image = K.Input((16, 16, 4), name="image")
        return keras.Model(image, K.Dense(1)(K.Flatten()(layer(image))))

    def broken(layer: Any, *words: str) -> dict[str, str]:
        found = support.unsupported(net(layer), choose_formats(words or ["all"]))
        return {f.format: f"{f.reason}; {f.way_out}" for f in found}

    soft = broken(K.Conv2D(4, 3, activation="softplus", name="soft"))
    # The twin is made from the first.
    assert list(soft) == ["int8.tflite", "int8-float-head.tflite", "int8-twin.onnx"]
    assert all("layer soft (Conv2D, activation softplus): " in line and "--max-drop" in line for line in soft.values())
    assert not broken(K.Conv2D(4, 3, activation="softplus"), "float32", "int8.onnx")
    gelu = broken(K.Activation("gelu", name="act"))
    assert set(gelu) == {f.name for f in FORMATS if f.suffix == "onnx"} and "Erfc" in gelu["float32.onnx"]
    assert "2 groups" in broken(K.Conv2D(4, 3, groups=2))["float16.onnx"]
    assert not broken(K.Conv2D(4, 3, groups=2), "tflite")
    assert "interpolation area" in broken(K.Resizing(8, 8, interpolation="area"), "float32.onnx")["float32.onnx"]


def test_quiet_keeps_the_log_only_of_what_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet("counting") as log:
        os.write(2, b"from C++\n")
        print("progress")
        print("words", file=sys.stderr)
        with quiet("inside"):
            os.write(1, b"more\n")
    assert not log.exists()
    with (
        pytest.raises(RunError, match=r"counting: KeyError: 'keras_tensor_59'; log: ") as caught,
        quiet("counting") as log,
    ):
        os.write(2, b"the cause\n")
        raise KeyError("keras_tensor_59")
    assert str(log) in str(caught.value)
    text = log.read_text()
    assert "the cause" in text and "Traceback" in text
    log.unlink()
    assert capfd.readouterr() == ("", "")
    os.write(2, b"back\n")
    assert capfd.readouterr().err == "back\n"


def uneven_net() -> tuple[Any, Contract]:
    """`v27` with channels that differ a hundredfold, as training leaves them, and the same function."""
    model, contract = random_net("v27")
    rng = np.random.default_rng(3)
    for number in range(1, 6):
        first, second = (model.get_layer(f"block{number}_separable{half}") for half in (1, 2))
        depthwise, pointwise = first.get_weights()
        factors = 10 ** rng.uniform(-1, 1, pointwise.shape[-1])
        first.set_weights([depthwise, pointwise * factors])
        depthwise, pointwise = second.get_weights()
        second.set_weights([depthwise / factors[:, None], pointwise])
    return model, contract


def test_equalization_keeps_the_function_and_evens_the_channels() -> None:
    from sepilot_export.convert.equalize import equalize

    model, contract = uneven_net()
    pictures = noise(contract, 12)
    deployed = deploy.deploy_graph(model, contract)

    def unevenness() -> float:
        import keras

        probe = keras.Model(deployed.inputs, deployed.get_layer("block2_separable1_pointwise").output)
        reach = np.max([np.asarray(probe([p[None].astype(np.float32) / 255])).max((0, 1, 2)) for p in pictures], axis=0)
        return float(reach.max() / reach[reach > 0].min())

    before = unevenness()
    # All but the last dense layer feed another one: 10 separable convolutions, 5 rewritten norms, 5 dense layers.
    assert equalize(deployed, pictures) == 30
    assert deploy.require_parity(model, deployed, pictures) <= deploy.FLOAT_PARITY
    assert unevenness() < before / 4


def test_equalization_leaves_shared_and_branching_tensors_alone() -> None:
    import keras

    from sepilot_export.convert.equalize import equalize

    K = keras.layers
    image = K.Input((16, 16, 1), name="image")
    x = K.Conv2D(4, 3, padding="same", activation="relu", name="branching")(image)
    y = K.Conv2D(4, 3, padding="same", activation="relu", name="added")(x)
    y = K.Conv2D(6, 3, activation="sigmoid", name="bounded")(K.Add(name="add")([x, y]))
    y = K.Conv2D(6, 3, name="capped")(y)
    y = K.Conv2D(6, 3, name="after")(K.ReLU(max_value=6, name="relu6")(y))
    model = keras.Model(image, K.Dense(1, name="steering")(K.Flatten(name="flat")(y)))
    contract = contract_for(Picture(height=16, width=16), "branches")
    deployed = deploy.deploy_graph(model, contract)
    assert equalize(deployed, noise(contract)) == 0
    deploy.require_parity(model, deployed, noise(contract))


def test_constants_that_lie_behind_the_file_survive_embedding(tmp_path: Path) -> None:
    """The quantizer puts large kernels behind the FlatBuffer, where a moved offset would find something else."""
    import keras

    from sepilot_export.convert import tflite
    from sepilot_export.convert.ranges import fit_ranges

    K = keras.layers
    image = K.Input((66, 100, 1), name="image")
    x = K.Dense(160, activation="relu", name="wide")(K.Flatten(name="flat")(image))
    model = keras.Model(image, K.Dense(1, name="steering")(x))
    contract = contract_for(Picture(height=66, width=100), "wide")
    pictures = noise(contract, 20)
    with quiet("conversion"):
        tflite.save_graph(deploy.deploy_graph(model, contract), contract, tmp_path / "saved")
        float32 = tflite.convert(tmp_path / "saved", "float32")
        content = tflite.quantize(float32, contract, fit_ranges(tflite.activations_of(float32), pictures).ranges)
    path = tmp_path / "wide.tflite"
    path.write_bytes(embed.embed_tflite(content, contract))
    pilot = load_pilot(path, verify=False)
    with quiet("prediction"):
        expected = deploy.predict(model, pictures)["steering"]
    assert np.abs([pilot.infer_picture(p)["steering"][0] for p in pictures] - expected).max() < 0.05 * np.ptp(expected)
    assert sum(w.size for w in embed.tflite_weights(path.read_bytes())) == 66 * 100 * 160 + 160
