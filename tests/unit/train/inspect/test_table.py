"""The layer table against values computed by hand."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest

from model_factory import write_onnx, write_tflite
from sepilot_export.convert.concatenate import join_onnx, join_tflite
from sepilot_export.convert.preprocessing import picture_graph, to_onnx, to_tflite
from sepilot_runtime.base.errors import ModelFileError
from sepilot_runtime.cli import main
from sepilot_runtime.contract.contract import FrameInput, Picture
from sepilot_runtime.engine.tflite_reader import macs_of
from sepilot_train.base.quiet import quiet
from sepilot_train.inspect.keras import keras_nodes, keras_warnings
from sepilot_train.inspect.onnx import onnx_nodes
from sepilot_train.inspect.table import LayerTable, layer_table
from sepilot_train.inspect.tflite import tflite_nodes
from sepilot_train.models import build_model

L = keras.layers


def table(inputs: Any, outputs: Any) -> LayerTable:
    return layer_table(keras_nodes(keras.Model(inputs, outputs)))


def row(t: LayerTable, name: str) -> Any:
    return next(r for r in t.rows if r.name == name)


def test_strides_and_pools() -> None:
    x = i = keras.Input((64, 64, 3))
    x = L.Conv2D(8, 7, strides=2, padding="same", name="a")(x)
    x = L.MaxPooling2D(3, strides=2, padding="same", name="b")(x)
    x = L.Conv2D(16, 3, padding="same", name="c")(x)
    t = table(i, x)
    # The start of a ResNet: 7, then 7 + 2*2 = 11, then 11 + 2*4 = 19.
    assert [row(t, n).receptive_field for n in "abc"] == [(7, 7), (11, 11), (19, 19)]
    assert [row(t, n).stride for n in "abc"] == [(2, 2), (4, 4), (4, 4)]
    assert row(t, "a").macs == 32 * 32 * 7 * 7 * 3 * 8
    assert row(t, "c").macs == 16 * 16 * 3 * 3 * 8 * 16
    assert row(t, "c").parameters == 3 * 3 * 8 * 16 + 16


def test_dilation_and_uneven_windows() -> None:
    x = i = keras.Input((32, 32, 1))
    x = L.Conv2D(4, 3, dilation_rate=2, padding="same", name="a")(x)
    x = L.Conv2D(4, (1, 5), padding="same", name="b")(x)
    x = L.DepthwiseConv2D((5, 3), strides=2, padding="same", name="c")(x)
    x = L.Conv2D(4, 3, dilation_rate=4, padding="same", name="d")(x)
    t = table(i, x)
    assert row(t, "a").receptive_field == (5, 5)
    assert row(t, "b").receptive_field == (5, 9)
    assert row(t, "c").receptive_field == (9, 11)
    assert row(t, "d").receptive_field == (9 + 2 * 4 * 2, 11 + 2 * 4 * 2)
    assert t.receptive_field == 27


def test_widest_branch_counts() -> None:
    i = keras.Input((32, 32, 4))
    a = L.SeparableConv2D(4, 3, padding="same", name="a1")(i)
    a = L.SeparableConv2D(4, 3, padding="same", name="a2")(a)
    b = L.Conv2D(4, 1, name="b")(i)
    x = L.Add(name="add")([a, b])
    x = L.Conv2D(8, 3, strides=2, padding="same", name="c")(x)
    t = table(i, x)
    assert row(t, "b").receptive_field == (1, 1)
    assert row(t, "add").receptive_field == (5, 5)
    assert row(t, "c").receptive_field == (7, 7)
    # 3*3 weights per input channel, then 4x4 pointwise, at 32x32 places.
    assert row(t, "a1").macs == 32 * 32 * (3 * 3 * 4 + 4 * 4)
    assert row(t, "a1").parameters == 3 * 3 * 4 + 4 * 4 + 4


def test_global_layers_see_the_whole_picture() -> None:
    x = i = keras.Input((20, 30, 1))
    x = L.Conv2D(4, 3, padding="same", name="a")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.Dropout(0.5, name="dropout")(x)
    x = L.Dense(2, name="dense")(x)
    t = table(i, x)
    assert [row(t, n).everything for n in ("a", "pool", "dropout", "dense")] == [False, True, True, True]
    assert row(t, "pool").receptive_field == (20, 30)
    assert row(t, "pool").stride is row(t, "dense").stride is None
    assert row(t, "dense").macs == 8
    assert t.receptive_field == 3


def squeeze_and_excite() -> Any:
    """A map at stride 2, weighed by a vector that saw everything, and a convolution behind it."""
    x = i = keras.Input((32, 48, 3), name="image")
    x = L.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    s = L.GlobalAveragePooling2D(name="squeeze")(x)
    s = L.Dense(4, activation="relu", name="narrow")(s)
    s = L.Reshape((1, 1, 8), name="lift")(L.Dense(8, activation="sigmoid", name="wide")(s))
    x = L.Multiply(name="weigh")([x, s])
    x = L.Conv2D(8, 3, strides=2, padding="same", name="behind")(x)
    return keras.Model(i, L.Flatten(name="flat")(x))


def test_a_vector_that_saw_everything_keeps_the_strides_of_the_map_it_is_put_upon() -> None:
    t = layer_table(keras_nodes(squeeze_and_excite()))
    assert row(t, "stem").receptive_field == (3, 3)
    assert [row(t, n).stride for n in ("stem", "squeeze", "narrow", "lift", "weigh", "behind", "flat")] == [
        (2, 2), None, None, None, (2, 2), (4, 4), None,
    ]  # fmt: skip
    for name in ("squeeze", "wide", "lift", "weigh", "behind", "flat"):
        assert row(t, name).everything and row(t, name).receptive_field == (32, 48)
    assert t.receptive_field == 48 and t.field_text == "the whole picture"
    layers = {layer["name"]: layer for layer in t.to_json()["layers"]}
    assert (layers["squeeze"]["receptive_field"], layers["squeeze"]["stride"]) == ([32, 48], None)
    assert (layers["weigh"]["receptive_field"], layers["weigh"]["stride"]) == ([32, 48], 2)


def test_everything_is_printed_as_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    squeeze_and_excite().save(path := tmp_path / "se.keras")
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    (behind,) = (line.split() for line in printed.splitlines() if line.startswith("behind"))
    assert behind[-2:] == ["all", "4"] and "receptive field the whole picture (last window)" in printed


def dense_on_a_map() -> Any:
    x = i = keras.Input((32, 48, 3), name="image")
    x = L.Conv2D(8, 3, strides=2, padding="same")(x)
    x = L.Dense(5, activation="relu", name="dense")(x)
    x = L.Conv2D(4, 3, padding="same")(x)
    return keras.Model(i, L.Dense(1, name="last")(L.GlobalAveragePooling2D()(x)))


def test_a_dense_layer_on_a_map_is_a_convolution_of_one_pixel() -> None:
    t = layer_table(keras_nodes(dense_on_a_map()))
    dense, behind = row(t, "dense"), t.rows[3]
    assert (dense.receptive_field, dense.stride, dense.everything) == ((3, 3), (2, 2), False)
    assert (behind.receptive_field, behind.stride) == ((7, 7), (2, 2))
    assert dense.macs == 16 * 24 * 8 * 5


def test_a_vector_beside_the_picture_has_not_seen_it() -> None:
    i, speed = keras.Input((16, 16, 1)), keras.Input((1,), name="speed")
    x = L.Conv2D(4, 3, strides=2, padding="same")(i)
    x = L.Multiply(name="weigh")([x, L.Reshape((1, 1, 4))(L.Dense(4, name="gain")(speed))])
    t = layer_table(keras_nodes(keras.Model([i, speed], x)))
    assert (row(t, "gain").everything, row(t, "gain").stride) == (False, None)
    assert (row(t, "weigh").receptive_field, row(t, "weigh").stride) == ((3, 3), (2, 2))


def tflite_of(model: Any, folder: Path, pictures: int | None = 1) -> Path:
    """A TFLite file for so many pictures at once; None for any number."""
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((pictures, *model.input_shape[1:]), tf.float32, name="image")
    archive.add_endpoint("serve", lambda image: model(image, training=False), input_signature=[spec])
    with quiet("converting"):
        archive.write_out(str(folder / "saved"), verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"), signature_keys=["serve"])
        (path := folder / "net.tflite").write_bytes(converter.convert())
    return path


def onnx_of(model: Any, folder: Path) -> Path:
    import tensorflow as tf
    import tf2onnx

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    function = tf.function(lambda image: model(image, training=False))
    with quiet("converting"):
        made, _ = tf2onnx.convert.from_function(function, input_signature=(spec,), opset=17)
    (path := folder / "net.onnx").write_bytes(made.SerializeToString())
    return path


def windows(t: LayerTable) -> list[Any]:
    """Field, stride and MACs of the layers that count."""
    return [(r.receptive_field, r.stride, r.everything, r.macs) for r in t.rows if r.macs]


@pytest.mark.parametrize("net", [squeeze_and_excite, dense_on_a_map])
def test_files_have_the_fields_and_strides_of_the_net(tmp_path: Path, net: Any) -> None:
    expected = windows(layer_table(keras_nodes(model := net())))
    assert windows(layer_table(tflite_nodes(tflite_of(model, tmp_path)))) == expected
    assert windows(layer_table(onnx_nodes(onnx_of(model, tmp_path)))) == expected


def small_net() -> Any:
    x = i = keras.Input((12, 20, 1), name="image")
    x = L.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    x = L.Conv2D(6, 3, strides=2, padding="same", name="second")(x)
    return keras.Model(i, L.Dense(1)(L.Flatten()(x)))


SMALL_MACS = 6 * 10 * 9 * 4 + 3 * 5 * 9 * 4 * 6 + 90


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_preprocessing_inside_a_file_is_no_part_of_the_net(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    picture, frame = Picture(height=12, width=20), FrameInput(height=24, width=40)
    graph, path = picture_graph(picture, frame), tmp_path / f"frame{suffix}"
    with quiet("preprocessing"):
        front = (to_tflite if suffix == ".tflite" else to_onnx)(graph, picture, frame)
    read: Any
    if suffix == ".tflite":
        read, alone = tflite_nodes, tflite_of(small_net(), tmp_path)
        path.write_bytes(join_tflite(front, alone.read_bytes()))
    else:
        read, alone = onnx_nodes, onnx_of(small_net(), tmp_path)
        path.write_bytes(join_onnx(front, alone.read_bytes(), "image"))
    t, net = layer_table(read(path)), layer_table(read(alone))
    assert t.parameters == net.parameters and t.receptive_field == 7
    # Gray first, sixteen pixels of three colours at once; halved, each pixel lies between two: along the 24 lines
    # groups of two pixels to one.
    assert t.macs == SMALL_MACS + 24 * 40 // 16 * 48 * 16 + 24 * 20 * 2
    first = next(r for r in t.rows if r.role == "input")
    assert (first.output_shape, first.receptive_field, first.stride) == ((12, 20, 1), (1, 1), (1, 1))
    assert windows(t)[-3:] == windows(net) and [w[:2] for w in windows(net)] == [
        ((3, 3), (2, 2)), ((7, 7), (4, 4)), ((12, 20), None),
    ]  # fmt: skip
    assert main(["inspect", str(path)]) == 0
    assert "preprocessing resizes the frame" in " ".join(capsys.readouterr().out.split())


def test_one_count_of_macs_for_inspect_and_bench(tmp_path: Path) -> None:
    path = tflite_of(dense_on_a_map(), tmp_path)
    by_hand = 16 * 24 * 9 * 3 * 8 + 16 * 24 * 8 * 5 + 16 * 24 * 9 * 5 * 4 + 4
    assert layer_table(tflite_nodes(path)).macs == macs_of(path.read_bytes()) == by_hand


def test_places_and_sizes_are_no_parameters(tmp_path: Path) -> None:
    x = i = keras.Input((12, 20, 2), name="image")
    x = L.Cropping2D(((2, 0), (0, 0)))(x)
    x = L.ZeroPadding2D(1)(x)
    x = L.Conv2D(4, 3, strides=2, name="stem")(x)
    x = L.Reshape((10, 5, 4))(x)
    model = keras.Model(i, L.Dense(1, use_bias=False)(L.Flatten()(x)))
    t = layer_table(tflite_nodes(tflite_of(model, tmp_path)))
    assert {r.kind for r in t.rows} >= {"STRIDED_SLICE", "PAD", "RESHAPE"}
    assert t.parameters == 9 * 2 * 4 + 4 + 5 * 10 * 4


@pytest.mark.parametrize("pictures", [1, None])
def test_a_dilated_convolution_in_parts_counts_as_a_whole(tmp_path: Path, pictures: int | None) -> None:
    x = i = keras.Input((32, 48, 3), name="image")
    x = L.Conv2D(4, 3, padding="same", name="plain")(x)
    x = L.Conv2D(4, 3, padding="same", dilation_rate=4, name="dilated")(x)
    x = L.DepthwiseConv2D(3, padding="same", dilation_rate=4, name="deep")(x)
    x = L.Conv2D(4, 3, padding="same", name="behind")(x)
    path = tflite_of(keras.Model(i, x), tmp_path, pictures)
    t = layer_table(tflite_nodes(path))
    assert ("SPACE_TO_BATCH_ND" in {r.kind for r in t.rows}) == (pictures is None)
    counted = [r for r in t.rows if r.macs]
    # 3, then 3 + 2*4 = 11, then 19, then 21; every weight is used at 32 x 48 places.
    assert [r.receptive_field for r in counted] == [(3, 3), (11, 11), (19, 19), (21, 21)]
    assert [r.macs // (32 * 48) for r in counted] == [9 * 3 * 4, 9 * 4 * 4, 9 * 4, 9 * 4 * 4]
    assert t.rows[-1].stride == (1, 1)
    assert t.macs == macs_of(path.read_bytes())


def test_a_shared_layer_counts_once() -> None:
    i = keras.Input((16, 16, 4))
    shared = L.Conv2D(4, 3, padding="same", use_bias=False, name="shared")
    t = table(i, shared(shared(i)))
    assert t.parameters == 3 * 3 * 4 * 4
    assert t.macs == 2 * 16 * 16 * 3 * 3 * 4 * 4
    assert t.receptive_field == 5


def test_v27_is_the_source_materials_net(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "v27", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"] == {"parameters": 64546, "macs": 4118336, "receptive_field": 156}
    assert any("cannot be folded" in w for w in found["warnings"])
    kinds = [layer["kind"] for layer in found["layers"]]
    assert kinds.count("SeparableConv2D") == 10 and kinds.count("MaxPooling2D") == 5 and kinds.count("Dense") == 6


def test_foldable_order_is_not_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "v27-foldable", "--json"]) == 0
    assert not [w for w in json.loads(capsys.readouterr().out)["warnings"] if "cannot be folded" in w]


@pytest.mark.parametrize("activation", ["mish", "softplus", "selu", "gelu"])
def test_activations_that_deployment_destroys_are_named(activation: str) -> None:
    i = keras.Input((8, 8, 1))
    model = keras.Model(i, L.Conv2D(2, 3, activation=activation, name="guilty")(i))
    assert any("guilty" in w and activation in w for w in keras_warnings(model))


@pytest.mark.parametrize(
    ("activation", "said"),
    [
        ("relu", ""),
        ("relu6", ""),
        ("leaky", "leaky (stem_leaky and 4 more layers): stays in float32 inside int8.tflite"),
        ("swish", "swish (stem_swish and 4 more layers): int8 changes the answers by a quarter more"),
        ("hard-swish", "hard-swish (stem_hard_swish and 4 more layers): int8.tflite takes 2.8 times as long"),
    ],
)
def test_what_int8_does_to_a_net_of_ours_is_said_once(activation: str, said: str) -> None:
    options = {"widths": [16, 32], "repeats": [1, 1], "activation": activation}
    warnings = keras_warnings(build_model("cifar-sep", (16, 16, 3), options))
    assert len(warnings) == bool(said) and all(w.startswith(said) for w in warnings)


def nested() -> Any:
    """A Sequential and a Functional model inside a third; the Functional one is used twice."""
    first = keras.Sequential(
        [keras.Input((16, 24, 8)), L.Conv2D(8, 3, strides=2, padding="same", name="a")], name="one"
    )
    i = keras.Input((8, 12, 8))
    x = L.Add(name="sum")([i, L.Conv2D(8, 3, padding="same", use_bias=False, name="b")(i)])
    second = keras.Model(i, L.BatchNormalization(name="norm")(x), name="two")
    x = i = keras.Input((32, 48, 3))
    x = first(L.Conv2D(8, 3, strides=2, padding="same", name="stem")(x))
    return keras.Model(i, second(second(x)))


def test_a_net_inside_a_net_is_listed_layer_by_layer() -> None:
    t = layer_table(keras_nodes(model := nested()))
    assert [(r.name, r.receptive_field, r.stride) for r in t.rows if r.role == "window"] == [
        ("stem", (3, 3), (2, 2)), ("one/a", (7, 7), (4, 4)), ("two/b", (15, 15), (4, 4)), ("two/b#2", (23, 23), (4, 4)),
    ]  # fmt: skip
    assert t.macs == 16 * 24 * 9 * 3 * 8 + (8 * 12 * 9 * 8 * 8) * 3
    assert t.parameters == model.count_params() == (9 * 3 * 8 + 8) + (9 * 8 * 8 + 8) + 9 * 8 * 8 + 4 * 8
    assert any("two/norm (it follows Add two/sum)" in w for w in keras_warnings(model))


def test_a_sequential_net_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = [keras.Input((16, 24, 1)), L.Conv2D(4, 5, strides=2, name="conv"), L.Flatten(), L.Dense(1, name="dense")]
    keras.Sequential(layers).save(path := tmp_path / "seq.keras")
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # (16 - 5) // 2 + 1 = 6 rows, (24 - 5) // 2 + 1 = 10 columns.
    assert found["total"] == {"parameters": 104 + 241, "macs": 60 * 25 * 4 + 240, "receptive_field": 5}


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: keras.Sequential([L.Dense(1)], name="loose"), "loose: a Functional or Sequential Keras model"),
        (lambda: keras.Model(i := keras.Input((None, 24, 1)), L.Conv2D(2, 3)(i)), "of no fixed size (None, 24, 1)"),
    ],
    ids=["no input", "any height"],
)
def test_a_net_without_sizes_is_refused(net: Any, said: str) -> None:
    with pytest.raises(ModelFileError, match=re.escape(said)):
        keras_nodes(net())


@pytest.mark.parametrize("fault", ["cut off", "empty", "overwritten", "another archive"])
def test_a_damaged_keras_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    small_net().save(path := tmp_path / "net.keras")
    whole = path.read_bytes()
    middle = len(whole) // 2
    if fault == "another archive":
        path.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "nothing")
    else:
        overwritten = whole[:middle] + b"U" * 200 + whole[middle + 200 :]
        path.write_bytes({"cut off": whole[:-100], "empty": b"", "overwritten": overwritten}[fault])
    assert main(["inspect", str(path)]) == 2
    captured = capsys.readouterr()
    expected = "not a Keras model" if fault == "another archive" else "damaged"
    assert captured.err.startswith(f"sepilot: {path}: {expected}") and captured.err.count("\n") == 1
    assert "not found" not in captured.err and not captured.out


def test_unknown_recipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "swfit"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "swfit" in error and "swift" in error


@pytest.mark.parametrize("kept", [0, 8, 100, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_a_file_that_is_cut_off_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, kept: float
) -> None:
    path = tmp_path / f"net{suffix}"
    whole = (write_tflite if suffix == ".tflite" else write_onnx)(path).read_bytes()
    assert main(["inspect", str(path)]) == 0
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"sepilot: {path}: ") and captured.err.count("\n") == 1 and not captured.out


def test_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "nowhere.tflite"]) == 2
    assert "nowhere.tflite: no such file" in capsys.readouterr().err
