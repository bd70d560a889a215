"""The layer table against values computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import pytest

from model_factory import write_onnx, write_tflite
from sepilot_runtime.cli import main
from sepilot_train.graphs import keras_nodes, keras_warnings
from sepilot_train.layers import LayerTable, layer_table

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
    assert [row(t, n).role for n in ("a", "pool", "dropout", "dense")] == ["window", "global", "global", "global"]
    assert row(t, "pool").receptive_field == (20, 30)
    assert row(t, "dense").macs == 8
    assert t.receptive_field == 3


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


def test_relu_is_not_warned_about() -> None:
    i = keras.Input((8, 8, 1))
    assert keras_warnings(keras.Model(i, L.Conv2D(2, 3, strides=2, activation="relu")(i))) == []


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
