"""`sepilot train`: drives in, a run directory out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepilot_runtime.base.claims import claimed
from sepilot_runtime.base.errors import UsageError
from sepilot_runtime.base.files import require_new
from sepilot_runtime.base.terminal import legible
from sepilot_runtime.commands.arguments import LARGEST_SEED, seed

if TYPE_CHECKING:
    from sepilot_train.run.material import Material
    from sepilot_train.run.recipe import Recipe
    from sepilot_train.run.request import Request

__all__ = ["main"]

EPILOG = """examples:
  sepilot train ~/mycar/data --out runs/first
  sepilot train tubs/monday tubs/tuesday --val tubs/friday --recipe swift --out runs/week
  sepilot train tubs/* --recipe v27 --set training.epochs=30 --seed 1 --out runs/v27
  sepilot train --resume --out runs/week          after a kill, to the same result
  sepilot train tubs/* --recipe swift-throttle --out runs/both    steering and throttle
  sepilot train tubs/* --recipe own.toml --out runs/own  a net of your own code: model.builder = "my_nets.py:build"
  sepilot train tubs/* --preview sheet.png        look at the augmentation, train nothing

Without --val whole drives are held out (five drives or more), or blocks of time with a guard gap.

Frames of a standing car are skipped: those with a throttle at or below the recipe's data.min_throttle, in drives whose
throttle varies (--set data.min_throttle=0 takes all). --min-throttle X stands in place of that rule and holds for every
drive; frames without a throttle are skipped with it as well.
"""


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    out: Path | None = arguments.out
    if out is None and (arguments.preview is None or arguments.resume):
        raise UsageError("--out DIR: where the run is to be written is missing")
    if out is not None and arguments.resume:
        parser.set_defaults(**_as_begun(out))
        arguments = parser.parse_args(argv)
    if not arguments.drives:
        raise UsageError("DRIVE: at least one recording is needed, found none")
    request, recipe = _request(arguments)
    if arguments.preview is not None:
        return _preview(arguments.preview, request, recipe)
    assert out is not None
    command = legible(shlex.join(["sepilot", "train", *argv]))
    with claimed(out):
        return _train(out, request, recipe, command, resume=arguments.resume, as_json=arguments.json)


def _parser() -> argparse.ArgumentParser:
    from sepilot_runtime.commands.reader_arguments import add_filter_arguments, add_reader_arguments

    parser = argparse.ArgumentParser(
        prog="sepilot train",
        description="Train a steering model on recorded drives. Writes a run directory: model, resolved recipe, split, "
        "history, figures, and predictions on frames that were held out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("drives", metavar="DRIVE", nargs="*", type=Path, help="a recording, or a folder of recordings")
    parser.add_argument("--recipe", default="swift", help="a shipped recipe or a .toml file (default: swift)")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one value of the recipe",
    )
    parser.add_argument(
        "--val", metavar="DRIVE", nargs="+", type=Path, default=[], help="drives to judge on, never trained on"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="the run directory to write")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last finished epoch in --out, with the run's own settings"
    )
    parser.add_argument(
        "--seed", type=seed, help="of weights, order, augmentation and split (default: the recipe's training.seed)"
    )
    parser.add_argument("--preview", metavar="PNG", type=Path, help="write a sheet of augmented frames and stop")
    parser.add_argument("--json", action="store_true", help="print validation.json instead of the table")
    add_reader_arguments(parser)
    add_filter_arguments(parser)
    return parser


def _as_begun(out: Path) -> dict[str, Any]:
    """What the run to resume was asked for, as the options that are not given again."""
    from sepilot_train.run.run import read_request

    request = read_request(out)
    return {
        "drives": [Path(p) for p in request.drives],
        "val": [Path(p) for p in request.validation_drives],
        "seed": request.seed,
        "recipe": str(out / "recipe.toml"),
        **dataclasses.asdict(request.reader),
        **dataclasses.asdict(request.filter),
    }


def _request(arguments: argparse.Namespace) -> tuple[Request, Recipe]:
    from sepilot_runtime.commands.reader_arguments import drive_filter, reader_options
    from sepilot_train.run.material import columns_of, input_columns_of
    from sepilot_train.run.recipe import load_recipe
    from sepilot_train.run.request import Request

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    seed = recipe.training.seed if arguments.seed is None else arguments.seed
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"training.seed: 0 to {LARGEST_SEED} expected, found {seed}")
    throttle = arguments.min_throttle
    if throttle is not None and not math.isfinite(throttle):
        raise UsageError(f"--min-throttle: a finite number expected, found {throttle}")
    _require_one_of("--seed", seed, "training.seed", recipe.training.seed, arguments.overrides)
    if throttle is not None:
        _require_one_of("--min-throttle", throttle, "data.min_throttle", recipe.data.min_throttle, arguments.overrides)
    reader = reader_options(arguments)
    columns = dict.fromkeys((*reader.labels, *columns_of(recipe).values(), *input_columns_of(recipe)))
    further = tuple(name for name in columns if name not in ("steering", "throttle"))
    request = Request(
        drives=tuple(str(p.resolve()) for p in arguments.drives),
        validation_drives=tuple(str(p.resolve()) for p in arguments.val),
        reader=dataclasses.replace(reader, labels=further),
        filter=drive_filter(arguments),
        seed=seed,
    )
    return request, recipe.with_choices(seed=seed, min_throttle=throttle)


def _require_one_of(flag: str, given: float, key: str, set_to: float, overrides: Sequence[str]) -> None:
    """An option takes the place of the recipe's value; an override of that value beside it is a mistake."""
    if given != set_to and any(o.partition("=")[0].strip() == key for o in overrides):
        raise UsageError(f"--set {key}={set_to}: {given} expected as {flag} has it; give one of them")


def _train(out: Path, request: Request, recipe: Recipe, command: str, *, resume: bool, as_json: bool) -> int:
    from sepilot_train.base.cache import usable_cache
    from sepilot_train.base.quiet import start_keras
    from sepilot_train.commands.train_report import EpochWatch, print_figures
    from sepilot_train.run.material import gather, open_sides
    from sepilot_train.run.net import build_net
    from sepilot_train.run.training import require_same, require_same_recipe, start_run, train_run
    from sepilot_train.run.validation import read_validation

    # Whatever speaks against the paths is said before the back end is imported and minutes go into decoding.
    if resume:
        require_same(out, request)
    else:
        require_new(out)
    sides = open_sides(request, told=_left_out)
    recipe = recipe.settled(sides[0])
    if resume:
        require_same_recipe(out, request, recipe)
    usable_cache()
    start_keras()
    build_net(recipe)
    progress = sys.stderr.isatty()
    material = gather(request, recipe, sides=sides, progress=progress)
    _announce(request, recipe, material)
    if not resume:
        start_run(out, request, recipe, command)
    watch = EpochWatch(recipe, material, every=not progress)
    run = train_run(out, recipe, material, resume=resume, progress=progress, on_epoch=watch)
    found = read_validation(run.path)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        print_figures(run, found, watch.last)
    return 0


def _announce(request: Request, recipe: Recipe, material: Material) -> None:
    train, held = material.split.counts()
    skipped: Counter[str] = Counter()
    for drive in material.drives:
        skipped.update(drive.skipped)
    why = ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
    how = {
        "given": "on the drives named with --val",
        "drives": "on whole drives held out",
        "blocks": f"on blocks of time, {recipe.data.guard_s:g} s of guard around each",
        "groups": "on groups of pictures held out",
    }[material.split.kind]
    print(
        f"{recipe.name}: {train:,} frames to train on, {held:,} to judge on ({how}); "
        f"{skipped.total():,} skipped{f' ({why})' if why else ''}; seed {request.seed}",
        file=sys.stderr,
    )
    sides = material.frames("train").labels, material.frames("validation").labels
    for name, target in recipe.targets.items():
        for line in target.remarks(*(labels[name] for labels in sides)):
            print(f"warning: {name}: {line}", file=sys.stderr)


def _left_out(line: str) -> None:
    print(f"left out: {line}", file=sys.stderr)


def _preview(path: Path, request: Request, recipe: Recipe) -> int:
    from sepilot_train.base.quiet import start_keras
    from sepilot_train.run.material import gather
    from sepilot_train.run.preview import draw_preview, require_preview_path

    require_preview_path(path)
    material = gather(request, recipe, progress=sys.stderr.isatty())
    start_keras()
    draw_preview(material.frames("train"), recipe, path, seed=request.seed)
    print(path)
    return 0
