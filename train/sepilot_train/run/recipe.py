"""Recipes: everything that decides a training, as one TOML file.

A recipe names the picture, the net, the training, the augmentation, which frames are taken, and gates for the exported
files. Recipes ship by name (`recipes/*.toml`); a path to a file of one's own works the same. `--set section.key=value`
overrides a single value. The loader is strict: an unknown key or a wrong type is an error, never a guess.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from sepilot_runtime.base.caps import TEXT_LENGTH
from sepilot_runtime.base.documents import override, parse, plain, read_toml
from sepilot_runtime.base.errors import RecipeError
from sepilot_runtime.base.terminal import one_line
from sepilot_runtime.contract.contract import Picture, Precision
from sepilot_runtime.contract.outputs.kinds import task_of
from sepilot_runtime.contract.vector import Vector
from sepilot_runtime.recording.drive import Drive
from sepilot_train.base.ranges import require_in
from sepilot_train.fit import settings
from sepilot_train.fit.augment import Augmentation, stated
from sepilot_train.fit.numbers import Numbers
from sepilot_train.fit.outputs.kinds import AnyTarget
from sepilot_train.fit.outputs.scalar.target import ScalarTarget
from sepilot_train.fit.settings import TrainingSettings
from sepilot_train.run.model_settings import ModelSettings

__all__ = [
    "DataSettings",
    "Gates",
    "Recipe",
    "load_recipe",
    "named_recipes",
    "parse_recipe",
    "recipe_names",
]

T = TypeVar("T")

USUAL: Mapping[str, Mapping[str, Any]] = {
    "steering": {"unit": "deg", "positive": "right", "mirror": "negate"},
    "throttle": {"low": 0.0, "high": 1.0, "positive": "forward"},
}
"""What outputs of these names have where the recipe's `outputs.NAME` says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which frames are taken and how they are split.

    Attributes:
        min_throttle: frames at or below are left out, as they show a car at a standstill; 0 takes all. Drives without
            a varying throttle keep all their frames.
        validation_fraction: of the frames, when no validation drives are given.
        block_s: length of a validation block where a single drive is split by time.
        guard_s: gap left out on both sides of a validation block, so that no two almost equal frames are parted.
    """

    min_throttle: float = 0.05
    validation_fraction: float = 0.2
    block_s: float = 15.0
    guard_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.validation_fraction <= 0.5:
            raise RecipeError(f"validation_fraction: must be in (0, 0.5], found {self.validation_fraction}")
        if self.block_s <= 0 or self.guard_s < 0:
            raise RecipeError(
                f"block_s must be positive and guard_s not negative, found {self.block_s}, {self.guard_s}"
            )


Gates = Mapping[str, float | Mapping[str, float]]
"""Limits that exported files must keep: by gate for all outputs, or by output a table of those for it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training, complete.

    Attributes:
        task: what recipes say that were written out while there was no other output.
        outputs: by name, in the order of the contract; steering alone where there is none.
        inputs: numbers that the net is given beside its picture, by name.
        gates: by precision ("int8") its limits; what is not said stays as the format table has it.
    """

    name: str
    summary: str
    picture: Picture
    model: ModelSettings
    training: TrainingSettings
    task: Literal["steering"] = "steering"
    outputs: Mapping[str, AnyTarget] = field(default_factory=dict)
    inputs: Mapping[str, Numbers] = field(default_factory=dict)
    augmentation: Augmentation = field(default_factory=Augmentation)
    data: DataSettings = field(default_factory=DataSettings)
    gates: Mapping[str, Gates] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # It goes into names of files and onto terminals.
        for key, text in (("name", self.name), ("summary", self.summary)):
            if one_line(text) != text or len(text) > TEXT_LENGTH:
                raise RecipeError(f"{key}: a printable text expected, found {one_line(text)[:80]}")
        for name, target in self.targets.items():
            if not name.isidentifier():
                raise RecipeError(f"outputs.{name}: a name of letters, digits and _ expected")
            target.output(name, 1.0)
        self._require_inputs()
        if self.augmentation.mixup and (solid := [name for name, t in self.targets.items() if not t.mixes]):
            raise RecipeError(f"augmentation.mixup: what {solid[0]} says of two pictures cannot be mixed; 0 expected")
        colors = [name for name in ("saturation", "hue_deg") if getattr(self.augmentation, name)]
        if colors and self.picture.color == "gray":
            raise RecipeError(f"augmentation.{colors[0]}: does nothing to gray pictures; 0 expected, or picture.color")
        flips = self.augmentation.mirror or self.augmentation.flip_vertical
        if flips and (blind := [name for name, t in self.targets.items() if not t.mirrors]):
            raise RecipeError(
                f"augmentation: mirror and flip_vertical of 0 expected, or outputs.{blind[0]}.flip_pairs, the points "
                "that change places in a mirror ([] for none)"
            )
        for precision in self.gates:
            if precision not in get_args(Precision):
                raise RecipeError(f"gates.{precision}: one of {', '.join(get_args(Precision))} expected")
        for precision, gates in self.gates.items():
            self._require_gates(gates, f"gates.{precision}")

    def _require_inputs(self) -> None:
        for name, numbers in self.inputs.items():
            if not name.isidentifier() or name == self.picture.name:
                raise RecipeError(f"inputs.{name}: another name than the picture's, of letters, digits and _ expected")
            try:
                numbers.settled(name, self.targets).vector(name)
            except RecipeError as e:
                raise RecipeError(f"inputs.{name}: {e}") from e

    def _require_gates(self, gates: Gates, where: str) -> None:
        tasks = {name: task_of(target.output(name, 1.0)) for name, target in self.targets.items()}
        known = {name: [rule.name for rule in task.gates()] for name, task in tasks.items()}
        everywhere = list(dict.fromkeys(gate for names in known.values() for gate in names))
        for key, value in gates.items():
            named = isinstance(value, Mapping)
            if key not in (known if named else everywhere):
                expected = f"an output ({', '.join(known)})" if named else f"one of {', '.join(everywhere)}"
                raise RecipeError(f"{where}.{key}: {expected} expected")
            for gate, limit in value.items() if isinstance(value, Mapping) else [(key, value)]:
                place = f"{where}.{key}.{gate}" if named else f"{where}.{key}"
                if named and gate not in known[key]:
                    raise RecipeError(f"{place}: one of {', '.join(known[key])} expected")
                require_in(place, limit, 0, 1e6)

    @property
    def targets(self) -> Mapping[str, AnyTarget]:
        """What the net learns, by the outputs' names."""
        outputs = self.outputs or {"steering": ScalarTarget(**USUAL["steering"])}
        return {name: target.fitted(self.picture) for name, target in outputs.items()}

    @property
    def numbers(self) -> Mapping[str, Numbers]:
        """What the net is given beside its picture, with everything said, by the inputs' names."""
        return {name: numbers.settled(name, self.targets) for name, numbers in self.inputs.items()}

    @property
    def inputs_of_net(self) -> tuple[Picture | Vector, ...]:
        """All of them, as the contract says it."""
        return (self.picture, *(numbers.vector(name) for name, numbers in self.numbers.items()))

    @property
    def sha256(self) -> str:
        """Of the resolved values, whatever file and overrides they came from.

        The seed is left out: trainings that differ in nothing else are trainings of one recipe. So are keys that came
        later where they say nothing, that recipes keep the sum that they had.
        """
        values = {**dataclasses.asdict(self), "outputs": plain(self.outputs)}
        values["training"] = {**settings.stated(self.training), "seed": 0}
        values["augmentation"] = stated(self.augmentation)
        for key in ("outputs", "inputs"):
            if not values[key]:
                del values[key]
        for gates in values["gates"].values():
            gates.update({gate: gates.get(gate) for gate in ("max_error", "mae_increase")})
        if self.picture.fit == "stretch":
            del values["picture"]["fit"]
        for key in ("keras", "max_parameters", "only"):
            if not values["model"][key]:
                del values["model"][key]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def settled(self, drives: Sequence[Drive]) -> Recipe:
        """The recipe with what only the recordings that are trained on know, such as the names of classes.

        Raises:
            DriveError: they contradict each other, or the recipe.
        """
        if not self.outputs:
            return self
        settled = {name: target.settled(name, drives, self.picture) for name, target in self.outputs.items()}
        return dataclasses.replace(self, outputs=settled)

    def with_choices(self, *, seed: int, min_throttle: float | None) -> Recipe:
        """The recipe as a training uses it, with what its command line says in place of its own values.

        Args:
            min_throttle: None leaves the recipe's.
        """
        data = self.data if min_throttle is None else dataclasses.replace(self.data, min_throttle=min_throttle)
        return dataclasses.replace(self, training=dataclasses.replace(self.training, seed=seed), data=data)


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return named_recipes(_shipped())


def named_recipes(folder: Any) -> list[str]:
    """The recipes in a folder of a package (`importlib.resources.abc.Traversable`), by name."""
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name_or_path: a shipped recipe's name, or a path to a .toml file.
        overrides: "section.key=value" each; the value is TOML, a bare word is taken as text.

    Raises:
        RecipeError: unknown recipe or key, wrong type or range, not TOML.
    """
    recipe = parse_recipe(Recipe, name_or_path, overrides, _shipped())
    beside = Path(name_or_path).parent if name_or_path.endswith(".toml") else Path()
    return dataclasses.replace(recipe, model=recipe.model.found_in(beside))


def parse_recipe(kind: type[T], name_or_path: str, overrides: Sequence[str], shipped: Any) -> T:
    """Read a recipe of any `kind` of dataclass from a TOML file of the folder `shipped`, or of one's own.

    Raises:
        RecipeError: unknown recipe or key, wrong type or range, not TOML.
    """
    table, where = _read(name_or_path, shipped)
    for text in overrides:
        override(table, text, RecipeError)
    if isinstance(outputs := table.get("outputs"), dict):
        if not any(_turns(name, given) for name, given in outputs.items()):
            # Where nothing turns a mirrored picture is another thing, or the recipe says that it is not.
            table["augmentation"] = {"mirror": 0.0, **table.get("augmentation", {})}
        table["outputs"] = {
            name: {**USUAL.get(name, {}), **given} if _says_a_number(given) else given
            for name, given in outputs.items()
        }
    try:
        return parse(kind, table, "", RecipeError, complete=False)
    except RecipeError as e:
        raise RecipeError(f"{where}: {e}") from e


def _turns(name: str, output: Any) -> bool:
    return _says_a_number(output) and {**USUAL.get(name, {}), **output}.get("mirror") == "negate"


def _says_a_number(output: Any) -> bool:
    return isinstance(output, dict) and output.get("kind", ScalarTarget.kind) == ScalarTarget.kind


def _shipped() -> Any:
    return resources.files("sepilot_train") / "recipes"


def _read(name_or_path: str, shipped: Any) -> tuple[dict[str, Any], str]:
    names = named_recipes(shipped)
    if name_or_path in names:
        text = (shipped / f"{name_or_path}.toml").read_text(encoding="utf-8")
        return tomllib.loads(text), f"recipe {name_or_path}"
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise RecipeError(
            f"{name_or_path}: no such recipe; shipped: {', '.join(names)}; or give a path that ends in .toml"
        )
    return read_toml(path, RecipeError), str(path)
