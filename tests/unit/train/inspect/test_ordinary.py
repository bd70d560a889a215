"""What ordinary convolutions would take in place of separable ones, whichever way those are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from model_factory import write_tflite
from sepilot_runtime.base.errors import MissingExtraError
from sepilot_runtime.cli import main
from sepilot_train.inspect.ordinary import is_ordinary_convolution, ordinary_in_place
from sepilot_train.models import build_model

L = keras.layers


def depthwise(stride: int = 2) -> Any:
    return L.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name="depthwise")


def pointwise(**options: Any) -> Any:
    return L.Conv2D(6, 1, name="pointwise", **options)


WAYS: dict[str, Callable[[Any], Any]] = {
    "keras": lambda x: L.SeparableConv2D(6, 3, strides=2, padding="same", name="both")(x),
    "depthwise first": lambda x: pointwise()(depthwise()(x)),
    "1x1 first": lambda x: L.DepthwiseConv2D(3, strides=2, padding="same", name="last")(pointwise(use_bias=False)(x)),
    "apart": lambda x: pointwise()(L.ReLU()(L.BatchNormalization()(depthwise()(x)))),
    "inside": lambda x: keras.Sequential([keras.Input(x.shape[1:]), depthwise(), pointwise()], name="inner")(x),
}


def ended(way: Callable[[Any], Any]) -> Any:
    image = keras.Input((8, 12, 4), name="image")
    return keras.Model(image, L.Flatten(name="flat")(way(image)))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_way_becomes_one_convolution_of_the_same_window(way: Callable[[Any], Any]) -> None:
    found = ordinary_in_place(net := ended(way))
    assert found is not None and found.separable == 1
    assert [tuple(t.shape) for t in found.twin.outputs] == [tuple(net.outputs[0].shape)]
    assert found.parameters == found.twin.count_params() == 9 * 4 * 6 + 6
    assert found.macs == 4 * 6 * 9 * 4 * 6
    assert found.net.count_params() == net.count_params()


def fed_twice(x: Any) -> Any:
    y = depthwise(1)(x)
    return L.Concatenate()([y, pointwise()(y)])


def active_between(x: Any) -> Any:
    return L.DepthwiseConv2D(3, name="last")(pointwise(activation="relu")(x))


@pytest.mark.parametrize(
    "way",
    [depthwise(), pointwise(), fed_twice, active_between, L.Conv2D(4, 3)],
    ids=["depthwise alone", "1x1 alone", "fed twice", "activation between", "ordinary"],
)
def test_what_is_no_pair_stays(way: Callable[[Any], Any]) -> None:
    assert ordinary_in_place(ended(way)) is None


def test_pairs_that_touch_are_not_torn_by_the_next_one() -> None:
    """1x1, depthwise, norm, ReLU, 1x1, depthwise: the norm lies between pairs, not within one."""
    net = build_model("cifar-sep", (16, 16, 3), {"widths": [8, 16], "repeats": [1, 1]})
    found = ordinary_in_place(net)
    assert found is not None and found.separable == 5
    kinds = [type(layer).__name__ for layer in found.twin.layers]
    assert "DepthwiseConv2D" not in kinds and kinds.count("Conv2D") == 5 + 1  # The widening one is a 1x1 alone.
    assert kinds.count("BatchNormalization") == 6


@pytest.mark.parametrize(
    ("layer", "ordinary"),
    [
        (L.Conv2D(4, 3), True),
        (L.Conv2D(4, (1, 3)), True),
        (L.Conv2D(4, 3, groups=2), True),
        (L.Conv2DTranspose(4, 2), True),
        (L.Conv2D(4, 3, groups=4), False),
        (L.Conv2D(4, 1, strides=2), False),
        (L.DepthwiseConv2D(5), False),
        (L.SeparableConv2D(4, 3), False),
        (L.Dense(4), False),
    ],
)
def test_which_convolutions_are_ordinary(layer: Any, ordinary: bool) -> None:
    layer(keras.Input((8, 8, 4)))
    assert is_ordinary_convolution(layer) == ordinary


def test_inspect_knows_a_net_by_its_builder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "cifar-under-100k"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "94,911 parameters, 12,395,152 MACs, receptive field 52 pixels" in said
    assert (
        "in place of 6 separable ones it would take 5.7 times the parameters (543,392) and 8.1 times the MACs" in said
    )


def test_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended(WAYS["keras"]).save(path := tmp_path / "small.keras")
    assert main(["inspect", str(path), "--measure", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["ordinary"]
    assert (found["separable"], found["parameters"]) == (1, 222) and found["training_pictures"] == 32
    for key in ("inference_us", "training_step_us"):
        net, twin = found[key]
        assert 0 < net < 1e6 and 0 < twin < 1e6


def test_times_are_told_as_ratios_and_what_could_not_be_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> tuple[float, float]:
        raise MissingExtraError("ai-edge-litert", "litert")

    monkeypatch.setattr("sepilot_train.fit.side_by_side.time_inference", missing)
    monkeypatch.setattr("sepilot_train.fit.side_by_side.time_training", lambda *_, **__: (32, 2000.0, 3000.0))
    ended(WAYS["keras"]).save(path := tmp_path / "small.keras")
    assert main(["inspect", str(path), "--measure"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "A picture in LiteRT could not be timed: ai-edge-litert is not installed; run: pip install" in said
    assert "A training step of 32 pictures: 2,000 us, with ordinary ones 3,000 us: 1.5 times." in said
    ended(pointwise()).save(path)
    assert main(["inspect", str(path), "--measure"]) == 0
    assert "no separable convolution to measure" in capsys.readouterr().out


def test_what_cannot_be_built_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tflite(tmp_path / "net.tflite")
    for arguments, said in (
        ([str(path), "--measure"], "--measure: a recipe, run or .keras file expected"),
        (["inception", "--set", "model.options.stem=8"], "--set: a recipe expected"),
    ):
        assert main(["inspect", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
