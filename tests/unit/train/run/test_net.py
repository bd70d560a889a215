"""Nets of the user's own: code beside the recipe, or a .keras file; whatever does not fit is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drive_factory as make
from sepilot_runtime.base.errors import RecipeError, SepilotError
from sepilot_runtime.cli import main
from sepilot_train.fit.predict import predict
from sepilot_train.run.net import build_net
from sepilot_train.run.recipe import Recipe, load_recipe
from sepilot_train.run.run import open_run

RECIPE = """
name = "own"
summary = "one of our own"
picture = {height = 24, width = 32, color = "gray"}
data = {guard_s = 0.2, block_s = 0.5}
training = {epochs = 1, batch_size = 16}
"""
CODE = """
(open(__file__ + ".ran", "a")).write("x")

def build(K, picture_shape, outputs, *, width=4):
    image = K.Input(picture_shape, name="image")
    features = K.layers.Dense(width, activation="relu", name="features")(K.layers.Flatten(name="flat")(image))
    return K.Model(image, [K.layers.Dense(1, name=output)(features) for output in outputs])

class Odd:
    pass

def wrong(K, picture_shape, outputs):
    raise KeyError("no such thing")

def sizeless(K, picture_shape, outputs):
    return Odd()

def small(K, picture_shape, outputs):
    return build(K, (8, 8, 1), outputs)

def other(K, picture_shape, outputs):
    return build(K, picture_shape, ("left", "right"))

def wide(K, picture_shape, outputs):
    image = K.Input(picture_shape)
    return K.Model(image, K.layers.Dense(3, name="steering")(K.layers.Flatten()(image)))

def conv(K, picture_shape, outputs, *, kernel=3, groups=1, inside=False):
    image = x = K.Input(picture_shape, name="image")
    x = K.layers.SeparableConv2D(8, 3, name="first")(x)
    mixed = K.layers.Conv2D(8, kernel, groups=groups, name="mixed")
    x = (K.Sequential([K.Input(x.shape[1:]), mixed], name="inner") if inside else mixed)(x)
    return K.Model(image, K.layers.Dense(1, name="steering")(K.layers.GlobalAveragePooling2D()(x)))

def special(K, picture_shape, outputs):
    class Twice(K.layers.Layer):
        def call(self, x):
            return 2 * x
    image = K.Input(picture_shape)
    return K.Model(image, K.layers.Dense(1, name="steering")(Twice(name="twice")(K.layers.Flatten()(image))))
"""


def recipe(folder: Path, model: str, more: str = "", code: str = CODE) -> Recipe:
    (folder / "my_nets.py").write_text(code)
    (folder / "own.toml").write_text(f"model = {{{model}}}\n{RECIPE}{more}")
    return load_recipe(str(folder / "own.toml"))


def sequential(path: Path, *, inputs: int = 1) -> Any:
    """Saved with its own names, as whoever trained it elsewhere has it."""
    import keras

    if inputs == 2:
        image, speed = keras.Input((24, 32, 1)), keras.Input((1,))
        joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), speed])
        net = keras.Model([image, speed], keras.layers.Dense(1)(joined))
    else:
        net = keras.Sequential([keras.Input((24, 32, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    net.save(path)
    return net


def test_code_beside_the_recipe_builds_the_net_and_its_run_needs_it_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tub = make.write_tub(tmp_path / "tub")
    outputs = "outputs = {steering = {}, throttle = {}}\n"
    recipe(tmp_path, 'builder = "my_nets.py:build", options = {width = 6}', outputs)
    monkeypatch.chdir(tmp_path / "tub")
    assert main(["train", str(tub), "--recipe", "../own.toml", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert said.count(f"model.builder: running the code of {tmp_path / 'my_nets.py'}\n") == 1
    assert (tmp_path / "my_nets.py.ran").read_text() == "x"
    (tmp_path / "my_nets.py").unlink()
    run = open_run(tmp_path / "run")
    net = run.load_model()
    assert net.get_layer("features").units == 6 and net.output_names == ["steering", "throttle"]
    held = run.frames("validation", progress=False)
    for name, values in predict(net, held.pictures).items():
        assert values == pytest.approx(run.predictions().values[name], abs=1e-6)


def test_nothing_is_run_that_was_not_named(tmp_path: Path) -> None:
    recipe(tmp_path, 'builder = "swift"')
    load_recipe(str(tmp_path / "own.toml"))
    recipe(tmp_path, 'builder = "my_nets.py:build"')
    assert not (tmp_path / "my_nets.py.ran").exists(), "reading a recipe runs nothing"


def test_a_trained_file_goes_on_from_its_weights_under_the_name_of_the_output(tmp_path: Path) -> None:
    theirs = sequential(tmp_path / "trained.keras")
    net = build_net(recipe(tmp_path, 'keras = "trained.keras"'))
    pictures = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 1), np.uint8)
    expected = np.asarray(theirs(pictures * np.float32(1 / 255)))[:, 0]
    ((name, values),) = predict(net, pictures).items()
    assert name == "steering" and values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ('builder = "my_nets.py:nothing"', "my_nets.py: a function nothing expected, found none"),
        ('builder = "other.py:build"', "other.py: no such file"),
        ('builder = "my_nets.py:wrong"', "my_nets.py:wrong: KeyError: 'no such thing'"),
        ('builder = "my_nets.py:build", options = {heigth = 3}', "unexpected keyword argument 'heigth'"),
        ('builder = "my_nets.py:sizeless"', "a Functional or Sequential Keras model expected, found Odd"),
        ('builder = "my_nets.py:small"', "one input of 24x32x1 expected as `picture` has it, found 8x8x1"),
        ('builder = "my_nets.py:other"', "my_nets.py:other: outputs steering expected, found left, right"),
        ('builder = "my_nets.py:wide"', "my_nets.py:wide: steering: one number expected, found shape (3,)"),
        ('builder = "my_nets.py:special"', "layer twice is a Twice; files are made of Keras's own layers alone"),
        (
            'builder = "my_nets.py:conv", only = "separable"',
            "separable and 1x1 convolutions expected, found layer mixed, an ordinary Conv2D of 3x3 on 8 channels",
        ),
        ('builder = "my_nets.py:conv", only = "separable", options = {groups = 2}', "found layer mixed, an ordinary"),
        ('builder = "my_nets.py:conv", only = "separable", options = {inside = true}', "found layer inner/mixed"),
        ('builder = "swift", only = "separable"', "found layer stem_conv, an ordinary Conv2D of 3x3 on 1 channels"),
        ('keras = "conv.keras", only = "separable"', "conv.keras: depthwise, separable and 1x1 convolutions expected"),
        ('keras = "conv.keras", max_parameters = 3', "at most 3 parameters expected, found 34"),
        ('builder = "my_nets.py:build", max_parameters = 3080', "at most 3,080 parameters expected, found 3,081"),
        (
            'builder = "swift", max_parameters = 50112',
            "model.max_parameters: swift: at most 50,112 parameters expected",
        ),
        ('builder = "swift", max_parameters = -1', "model: max_parameters: expected a value from 0"),
        ('builder = "swift", only = "depthwise"', "model.only"),
        ('keras = "trained.keras"', "trained.keras: no such file"),
        ('keras = "my_nets.py"', "my_nets.py: damaged: it is not a whole .keras file"),
        ('keras = "two.keras"', "one input of 24x32x1 expected as `picture` has it, found 24x32x1 and 1"),
        ('builder = "swift", keras = "trained.keras"', "model: one of builder and keras expected, found both"),
        ("options = {}", "model: one of builder and keras expected, found neither"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, model: str, says: str) -> None:
    if "two" in model:
        sequential(tmp_path / "two.keras", inputs=2)
    if "conv.keras" in model:
        import keras

        image = keras.Input((24, 32, 1))
        features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3)(image))
        keras.Model(image, keras.layers.Dense(1)(features)).save(tmp_path / "conv.keras")
    with pytest.raises(SepilotError) as caught:
        build_net(recipe(tmp_path, model))
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        'builder = "my_nets.py:build", max_parameters = 3081, only = "separable"',
        'builder = "my_nets.py:conv", only = "separable", options = {kernel = 1}',
        'builder = "my_nets.py:conv", only = "separable", options = {groups = 8}',
        'builder = "cifar-sep", max_parameters = 10000, only = "separable", options = {widths = [8], repeats = [1]}',
    ],
)
def test_a_net_within_the_limits_is_built(tmp_path: Path, model: str) -> None:
    assert build_net(recipe(tmp_path, model)).count_params() > 0


def test_code_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"my_nets\.py: SyntaxError: .*") as caught:
        build_net(recipe(tmp_path, 'builder = "my_nets.py:build"', code="def build(:\n"))
    assert "\n" not in str(caught.value)
