from __future__ import annotations

from pathlib import Path

import pytest

from sepilot_runtime.base.errors import RecipeError
from sepilot_train.run.recipe import load_recipe, recipe_names
from sepilot_train.run.recipe_toml import to_toml


def test_all_nets_of_the_readme_ship() -> None:
    assert {"v27", "v27-foldable", "swift", "pilotnet", "donkey-linear"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_and_survive_being_written_out(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "resolved.toml"
    path.write_text(to_toml(recipe))
    again = load_recipe(str(path))
    assert recipe.name == name and again == recipe and again.sha256 == recipe.sha256


def test_an_override_changes_one_value() -> None:
    plain, changed = load_recipe("v27"), load_recipe("v27", ["training.epochs=3"])
    assert changed.training.epochs == 3 and plain.training.epochs == 150
    assert changed.sha256 != plain.sha256


@pytest.mark.parametrize("name", recipe_names())
def test_pictures_are_resized_exactly_unless_one_says_otherwise(name: str) -> None:
    assert load_recipe(name).picture.resize == "exact"
    assert load_recipe(name, ["picture.resize=linear"]).picture.resize == "linear"


def test_the_seed_makes_no_other_recipe() -> None:
    plain, changed = load_recipe("v27"), load_recipe("v27", ["training.seed=3"])
    assert changed.training.seed == 3 and changed.sha256 == plain.sha256


def test_v27_is_trained_as_in_the_source_material() -> None:
    t = load_recipe("v27").training
    assert (t.optimizer, t.learning_rate, t.loss, t.epochs, t.schedule) == ("adam", 0.002, "mse", 150, "plateau")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epoch=3", ["training.epoch", "unknown key", "epochs"]),
        ("training.epochs=many", ["training.epochs", "whole number", "many"]),
        ("training.epochs=2.5", ["training.epochs", "whole number", "2.5"]),
        ("picture.crop_top=1.5", ["crop_top", "1.5"]),
        ("picture.color=red", ["picture.color", "gray, bgr", "red"]),
        ("picture.resize=area", ["picture.resize", "exact, linear", "area"]),
        ("augmentation.mirror=true", ["augmentation.mirror", "number"]),
        ("training", ["section.key=value"]),
        ("name.x=1", ["name"]),
        ("data.validation_fraction=0.9", ["validation_fraction", "0.9"]),
        ("augmentation.mirror=7", ["augmentation", "mirror", "0 to 1", "7"]),
        ("augmentation.noise=-3", ["augmentation", "noise", "0 to 1", "-3"]),
        ("augmentation.gamma=9", ["augmentation", "gamma", "0 to 1", "9"]),
        ("gates.int9.max_error=0.1", ["gates.int9", "int8-float-head"]),
        ("gates.int8.max_error=-0.1", ["gates.int8", "max_error", "-0.1"]),
        ("gates.int8.speed=0.1", ["gates.int8.speed: one of max_error, mae_increase, sign_flips, saturated expected"]),
        ("gates.int8.throttle.max_error=0.1", ["gates.int8.throttle: an output (steering) expected"]),
        ("gates.int8.steering.speed=0.1", ["gates.int8.steering.speed: one of max_error"]),
        ("gates.int8.steering.max_error=-1", ["gates.int8.steering.max_error", "-1"]),
    ],
)
def test_a_wrong_key_or_type_is_named(override: str, expected: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("v27", [override])
    assert all(part in str(caught.value) for part in expected), str(caught.value)
    assert "\n" not in str(caught.value)


def test_gates_may_be_of_one_output_and_come_back_from_the_file(tmp_path: Path) -> None:
    made = load_recipe("v27", ["gates.int8.max_error=0.1", "gates.int8.steering.mae_increase=0.004"])
    assert made.gates == {"int8": {"max_error": 0.1, "steering": {"mae_increase": 0.004}}}
    (tmp_path / "mine.toml").write_text(to_toml(made))
    again = load_recipe(str(tmp_path / "mine.toml"))
    assert again == made and again.sha256 == made.sha256


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nsummary = ""\n[picture]\nheight = 66\nwidth = 100\n')
    with pytest.raises(RecipeError, match=r"mine.toml: model: missing"):
        load_recipe(str(path))


def test_not_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("name = \n")
    with pytest.raises(RecipeError, match="line 1"):
        load_recipe(str(path))


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match="swift"):
        load_recipe("swfit")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["augmentation.hue_deg=10.0"], "augmentation.hue_deg: does nothing to gray pictures"),
        (["augmentation.saturation=0.2"], "augmentation.saturation: does nothing to gray pictures"),
    ],
)
def test_a_setting_that_does_nothing_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe("swift", overrides)
    load_recipe("swift", [*overrides, "picture.color=bgr"])
